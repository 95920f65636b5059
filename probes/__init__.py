"""The methods: one module and one paper each, functions from a model and texts to a tidy frame."""

from probes.attribute import attribute
from probes.characters import character_content, vocabulary
from probes.concept_neurons import concept_neurons, concept_scores
from probes.faithfulness import faithfulness
from probes.iterative_inference import iterative_inference
from probes.layer_robustness import layer_robustness, run_schedules
from probes.logit_lens import logit_lens
from probes.microscope import law_and_microscope, microscope, microscope_tokens
from probes.neuron_kinds import neuron_kinds
from probes.neuron_set import NeuronSet
from probes.neuron_tokens import neuron_tokens
from probes.next_token_law import next_token_law
from probes.normxlogit import normxlogit
from probes.reagent import reagent, reagent_probes
from probes.reagent_ls import reagent_ls
from probes.spelling import spelling
from probes.stages import stages_of_inference
from probes.steer import steer
from probes.subjoiner_heads import subjoiner_heads
from probes.top_tokens import top_tokens
from probes.tuned_lens import TunedLens, load_tuned_lens, tuned_lens
from probes.value_clusters import value_clusters

__all__ = [
    "NeuronSet",
    "TunedLens",
    "attribute",
    "character_content",
    "concept_neurons",
    "concept_scores",
    "faithfulness",
    "iterative_inference",
    "law_and_microscope",
    "layer_robustness",
    "load_tuned_lens",
    "logit_lens",
    "microscope",
    "microscope_tokens",
    "neuron_kinds",
    "neuron_tokens",
    "next_token_law",
    "normxlogit",
    "reagent",
    "reagent_ls",
    "reagent_probes",
    "run_schedules",
    "spelling",
    "stages_of_inference",
    "steer",
    "subjoiner_heads",
    "top_tokens",
    "tuned_lens",
    "value_clusters",
    "vocabulary",
]
