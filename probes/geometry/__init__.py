"""What shape do clouds of hidden states have at each layer?

Probes: `next_token_law`, `microscope`, `microscope_tokens`.
"""
