"""What shape do clouds of hidden states have, layer by layer?

Probes: `next_token_law`, `microscope`, `microscope_tokens`.
"""
