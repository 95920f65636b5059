"""The methods: one module and one paper each, functions from a model and texts to a tidy frame."""

from probes.layer_robustness import layer_robustness, run_schedules
from probes.logit_lens import logit_lens, top_tokens
from probes.neuron_kinds import neuron_kinds

__all__ = ["layer_robustness", "logit_lens", "neuron_kinds", "run_schedules", "top_tokens"]
