"""Which few weights already predict bigrams?

`search/` finds subnetworks; `evaluation/` shows what they are evidence for.
"""
