"""Which tokens of two texts make their states alike?

Probes: `pair_attribution`.
"""
