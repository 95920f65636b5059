"""Which part of the model carries an effect?

Probes: `patch`.
"""
