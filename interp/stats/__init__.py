"""Statistics over prompts and other independent units. Least squares on tensors is in `interp.stats.least_squares`."""

from interp.stats.arrow_means import means_of_table, repeats_in_a_row
from interp.stats.bootstrap import (
    Statistic,
    bootstrap_over_prompts,
    means_by_prompt,
    paired_bootstrap,
    ratio_over_prompts,
)
from interp.stats.corrections import benjamini_hochberg, holm
from interp.stats.jackknife import pseudo_values
from interp.stats.ranking import auc
from interp.stats.resampling import check_resampling, count_draws, draw_units, draws_in_parts, interval
from interp.stats.units import Bounds, Mean, mean_over_units

__all__ = [
    "Bounds",
    "Mean",
    "Statistic",
    "auc",
    "benjamini_hochberg",
    "bootstrap_over_prompts",
    "check_resampling",
    "count_draws",
    "draw_units",
    "draws_in_parts",
    "holm",
    "interval",
    "mean_over_units",
    "means_by_prompt",
    "means_of_table",
    "paired_bootstrap",
    "pseudo_values",
    "ratio_over_prompts",
    "repeats_in_a_row",
]
