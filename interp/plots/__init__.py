"""One figure per schema, matplotlib, legible in a notebook and in print. Imports matplotlib only when called."""

from interp.plots.lens import lens, top_tokens
from interp.plots.neurons import neuron_tokens
from interp.plots.robustness import robustness
from interp.plots.steering import steer

__all__ = ["lens", "neuron_tokens", "robustness", "steer", "top_tokens"]
