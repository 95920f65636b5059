"""The AUC: a measure of how well a score separates two kinds of units."""

from __future__ import annotations

import numpy as np


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the probability that a positive unit scores above a negative one, ties counting half.

    Args:
        score: [n].
        positive: bool [n].

    Returns:
        The area under the ROC curve; NaN if either kind is missing.

    >>> auc(np.array([0.1, 0.9, 0.9]), np.array([False, True, False]))
    0.75
    """
    from scipy.stats import rankdata

    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
