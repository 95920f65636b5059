"""Which input token mattered for a prediction, and how faithful is the answer?

Probes: `attribute` and its methods, `normxlogit`; ReAGent in `reagent/`, metrics of faithfulness in `faithfulness/`,
sums over words, sentences, turns and spans in `groups/`.
"""
