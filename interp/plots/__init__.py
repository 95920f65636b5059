"""One figure per schema, matplotlib, legible in a notebook and in print. Imports matplotlib only when called."""

from interp.plots.characters import characters
from interp.plots.lens import lens, top_tokens

__all__ = ["characters", "lens", "top_tokens"]
