"""Is it the text or the way it is cut that a model answers to? The same text in other tokens, or nearly the same.

Probes: `retokenisation`, `word_states`, `perturbation`, `written_tokens`, `compositionality`; texts: `retokenised`.
"""
