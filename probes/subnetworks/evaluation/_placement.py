"""How many weights two masks would share by chance: null distributions in closed form, nothing shuffled."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from scipy import stats
from torch import Tensor


@dataclass(frozen=True)
class Chance:
    """Mean and variance of how many weights are kept by both masks under a null."""

    mean: float
    variance: float

    def __add__(self, other: Chance) -> Chance:
        """Of two blocks of weights, placed independently."""
        return Chance(self.mean + other.mean, self.variance + other.variance)

    def z(self, observed: int) -> float:
        """By how many standard deviations the observed count is above the mean; NaN where chance leaves no choice."""
        return (observed - self.mean) / sqrt(self.variance) if self.variance > 0 else float("nan")

    def p(self, observed: int) -> float:
        """Upper tail of the normal distribution with this mean and variance; NaN where chance leaves no choice."""
        return float(stats.norm.sf(self.z(observed)))


def scattered(one: Tensor, other: Tensor) -> Chance:
    """One mask's weights placed anywhere in the block, alike: a hypergeometric count.

    >>> import torch
    >>> scattered(torch.tensor([[True, False]]), torch.tensor([[True, False]]))
    Chance(mean=0.5, variance=0.25)
    """
    n, a, b = one.numel(), int(one.sum()), int(other.sum())
    mean = a * b / n
    return Chance(mean, mean * (n - a) * (n - b) / (n * (n - 1)) if n > 1 else 0.0)


def rows_permuted(one: Tensor, other: Tensor) -> Chance:
    """One mask's rows [n, m] in another order, all orders alike; what each row holds stays together.

    The count is a sum over a random permutation of C[i, j], how many weights row i of one and row j of the other share:
    its mean is the sum of C over n, its variance that of the squares of the doubly centred C over n - 1 (Hoeffding
    1951).
    """
    shared = one.double() @ other.double().T
    n = len(shared)
    centred = shared - shared.mean(0) - shared.mean(1, keepdim=True) + shared.mean()
    return Chance(float(shared.sum()) / n, float(centred.square().sum()) / (n - 1) if n > 1 else 0.0)


def columns_permuted(one: Tensor, other: Tensor) -> Chance:
    """As `rows_permuted`, by columns."""
    return rows_permuted(one.T, other.T)


NULLS = {"scattered": scattered, "rows": rows_permuted, "columns": columns_permuted}
