"""The probes: functions from a model and texts to a tidy frame, one paper and one module each."""

import importlib.machinery
import importlib.util

# A module of the user called `interp` would cause a traceback inside this package: name that module instead.
_found = importlib.util.find_spec("interp")
if _found and not importlib.machinery.PathFinder.find_spec("interp.authoring", _found.submodule_search_locations or []):
    raise ImportError(
        f"{_found.origin!r} hides the package 'interp' that these probes are built on: rename it, or run from another "
        "folder."
    )

from interp.authoring import Probe
from probes.attention.subjoiner_heads import subjoiner_heads
from probes.attribution.attribute import attribute
from probes.attribution.faithfulness.faithfulness import faithfulness
from probes.attribution.groups.group_attribution import group_attribution
from probes.attribution.normxlogit import normxlogit
from probes.attribution.pairs.pair_attribution import pair_attribution
from probes.attribution.reagent.reagent import reagent, reagent_probes
from probes.attribution.reagent.reagent_ls import reagent_ls
from probes.characters.character_content import character_content
from probes.characters.spelling import spelling
from probes.contexts.nearest_contexts import nearest_contexts
from probes.contexts.phrases.phrase_carriers import phrase_carriers
from probes.contexts.sentences.sentence_states import sentence_states
from probes.contexts.state_bank import StateBank
from probes.geometry.clouds.isotropy import isotropy
from probes.geometry.clouds.length_collapse import length_collapse
from probes.geometry.clouds.local_dimension import local_dimension
from probes.geometry.clouds.position_variance import position_variance
from probes.geometry.clouds.prompt_geometry import prompt_geometry
from probes.geometry.concepts.association import association
from probes.geometry.concepts.concept_angles import concept_angles
from probes.geometry.concepts.concept_directions import concept_directions
from probes.geometry.law_and_microscope import law_and_microscope
from probes.geometry.microscope import microscope
from probes.geometry.microscope_tokens import microscope_tokens
from probes.geometry.next_token_law import next_token_law
from probes.layers.layer_robustness import layer_robustness
from probes.layers.run_schedules import run_schedules
from probes.layers.stages_of_inference import stages_of_inference
from probes.lens.jacobian_lens import JacobianLens, jacobian_lens, load_jacobian_lens
from probes.lens.logit_lens import logit_lens
from probes.lens.top_tokens import top_tokens
from probes.lens.tuned_lens import TunedLens, load_tuned_lens, tuned_lens
from probes.neurons.concept_neurons import concept_neurons, concept_scores
from probes.neurons.neuron_kinds import neuron_kinds
from probes.neurons.neuron_tokens import neuron_tokens
from probes.neurons.steering.contrast_direction import contrast_direction
from probes.neurons.steering.direction import Direction
from probes.neurons.steering.neuron_set import NeuronSet
from probes.neurons.steering.steer import steer
from probes.neurons.value_clusters import value_clusters
from probes.patching.attribution_patch import attribution_patch
from probes.patching.patch import patch
from probes.subnetworks.bigram_model import BigramModel, bigram_model
from probes.subnetworks.evaluation.evaluate_subnetwork import Evaluation, evaluate_subnetwork
from probes.subnetworks.evaluation.kept_weights import kept_weights
from probes.subnetworks.evaluation.subnetwork_covariance import subnetwork_covariance
from probes.subnetworks.evaluation.subnetwork_overlap import subnetwork_overlap
from probes.subnetworks.evaluation.subnetwork_rotation import subnetwork_rotation
from probes.subnetworks.evaluation.subnetwork_surprisal import subnetwork_surprisal
from probes.subnetworks.random_model import random_model
from probes.subnetworks.released_subnetwork import released_subnetwork
from probes.subnetworks.search.bigram_subnetwork import bigram_subnetwork, subnetwork_log
from probes.subnetworks.search.find_subnetwork import FoundSubnetworks, find_subnetwork
from probes.subnetworks.subnetwork import Subnetwork, maskable
from probes.tokenization.byte_log_prob import byte_log_prob
from probes.tokenization.next_byte import next_byte
from probes.tokenization.recutting.compositionality import compositionality
from probes.tokenization.recutting.perturbation import perturbation
from probes.tokenization.recutting.retokenisation import retokenisation
from probes.tokenization.recutting.retokenised import retokenised
from probes.tokenization.recutting.word_states import word_states
from probes.tokenization.recutting.written_tokens import written_tokens
from probes.tokenization.tokenization_bias import tokenization_bias
from probes.uncertainty.iterative_inference import iterative_inference
from probes.vocab.first_tokens import first_tokens
from probes.vocab.loss_by_frequency import loss_by_frequency
from probes.vocab.token_health import token_health
from probes.vocab.token_repetition import token_repetition
from probes.vocab.vocabulary import vocabulary

__all__ = [
    "BigramModel",
    "Direction",
    "Evaluation",
    "FoundSubnetworks",
    "JacobianLens",
    "NeuronSet",
    "StateBank",
    "Subnetwork",
    "TunedLens",
    "association",
    "attribute",
    "attribution_patch",
    "bigram_model",
    "bigram_subnetwork",
    "byte_log_prob",
    "character_content",
    "compositionality",
    "concept_angles",
    "concept_directions",
    "concept_neurons",
    "concept_scores",
    "contrast_direction",
    "evaluate_subnetwork",
    "faithfulness",
    "find_subnetwork",
    "first_tokens",
    "group_attribution",
    "isotropy",
    "iterative_inference",
    "jacobian_lens",
    "kept_weights",
    "law_and_microscope",
    "layer_robustness",
    "length_collapse",
    "load_jacobian_lens",
    "load_tuned_lens",
    "local_dimension",
    "logit_lens",
    "loss_by_frequency",
    "maskable",
    "microscope",
    "microscope_tokens",
    "nearest_contexts",
    "neuron_kinds",
    "neuron_tokens",
    "next_byte",
    "next_token_law",
    "normxlogit",
    "pair_attribution",
    "patch",
    "perturbation",
    "phrase_carriers",
    "position_variance",
    "prompt_geometry",
    "random_model",
    "reagent",
    "reagent_ls",
    "reagent_probes",
    "released_subnetwork",
    "retokenisation",
    "retokenised",
    "run_schedules",
    "sentence_states",
    "spelling",
    "stages_of_inference",
    "steer",
    "subjoiner_heads",
    "subnetwork_covariance",
    "subnetwork_log",
    "subnetwork_overlap",
    "subnetwork_rotation",
    "subnetwork_surprisal",
    "token_health",
    "token_repetition",
    "tokenization_bias",
    "top_tokens",
    "tuned_lens",
    "value_clusters",
    "vocabulary",
    "word_states",
    "written_tokens",
]

PROBES = tuple(one for one in (globals()[name] for name in __all__) if isinstance(getattr(one, "probe", None), Probe))
"""The probes among these names, loaded through the entry-point group `interp.probes`."""
