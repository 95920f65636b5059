"""Measure how evenly a tokenizer uses its tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from interp.checks import checked
from interp.errors import InputError


@checked
def renyi_efficiency(counts: Any, alpha: float, *, n_types: int | None = None) -> float:
    """Return the Rényi entropy of tokens over the most that it could be (Zouhar et al., arXiv 2306.16842).

    Args:
        counts: how often each token occurs, [n]; those that never do count for nothing.
        alpha: order of the entropy, above 0; 1 is Shannon's. The paper uses 2.5, its package 3 by default.
        n_types: number of tokens that could be used; None takes those that occur.

    Returns:
        H_alpha / log(n_types), 0..1; NaN if only one token could be used.

    Raises:
        InputError: an argument is out of range.

    >>> [round(renyi_efficiency([3, 2, 1, 1], alpha), 4) for alpha in (1.0, 2.5, 3.0)]
    [0.9212, 0.8265, 0.8032]
    """
    table = np.asarray(counts, dtype=float)
    if not (table >= 0).all() or not table.any():
        raise InputError("counts are numbers of 0 or more, one of them above 0; give how often each token occurs.")
    if not alpha > 0:
        raise InputError(f"alpha={alpha}: give a number above 0.")
    prob = table[table > 0] / table.sum()
    possible = len(prob) if n_types is None else n_types
    if possible < len(prob):
        raise InputError(f"n_types={n_types}: {len(prob)} tokens occur; give at least so many.")
    if possible == 1:
        return float("nan")
    entropy = -(prob * np.log(prob)).sum() if alpha == 1 else np.log((prob**alpha).sum()) / (1 - alpha)
    return float(entropy / np.log(possible))
