"""What do MLP neurons write, and what happens when they are steered?

Probes: `neuron_tokens`, `neuron_kinds`, `concept_scores`, `value_clusters`, `steer`.
"""
