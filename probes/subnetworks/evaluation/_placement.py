"""Number of weights that two masks share by chance: null distributions in closed form, without shuffling."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from torch import Tensor


@dataclass(frozen=True)
class Chance:
    """Mean and variance, under a null, of the number of weights that both masks keep."""

    mean: float
    variance: float

    def __add__(self, other: Chance) -> Chance:
        """Add the counts of two blocks of weights that are placed independently."""
        return Chance(self.mean + other.mean, self.variance + other.variance)

    def z(self, observed: int) -> float:
        """Return how many standard deviations the observed count is above the mean; NaN if the variance is 0."""
        return (observed - self.mean) / sqrt(self.variance) if self.variance > 0 else float("nan")

    def p(self, observed: int) -> float:
        """Return the upper tail of the normal distribution with this mean and variance; NaN if the variance is 0."""
        from scipy.stats import norm

        return float(norm.sf(self.z(observed)))


def scattered(one: Tensor, other: Tensor) -> Chance:
    """Place one mask's weights anywhere in the block with equal probability: a hypergeometric count.

    >>> import torch
    >>> scattered(torch.tensor([[True, False]]), torch.tensor([[True, False]]))
    Chance(mean=0.5, variance=0.25)
    """
    n, a, b = one.numel(), int(one.sum()), int(other.sum())
    mean = a * b / n
    return Chance(mean, mean * (n - a) * (n - b) / (n * (n - 1)) if n > 1 else 0.0)


def rows_permuted(one: Tensor, other: Tensor) -> Chance:
    """Put one mask's rows [n, m] into a random order, all orders equally likely; each row stays as it is.

    The count is a sum over a random permutation of C[i, j], the number of weights that row i of one and row j of the
    other share. Its mean is the sum of C, divided by n; its variance is the sum of squares of the doubly centred C,
    divided by n - 1 (Hoeffding 1951).
    """
    shared = one.double() @ other.double().T
    n = len(shared)
    centred = shared - shared.mean(0) - shared.mean(1, keepdim=True) + shared.mean()
    return Chance(float(shared.sum()) / n, float(centred.square().sum()) / (n - 1) if n > 1 else 0.0)


def columns_permuted(one: Tensor, other: Tensor) -> Chance:
    """Put one mask's columns into a random order; see `rows_permuted`."""
    return rows_permuted(one.T, other.T)


NULLS = {"scattered": scattered, "rows": rows_permuted, "columns": columns_permuted}
