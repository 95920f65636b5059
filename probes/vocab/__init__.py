"""What are the rows of the vocabulary, and which of them has the model hardly learned?

Probes: `vocabulary`, `token_health`, `token_repetition`, `first_tokens`, `loss_by_frequency`. Papers: Land & Bartolo
(2024), Hościłowicz et al. (2024), Pinto et al. (2024).
"""
