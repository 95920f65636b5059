"""What happens when neurons are set, or a direction is added? Dose and response beside controls of the same size.

Probe: `steer`; what it takes: `NeuronSet`, and `Direction`, which `contrast_direction` makes.
"""
