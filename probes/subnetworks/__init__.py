"""Which few weights already predict bigrams?

`search/` finds a subnetwork, `evaluation/` says what it is evidence for.
"""
