"""Rank correlations, also with a third quantity held fixed, and their intervals over prompts or other units."""

from __future__ import annotations

import numpy as np

from interp.checks import checked
from interp.errors import InputError
from interp.stats.resampling import check_resampling, count_draws, draws_in_parts, interval, numbers

_ROUNDING = 1e-9  # a variance of ranks, as shares of their number, below which there is none
_LEAST = 4  # units


@checked
def rank_correlation(
    x: np.ndarray,
    y: np.ndarray,
    *,
    held: np.ndarray | None = None,
    level: float = 0.95,
    n_resamples: int = 999,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Spearman's correlation of two numbers per unit, and its interval; with `held`, the partial one.

    The partial correlation is that of what is left of the ranks of x and of y after a line in the ranks of `held` is
    taken out of both: whether x and y go together among units of equal `held`.

    Args:
        x: one number per unit, in several rows that are each compared with y, [rows, units]; a unit with a missing
            number is left out.
        y: the other number, [units].
        held: what is held fixed, [units].
        level: of the interval.
        n_resamples: draws of units; they keep the ranks that they have among all.
        seed: of the draws.

    Returns:
        The correlations and both ends of their intervals, [rows]. NaN with fewer than four units, or where a quantity
        does not vary.

    Raises:
        InputError: the numbers of units differ, or an argument is out of range.

    >>> ages, sizes, words = np.array([5.0, 6, 7, 8, 9]), np.array([[1.0, 2, 4, 3, 5]]), np.array([5.0, 7, 6, 8, 9])
    >>> [rank_correlation(sizes, words, held=held)[0].round(2).tolist() for held in (None, ages)]
    [[0.7], [-0.58]]
    """
    check_resampling(level, n_resamples)
    table, y = numbers(x, "values of x", 2), numbers(y, "values of y", 1)
    fixed = np.zeros(len(y)) if held is None else numbers(held, "values held", 1)
    if not table.shape[1] == len(y) == len(fixed):
        raise InputError(
            f"x, y and what is held have {table.shape[1]}, {len(y)} and {len(fixed)} units; give each a number for "
            "every unit."
        )
    found = np.full((3, len(table)), np.nan)
    known = np.isfinite(table) & np.isfinite(y) & np.isfinite(fixed)
    patterns, of_row = np.unique(known, axis=0, return_inverse=True)
    for number, kept in enumerate(patterns):  # rows that lack the same units share the draws
        n = int(kept.sum())
        if n < _LEAST:
            continue
        rows = of_row.ravel() == number
        ranks = _ranks(table[rows][:, kept]), _ranks(y[None, kept]), _ranks(fixed[None, kept])
        drawn = [_correlation(*ranks, count_draws(draws)) for _, draws in draws_in_parts(n, n_resamples, seed)]
        found[0, rows] = _correlation(*ranks, np.ones((1, n)))[:, 0]
        found[1:, rows] = interval(np.concatenate(drawn, axis=1), n, level)
    return found[0], found[1], found[2]


def _ranks(table: np.ndarray) -> np.ndarray:
    """Return the ranks in each row [rows, units], about 0 and as shares of their number."""
    from scipy.stats import rankdata

    n = table.shape[1]
    found: np.ndarray = (rankdata(table, axis=1) - (n + 1) / 2) / n
    return found


def _correlation(x: np.ndarray, y: np.ndarray, held: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the correlation of x [rows, units] with y, [1, units], under counts of the units [draws, units]."""
    weights = (counts / counts.sum(axis=1, keepdims=True)).T
    mean_x, mean_y, mean_held = x @ weights, y @ weights, held @ weights
    xx, yy, zz = (x**2) @ weights - mean_x**2, (y**2) @ weights - mean_y**2, (held**2) @ weights - mean_held**2
    xy = (x * y) @ weights - mean_x * mean_y
    xz, yz = (x * held) @ weights - mean_x * mean_held, (y * held) @ weights - mean_y * mean_held
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(zz > _ROUNDING, 1 / zz, 0.0)  # where what is held does not vary, it takes nothing out
        xx, yy, xy = xx - xz**2 * inverse, yy - yz**2 * inverse, xy - xz * yz * inverse
        found: np.ndarray = np.where((xx > _ROUNDING) & (yy > _ROUNDING), xy / np.sqrt(xx * yy), np.nan)
    return found.clip(-1, 1)
