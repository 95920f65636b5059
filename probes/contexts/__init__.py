"""Which real word, in which sentence, is a state most like?

Probes: `nearest_contexts`, in a `StateBank` of texts.
"""
