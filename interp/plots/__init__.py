"""One figure per schema, matplotlib, legible in a notebook and in print. Imports matplotlib only when called."""

from interp.plots.iterative import iterative_inference
from interp.plots.law import next_token_law
from interp.plots.lens import lens, top_tokens
from interp.plots.microscope import microscope
from interp.plots.robustness import robustness

__all__ = ["iterative_inference", "lens", "microscope", "next_token_law", "robustness", "top_tokens"]
