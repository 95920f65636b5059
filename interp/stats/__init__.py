"""Statistics over prompts and other independent units. Least squares on tensors is in `interp.stats.least_squares`."""

from interp.stats.bootstrap import Statistic, bootstrap_over_prompts, paired_bootstrap
from interp.stats.corrections import holm
from interp.stats.jackknife import pseudo_values
from interp.stats.units import Bounds, Mean, mean_over_units

__all__ = [
    "Bounds",
    "Mean",
    "Statistic",
    "bootstrap_over_prompts",
    "holm",
    "mean_over_units",
    "paired_bootstrap",
    "pseudo_values",
]
