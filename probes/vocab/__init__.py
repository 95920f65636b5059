"""What are the rows of the vocabulary?

Probe: `vocabulary`.
"""
