"""What do attention heads look at? Heads that gather the tokens of a word.

Probe: `subjoiner_heads`. Paper: Lad et al. (2024).
"""
