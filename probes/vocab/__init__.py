"""What are the rows of the vocabulary, and which of them has the model hardly learned?

Probes: `vocabulary`, `token_health`. Papers: Land & Bartolo (2024).
"""
