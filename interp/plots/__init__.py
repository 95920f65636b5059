"""One figure per schema, matplotlib, legible in a notebook and in print. Imports matplotlib only when called."""

from interp.plots.attribution import attribution
from interp.plots.characters import characters
from interp.plots.faithfulness import faithfulness
from interp.plots.findings import findings
from interp.plots.iterative import iterative_inference
from interp.plots.law import next_token_law
from interp.plots.lens import lens, lenses, top_tokens
from interp.plots.microscope import microscope
from interp.plots.neurons import neuron_tokens
from interp.plots.robustness import robustness
from interp.plots.stages import neuron_kinds, stages, subjoiner_heads
from interp.plots.steering import steer
from interp.plots.subnetwork import kept_weights, subnetwork_covariance, subnetwork_rotation, subnetwork_surprisal

__all__ = [
    "attribution",
    "characters",
    "faithfulness",
    "findings",
    "iterative_inference",
    "kept_weights",
    "lens",
    "lenses",
    "microscope",
    "neuron_kinds",
    "neuron_tokens",
    "next_token_law",
    "robustness",
    "stages",
    "steer",
    "subjoiner_heads",
    "subnetwork_covariance",
    "subnetwork_rotation",
    "subnetwork_surprisal",
    "top_tokens",
]
