"""Which token of a phrase carries what decides the next word?

Probes: `phrase_carriers`.
"""
