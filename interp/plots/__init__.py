"""One figure per schema, matplotlib, legible in a notebook and in print. Imports matplotlib only when called."""

from interp.plots.lens import lens, top_tokens
from interp.plots.robustness import robustness

__all__ = ["lens", "robustness", "top_tokens"]
