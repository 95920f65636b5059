"""What do tokens know of the letters they are made of?

Probes: `character_content`, `spelling`.
"""
