"""Tell which methods order tokens no better than a shuffle of their own scores, and warn of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from interp.authoring import warn
from probes.attribution.faithfulness._metrics import Measured

SMALLER_IS_BETTER = ("sufficiency", "aopc_sufficiency", "naopc_sufficiency")

_LEVEL = 0.05  # one-sided: better than a shuffle


def not_above_chance(per_target: Sequence[Sequence[Measured]]) -> dict[str, list[str]]:
    """Return the metrics in which each method is not better than its shuffles, by method; controls are left out.

    A method's advantage over the mean of its n shuffles, summed over targets, is compared with its spread if the
    method's order were one more shuffle: var · (1 + 1 / n) of each target's shuffles, and the variance of the draws.
    This asks about these prompts only, so one is enough, and a larger claim needs `summary()`.
    """
    from scipy.stats import t  # slow to import

    gaps: dict[tuple[str, str], list[tuple[float, float, int]]] = defaultdict(list)
    for rows in per_target:
        own: dict[tuple[str, str], list[Measured]] = defaultdict(list)
        for row in rows:
            if row.control == "none":
                own[row.scored.method, row.metric].append(row)
        for key, of_metric in own.items():
            shuffles = np.array([row.shuffled for row in of_metric]).mean(axis=0)  # over fractions
            value, n = np.mean([row.value for row in of_metric]), len(shuffles)
            error = np.nan_to_num(np.mean([row.value_se for row in of_metric]))
            spread = shuffles.var(ddof=1) * (1 + 1 / n) + error**2
            sign = -1 if key[1] in SMALLER_IS_BETTER else 1
            if np.isfinite(value) and np.isfinite(spread):
                gaps[key].append((sign * (value - shuffles.mean()), spread, n - 1))
    found: dict[str, list[str]] = defaultdict(list)
    for (method, metric), of_targets in gaps.items():
        gap, spread, freedom = np.array(of_targets).sum(axis=0)
        if not gap > t.ppf(1 - _LEVEL, freedom) * np.sqrt(spread):
            found[method].append(metric)
    return dict(found)


def warn_of_chance(per_target: Sequence[Sequence[Measured]]) -> None:
    """Warn of methods that cannot be told from chance."""
    found = not_above_chance(per_target)
    if found:
        methods = "; ".join(f"{method} by {', '.join(metrics)}" for method, metrics in found.items())
        warn(
            f"these scores cannot be told from shuffled ones on {len(per_target)} target"
            f"{'s' * (len(per_target) > 1)}: {methods}; give more prompts, or raise n_random, n_draws and n_samples."
        )
