"""Is a concept a direction, and what is associated with it, beyond what any two groups of words would show?

Probes: `concept_directions`, `concept_angles`, `association`.
"""
