"""How does a cloud of vectors fill its space, beyond what its covariance alone would give?

Probes: `isotropy`, `local_dimension`, `prompt_geometry`, `position_variance`, `length_collapse`.
"""
