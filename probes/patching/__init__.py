"""Which part of the model carries an effect?

Probes: `attribution_patch`, `patch`.
"""
