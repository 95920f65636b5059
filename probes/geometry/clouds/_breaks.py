"""A calibrated test of whether the dimension around a point changes with the distance from it.

Where points are spread evenly in a flat ball of D dimensions, k ln(r_{k+1} / r_k) of the distances r to the k nearest
neighbours are independent exponential draws of rate D. A change of D along k is a change of their mean; the likelihood
ratio of one, maximised over where it is, has the same distribution for every D and every point.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from interp.authoring import shipped_path

LEAST = 20  # spacings on each side of a break
FILE = "break_test.npz"
_DRAWS = 4096  # simulated at a time


@dataclass(frozen=True)
class Scan:
    """The largest likelihood ratio of a break for each row of spacings.

    Attributes:
        any: over all splits, [n].
        increase: over the splits after which the dimension is larger, [n]; 0 if there is none.
        split: number of spacings before the split of `any`, int64 [n].
    """

    any: np.ndarray
    increase: np.ndarray
    split: np.ndarray


def spacings(distances: np.ndarray, k_low: int) -> np.ndarray:
    """Return k ln(r_{k+1} / r_k) for k from `k_low` on; distances [n, k_high] from the first neighbour on, ascending.

    >>> spacings(np.array([[1.0, 1.0, np.e, np.e]]), 1).round(3).tolist()
    [[0.0, 2.0, 0.0]]
    """
    found: np.ndarray = np.arange(k_low, distances.shape[1]) * np.diff(np.log(distances[:, k_low - 1 :]), axis=1)
    return found


def dimension(spaces: np.ndarray) -> np.ndarray:
    """Return the dimension of rows of m spacings, (m - 1) / sum, which has a standard error of D / √(m - 2), [n]."""
    with np.errstate(divide="ignore"):
        found: np.ndarray = (spaces.shape[1] - 1) / spaces.sum(axis=1)
    return found


def scan(spaces: np.ndarray) -> Scan:
    """Look for a break in each row of m spacings, with `LEAST` of them or more on each side."""
    m = spaces.shape[1]
    sums = np.cumsum(spaces, axis=1)
    splits = np.arange(LEAST, m - LEAST + 1)
    tiny = np.finfo(float).tiny  # of distances that are all equal
    left = np.maximum(sums[:, splits - 1], tiny) / splits
    right = np.maximum(sums[:, -1:] - sums[:, splits - 1], tiny) / (m - splits)
    whole = np.maximum(sums[:, -1:], tiny) / m
    ratio = m * np.log(whole) - splits * np.log(left) - (m - splits) * np.log(right)
    larger = np.where(right < left, ratio, 0.0)  # shorter spacings are of more dimensions
    return Scan(ratio.max(axis=1), larger.max(axis=1), splits[ratio.argmax(axis=1)])


def p_values(found: Scan, m: int, n_null: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the p-value of any break and of an increase, [n] each.

    They come from the shipped table, of 400,000 draws, or for other m from `n_null` draws; none is below 1 / draws.
    """
    shares, quantiles = table().get(m) or simulated(m, n_null)
    tested = zip((found.any, found.increase), quantiles, strict=True)
    any_, increase = (np.exp(np.interp(value, of, np.log(shares))) for value, of in tested)
    return any_, np.where(found.increase > 0, increase, 1.0)


@cache
def table() -> dict[int, tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Read the shipped quantiles: for numbers of spacings, tail shares and the values of both statistics there."""
    with np.load(shipped_path("geometry") / FILE, allow_pickle=False) as saved:
        shares = saved["shares"]
        rows = zip(saved["m"].tolist(), saved["any"], saved["increase"], strict=True)
        return {m: (shares, (any_, increase)) for m, any_, increase in rows}


@cache
def simulated(m: int, n: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Simulate the two statistics of m spacings without a break, n times, and return tail shares and their values."""
    random = np.random.default_rng(m)
    scans = [scan(random.standard_exponential((min(_DRAWS, n - at), m))) for at in range(0, n, _DRAWS)]
    drawn = [np.sort(np.concatenate([getattr(one, name) for one in scans]))[::-1] for name in ("any", "increase")]
    places = np.unique(np.geomspace(1, n, 256).astype(int))[::-1]  # the largest last
    return (places + 1) / (n + 1), (drawn[0][places - 1], drawn[1][places - 1])
