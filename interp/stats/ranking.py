"""The AUC: a measure of how well a score separates two kinds of units."""

from __future__ import annotations

import numpy as np

from interp.errors import InputError
from interp.stats.resampling import numbers


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the probability that a positive unit scores above a negative one, ties counting half.

    Args:
        score: [n].
        positive: bool [n].

    Returns:
        The area under the ROC curve; NaN if either kind is missing.

    Raises:
        InputError: the scores are not numbers, or not one for each truth value.

    >>> auc(np.array([0.1, 0.9, 0.9]), np.array([False, True, False]))
    0.75
    """
    from scipy.stats import rankdata

    score, positive = numbers(score, "scores", 1), np.asarray(positive)
    if positive.shape != score.shape or positive.dtype != bool:
        raise InputError(f"{len(score)} scores, but {positive.dtype} {list(positive.shape)} of kinds; give bool [n].")
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
