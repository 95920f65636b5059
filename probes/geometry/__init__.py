"""What shape do clouds of hidden states and embeddings have?

Probes: `next_token_law`, `microscope`, `microscope_tokens`, and those of clouds in `clouds`.
"""
