"""How much of a prediction do the tokens that an attribution names explain?

Probe: `faithfulness`.
"""
