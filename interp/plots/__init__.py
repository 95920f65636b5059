"""One figure per schema, matplotlib, legible in a notebook and in print. Imports matplotlib only when called."""

from interp.plots.attribution import attribution
from interp.plots.faithfulness import faithfulness
from interp.plots.lens import lens, top_tokens

__all__ = ["attribution", "faithfulness", "lens", "top_tokens"]
