"""Which blocks can a model lose or swap, and where do the stages of inference begin?

Probes: `layer_robustness`, `run_schedules`, `stages_of_inference`.
"""
