"""How faithful is an attribution: does the prediction depend on the tokens it ranks highest?

Probe: `faithfulness`.
"""
