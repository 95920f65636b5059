"""ReAGent: attribution by replacing tokens, and its least-squares variant.

Probes: `reagent`, `reagent_probes`, `reagent_ls`.
"""
