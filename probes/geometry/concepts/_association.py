"""The association of two groups of words with two others: scores, effect, and the exact or drawn permutation test."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np

from interp.stats import interval
from probes.geometry.concepts._parallel import units

_MOST_EXACT = 100_000  # partitions that are all tried
_RESAMPLES = 999


def scores(words: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the mean cosine with the words of A minus that with the words of B, [n, d], [.., d] -> [n]."""
    found: np.ndarray = units(words) @ (units(a).mean(axis=0) - units(b).mean(axis=0))
    return found


def effect(x: np.ndarray, y: np.ndarray) -> float:
    """Return the difference of mean scores in standard deviations (n - 1) of all scores; 0 if all are equal.

    >>> round(effect(np.array([1.0, 2.0]), np.array([-1.0, 0.0])), 3)
    1.549
    """
    sd = float(np.concatenate([x, y]).std(ddof=1))
    return float(x.mean() - y.mean()) / sd if sd > 0 else 0.0


def p_value(x: np.ndarray, y: np.ndarray, n_permutations: int, random: np.random.Generator) -> float:
    """Return the share of partitions into groups of these sizes with a difference as large, one-sided.

    All partitions are tried if they are 100,000 or fewer, else (1 + count) / (1 + draws).
    """
    joined, n = np.concatenate([x, y]), len(x)
    own = x.sum()
    # The difference of means grows with the sum of the first group; equal sums differ by rounding.
    least = own - 1e-9 * (1 + np.abs(joined).max())
    if comb(len(joined), n) <= _MOST_EXACT:
        chosen = np.array(list(combinations(range(len(joined)), n)))
        return float((joined[chosen].sum(axis=1) >= least).mean())
    orders = random.random((n_permutations, len(joined))).argsort(axis=1)[:, :n]
    return float((1 + (joined[orders].sum(axis=1) >= least).sum()) / (1 + n_permutations))


def effect_interval(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the effect, over the words of either group."""
    drawn = [effect(random.choice(x, len(x)), random.choice(y, len(y))) for _ in range(_RESAMPLES)]
    low, high = interval(np.array(drawn)[None], min(len(x), len(y)))
    return float(low[0]), float(high[0])
