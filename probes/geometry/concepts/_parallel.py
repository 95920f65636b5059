"""Statistics of pairs: how parallel their differences are, and whether the other pairs tell which word is which."""

from __future__ import annotations

import numpy as np


def units(vectors: np.ndarray) -> np.ndarray:
    """Return vectors [..., d] brought to length 1; a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    found: np.ndarray = vectors / np.where(norms == 0, 1, norms)
    return found


def parallel(differences: np.ndarray) -> np.ndarray:
    """Return the mean cosine of the differences of different pairs, [..., n, d] -> [...]; 0 of fewer than two.

    Pairs of equal words differ by nothing and are left out.

    >>> parallel(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])).round(3).item()
    0.333
    """
    unit = units(differences)
    n = (np.linalg.norm(unit, axis=-1) > 0).sum(axis=-1)
    total = (unit.sum(axis=-2) ** 2).sum(axis=-1)
    found: np.ndarray = (total - n) / np.maximum(n * (n - 1), 1)
    return found


def parallel_without_each(differences: np.ndarray) -> np.ndarray:
    """Return `parallel` of all other pairs, for each pair left out, [n, d] -> [n]."""
    unit = units(differences)
    n = len(unit) - 1
    rest = ((unit.sum(axis=0) - unit) ** 2).sum(axis=1)
    found: np.ndarray = (rest - n) / (n * (n - 1))
    return found


def held_out(differences: np.ndarray) -> np.ndarray:
    """Return how often the direction of all other pairs puts a pair's right word above its left, [..., n, d] -> [...].

    Ties count half.
    """
    unit = units(differences)
    score = (unit * (unit.sum(axis=-2, keepdims=True) - unit)).sum(axis=-1)
    score = np.where(np.abs(score) < 1e-12, 0.0, score)  # the sum of float64 products of unit vectors
    found: np.ndarray = ((score > 0) + 0.5 * (score == 0)).mean(axis=-1)
    return found


def shuffled(n: int, draws: int, random: np.random.Generator) -> np.ndarray:
    """Draw which pair's right side each left side gets, never its own, int64 [draws, n]."""
    found = np.empty((draws, n), dtype=np.int64)
    for draw in range(draws):
        order = random.permutation(n)
        found[draw, order] = np.roll(order, -1)
    return found
