"""Does the model know that it is wrong?

Probe: `iterative_inference`.
"""
