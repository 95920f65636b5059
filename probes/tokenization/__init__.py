"""What comes next, free of how the text was cut into tokens?

Probes: `next_byte`, `tokenization_bias`, `byte_log_prob`.
"""
