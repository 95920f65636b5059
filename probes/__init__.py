"""The methods: one module and one paper each, functions from a model and texts to a tidy frame."""

from probes.concept_neurons import concept_neurons, concept_scores
from probes.layer_robustness import layer_robustness, run_schedules
from probes.logit_lens import logit_lens, top_tokens
from probes.neuron_set import NeuronSet
from probes.neuron_tokens import neuron_tokens
from probes.steer import steer
from probes.value_clusters import value_clusters

__all__ = [
    "NeuronSet",
    "concept_neurons",
    "concept_scores",
    "layer_robustness",
    "logit_lens",
    "neuron_tokens",
    "run_schedules",
    "steer",
    "top_tokens",
    "value_clusters",
]
