"""Corrections for testing several claims at once."""

from __future__ import annotations

import numpy as np

from interp.errors import InputError
from interp.stats.resampling import numbers


def holm(p: np.ndarray) -> np.ndarray:
    """Adjust p-values [n] by Holm's step-down method, which bounds the chance of any false rejection; NaN stays NaN.

    Raises:
        InputError: these are not p-values, or not one row of them.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(4).tolist()
    [0.03, 0.06, 0.06]
    """
    p, order = _ascending(p)
    adjusted = np.full(len(p), np.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjust p-values [n] by Benjamini and Hochberg (1995); NaN stays NaN.

    Of those at or below q, a share of at most q is expected to be false, where p-values are independent or depend on
    each other positively.

    Raises:
        InputError: these are not p-values, or not one row of them.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03])).round(4).tolist()
    [0.03, 0.04, 0.04]
    """
    p, order = _ascending(p)
    adjusted = np.full(len(p), np.nan)
    factors = len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate((p[order] * factors)[::-1])[::-1])
    return adjusted


def _ascending(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return checked p-values [n], and the places of those that are known in ascending order."""
    p = numbers(p, "p-values", 1)
    if ((p < 0) | (p > 1)).any():
        raise InputError(f"a p-value of {p[(p < 0) | (p > 1)][0]:g}: give values from 0 to 1.")
    known = np.flatnonzero(~np.isnan(p))
    return p, known[np.argsort(p[known], kind="stable")]
