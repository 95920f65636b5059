"""Pages to look into: a grid to hover over, strips of tokens, a slider of doses; each one file that loads nothing."""

from interp.display.interactive.page import Page
from interp.display.interactive.views import Doses, Grid, Measure, Strip, Strips, explorer

__all__ = ["Doses", "Grid", "Measure", "Page", "Strip", "Strips", "explorer"]
