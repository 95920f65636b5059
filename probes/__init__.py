"""The methods: one module and one paper each, functions from a model and texts to a tidy frame."""

from probes.attribute import attribute
from probes.bigram_model import BigramModel, bigram_model
from probes.bigram_subnetwork import bigram_subnetwork, subnetwork_log
from probes.characters import character_content, vocabulary
from probes.concept_neurons import concept_neurons, concept_scores
from probes.evaluate_subnetwork import Evaluation, evaluate_subnetwork
from probes.faithfulness import faithfulness
from probes.find_subnetwork import FoundSubnetworks, find_subnetwork
from probes.iterative_inference import iterative_inference
from probes.kept_weights import kept_weights
from probes.layer_robustness import layer_robustness
from probes.logit_lens import logit_lens
from probes.microscope import law_and_microscope, microscope, microscope_tokens
from probes.neuron_kinds import neuron_kinds
from probes.neuron_set import NeuronSet
from probes.neuron_tokens import neuron_tokens
from probes.next_token_law import next_token_law
from probes.normxlogit import normxlogit
from probes.random_model import random_model
from probes.reagent import reagent, reagent_probes
from probes.reagent_ls import reagent_ls
from probes.released_subnetwork import released_subnetwork
from probes.run_schedules import run_schedules
from probes.spelling import spelling
from probes.stages import stages_of_inference
from probes.steer import steer
from probes.subjoiner_heads import subjoiner_heads
from probes.subnetwork import Subnetwork, maskable
from probes.subnetwork_covariance import subnetwork_covariance
from probes.subnetwork_overlap import subnetwork_overlap
from probes.subnetwork_rotation import subnetwork_rotation
from probes.subnetwork_surprisal import subnetwork_surprisal
from probes.top_tokens import top_tokens
from probes.tuned_lens import TunedLens, load_tuned_lens, tuned_lens
from probes.value_clusters import value_clusters

__all__ = [
    "BigramModel",
    "Evaluation",
    "FoundSubnetworks",
    "NeuronSet",
    "Subnetwork",
    "TunedLens",
    "attribute",
    "bigram_model",
    "bigram_subnetwork",
    "character_content",
    "concept_neurons",
    "concept_scores",
    "evaluate_subnetwork",
    "faithfulness",
    "find_subnetwork",
    "iterative_inference",
    "kept_weights",
    "law_and_microscope",
    "layer_robustness",
    "load_tuned_lens",
    "logit_lens",
    "maskable",
    "microscope",
    "microscope_tokens",
    "neuron_kinds",
    "neuron_tokens",
    "next_token_law",
    "normxlogit",
    "random_model",
    "reagent",
    "reagent_ls",
    "reagent_probes",
    "released_subnetwork",
    "run_schedules",
    "spelling",
    "stages_of_inference",
    "steer",
    "subjoiner_heads",
    "subnetwork_covariance",
    "subnetwork_log",
    "subnetwork_overlap",
    "subnetwork_rotation",
    "subnetwork_surprisal",
    "top_tokens",
    "tuned_lens",
    "value_clusters",
    "vocabulary",
]
