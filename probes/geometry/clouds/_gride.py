"""Intrinsic dimension at a scale, by the ratio of distances to two neighbours (GRIDE, Denti et al. 2022)."""

from __future__ import annotations

import numpy as np

_STEPS = 60  # of Newton's method, which needs about eight
_CLOSE = 1e-12


def gride(ratios: np.ndarray, scale: int) -> float:
    """Return the dimension of which ratios r_2n / r_n of distances to the 2n-th and n-th neighbour are most likely.

    Where points are spread evenly in d dimensions, x = d ln(ratio) has a density in proportion to
    e^(-n x) (1 - e^-x)^(n - 1). The slope of the likelihood is 0 where a sum that grows with d, ever more slowly,
    reaches N - 1: Newton's method gets there from the left, without a bracket.

    Args:
        ratios: one of each point, [N].
        scale: n; 1 is TwoNN by maximum likelihood.

    Returns:
        The dimension; NaN of fewer than three points, or where all ratios are 1.

    >>> round(gride(np.array([np.e, np.e**2, np.e**3]), 1), 3)
    0.333
    """
    logs = np.log(ratios)
    n, total = len(logs), float(logs.sum())
    if n < 3 or not total > 0:
        return float("nan")
    if scale == 1:
        return (n - 1) / total
    dimension = 0.0
    for _ in range(_STEPS):
        x = dimension * logs
        rest = -np.expm1(-x)
        with np.errstate(divide="ignore", invalid="ignore"):
            curve = np.where(x > 1e-4, x / rest, 1 + x / 2)  # x / (1 - e^-x) and its slope
            slope = np.where(x > 1e-4, (1 - x * np.exp(-x) / rest) / rest, 0.5 + x / 6)
        left = (2 * scale - 1) * x.sum() - (scale - 1) * curve.sum() - (n - 1)
        step = left / (logs @ ((2 * scale - 1) - (scale - 1) * slope))
        dimension -= step
        if abs(step) <= _CLOSE * dimension:
            break
    return float(dimension)
