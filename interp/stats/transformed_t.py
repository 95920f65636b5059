"""Student's t corrected for skewness, after Hall (1992): an interval of a mean for skewed values, without resampling.

Hall, P. (1992). On the removal of skewness by transformation. Journal of the Royal Statistical Society B 54, 221-228.
With few values of a long-tailed kind, Student's t is itself skewed: where the long tail was not drawn, mean and spread
are both too small. A cubic makes it symmetric to the order 1 / n, and its inverse gives both ends of the interval.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_NO_SKEW = 1e-6  # below this the cubic is a line to twelve digits, and its inverse would lose them


class _Moments(NamedTuple):
    mean: float
    error: float  # standard error of the mean
    bend: float  # a third of the skewness of the mean
    n: int


def transformed_interval(values: np.ndarray, level: float) -> tuple[float, float]:
    """Return both ends of Hall's interval for the mean of values [units], two or more that differ.

    It may leave the range of the values, on the side of their long tail.

    >>> low, high = transformed_interval(np.array([0.0, 1.0, 2.0, 3.0, 40.0]), 0.95)
    >>> round(low, 1), round(high, 1)
    (-4.9, 77.9)
    """
    from scipy.stats import t

    found = _moments(values)
    reach = float(t.isf((1 - level) / 2, found.n - 1))
    low, high = (found.mean - found.error * _straightened(found, end) for end in (reach, -reach))
    return low, high


def transformed_tails(values: np.ndarray, other: float) -> float:
    """Return the two-sided p-value of a true mean `other`; `transformed_interval` inverts it."""
    from scipy.stats import t

    found = _moments(values)
    distance = (found.mean - other) / found.error
    bent = distance + found.bend * distance**2 + found.bend**2 * distance**3 / 3 + found.bend / 2
    return float(2 * t.sf(abs(bent), found.n - 1))


def _moments(values: np.ndarray) -> _Moments:
    n, mean = len(values), float(values.mean())
    apart = values - mean
    widest = float(np.abs(apart).max())  # powers of tiny values would vanish
    apart = apart / widest
    variance = float((apart**2).mean())
    skewness = float((apart**3).mean()) / variance**1.5
    return _Moments(mean, widest * math.sqrt(variance / (n - 1)), skewness / math.sqrt(n) / 3, n)


def _straightened(found: _Moments, bent: float) -> float:
    """Invert the cubic, which is ((1 + bend t)^3 - 1) / (3 bend) + bend / 2."""
    shifted = bent - found.bend / 2
    if abs(found.bend) < _NO_SKEW:
        return shifted - found.bend * shifted**2
    return (math.cbrt(1 + 3 * found.bend * shifted) - 1) / found.bend
