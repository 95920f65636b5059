"""The mean over units with an interval and p-values that are wide enough for few units."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import numpy as np

from interp.stats.resampling import tail_share

_CHUNK = 4_000_000  # resampled values held at once
_ROUNDING = 1e-9  # relative to the range or the size of the values: values closer than this are equal

Bounds: TypeAlias = "tuple[float, float] | None"
"""The least and the largest value a unit can have; None if it is unbounded."""


@dataclass(frozen=True)
class Mean:
    """A mean of one number per unit, with its interval and p-values.

    Attributes:
        mean: of the units.
        n: number of units.
        low: lower end of the interval; NaN if there is none.
        high: upper end.
        reason: why there is no interval; empty if there is one.
    """

    mean: float
    n: int
    low: float = float("nan")
    high: float = float("nan")
    reason: str = ""
    _tails: Callable[[float], float] = field(default=lambda value: float("nan"), repr=False)

    def p(self, value: float) -> float:
        """Return the two-sided p-value of a true mean `value`, by inverting the interval; NaN if there is none.

        It is at least 2^(1 - n), the chance that n values symmetric about the truth all lie on one side of it.
        """
        tails = self._tails(value)
        return float("nan") if math.isnan(tails) else float(min(1.0, max(tails, 2.0 ** (1 - self.n))))


def mean_over_units(values: np.ndarray, *, level: float, n_resamples: int, seed: int, bounds: Bounds = None) -> Mean:
    """Return the mean of values [units], none missing, with its interval.

    The interval is the expanded percentile interval of `interp.stats.interval`. It never leaves the range of the
    values.

    Two cases have another interval. Resampling n equal values gives an interval of no width, although n units may have
    missed other values. Wilson's score interval for 0 of n bounds the share of such values, and only the bounds limit
    how far they move the mean. So the interval of equal values reaches from their value towards each bound by that
    share; without bounds there is none. Values that all lie at a bound (hits and misses) have Wilson's interval.

    >>> found = mean_over_units(np.arange(30.0), level=0.95, n_resamples=999, seed=0)
    >>> found.mean, found.low < 14.5 < found.high, found.p(14.5), found.p(0.0) < 0.001
    (14.5, True, 1.0, True)
    >>> equal = mean_over_units(np.ones(24), level=0.95, n_resamples=999, seed=0, bounds=(-1.0, 1.0))
    >>> round(equal.low, 2), equal.high
    (0.72, 1.0)
    """
    n = len(values)
    mean = float(values.mean()) if n else float("nan")
    if n < 2:
        return Mean(mean, n, reason=f"an interval needs two units, and there are {n}")
    if np.ptp(values) <= _ROUNDING * np.abs(values).max():
        return _of_equals(mean, n, level, bounds)
    if bounds is not None and _all_at(bounds, values):
        return _of_hits(mean, n, level, bounds)
    resampled = np.sort(_resampled_means(values, n_resamples, seed))
    tail = float(tail_share(level, n))
    low, high = np.quantile(resampled, tail, method="lower"), np.quantile(resampled, 1 - tail, method="higher")
    return Mean(mean, n, float(low), float(high), "", partial(_resampled_tails, mean, n, resampled))


def _all_at(bounds: tuple[float, float], values: np.ndarray) -> bool:
    rounding = _ROUNDING * (bounds[1] - bounds[0])
    return bool(np.isclose(values[:, None], bounds, rtol=0, atol=rounding).any(axis=1).all())


def _of_equals(value: float, n: int, level: float, bounds: Bounds) -> Mean:
    if bounds is None:
        return Mean(value, n, reason=f"all {n} values are equal, and no bounds say how far another can lie")
    least, largest = min(bounds[0], value), max(bounds[1], value)  # rounding can put the value outside
    unseen = _wilson(0.0, n, level)[1]

    def tails(other: float) -> float:
        reach = (largest if other > value else least) - value
        distance = other - value
        if distance == 0:
            return 1.0
        return 0.0 if abs(distance) > abs(reach) else _score_tails(0.0, n, distance / reach)

    return Mean(value, n, value - unseen * (value - least), value + unseen * (largest - value), "", tails)


def _of_hits(mean: float, n: int, level: float, bounds: tuple[float, float]) -> Mean:
    least, width = bounds[0], bounds[1] - bounds[0]
    share = (mean - least) / width
    low, high = _wilson(share, n, level)
    return Mean(
        mean, n, least + width * low, least + width * high, "",
        lambda other: _score_tails(share, n, (other - least) / width),
    )  # fmt: skip


def _score_tails(share: float, n: int, other: float) -> float:
    """Return the two-sided p-value of another true share of hits; Wilson's interval inverts it."""
    from scipy.stats import norm

    spread = math.sqrt(max(other * (1 - other), 0.0) / n)
    distance = abs(share - other)
    return 1.0 if distance == 0 else float(2 * norm.sf(distance / spread)) if spread > 0 else 0.0


def _wilson(share: float, n: int, level: float) -> tuple[float, float]:
    from scipy.stats import norm

    z2 = norm.isf((1 - level) / 2) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _resampled_tails(mean: float, n: int, resampled: np.ndarray, value: float) -> float:
    """Return the two-sided p-value from sorted means of resampled units."""
    from scipy.stats import norm, t

    below = np.searchsorted(resampled, value, side="right")  # at most the value
    above = len(resampled) - np.searchsorted(resampled, value, side="left")  # at least the value
    share = float(1 + min(below, above)) / (1 + len(resampled))
    if share >= 0.5:
        return 1.0
    if min(below, above) == 0:  # beyond the last resample the tail is assumed normal
        share = min(share, float(norm.sf(abs(mean - value) / resampled.std())))
    shrunk = norm.isf(share) * np.sqrt((n - 1) / n)
    return float(2 * t.sf(shrunk, n - 1))


def _resampled_means(values: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    step = max(1, _CHUNK // len(values))
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        means[start : start + rows] = values[generator.integers(0, len(values), size=(rows, len(values)))].mean(axis=1)
    return means
