"""Metrics of removing tokens in an order, computed from a function of sets of intact tokens, independent of the model.

A set is a row of booleans, one per removable unit (a token, or a word); True is intact. `Values` evaluates each set
once for all orders, methods and metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

SetFunction: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Sets of intact units, bool [n, m] -> the target's probability (or log-odds) with only these intact, float [n]."""

EXACT_UNITS = 10  # up to here the limits of the area evaluate all 2^m sets; for more units a beam search is used
BEAM = 5


class Values:
    """A cached set function: every set is evaluated once.

    >>> calls = []
    >>> def total(sets):
    ...     calls.append(len(sets))
    ...     return sets.sum(axis=1).astype(float)
    >>> values = Values(total, 3)
    >>> first_two = np.array([[True, True, False]])
    >>> values(np.repeat(first_two, 2, axis=0)).tolist(), values(first_two).tolist()
    ([2.0, 2.0], [2.0])
    >>> calls
    [1]
    """

    def __init__(self, function: SetFunction, n_units: int) -> None:
        self._function = function
        self._known: dict[bytes, float] = {}
        self.n_units = n_units

    def __call__(self, sets: np.ndarray) -> np.ndarray:
        """Return the values float64 [n] of sets bool [n, m]."""
        keys = [row.tobytes() for row in np.packbits(sets.astype(bool), axis=1)]
        new = {key: index for index, key in enumerate(keys) if key not in self._known}
        if new:
            found = self._function(sets[list(new.values())].astype(bool))
            self._known |= dict(zip(new, found.tolist(), strict=True))
        return np.array([self._known[key] for key in keys])

    @property
    def full(self) -> float:
        """The value of the intact prompt."""
        return float(self(np.ones((1, self.n_units), dtype=bool))[0])

    @property
    def null(self) -> float:
        """The value with every unit removed."""
        return float(self(np.zeros((1, self.n_units), dtype=bool))[0])


def order_of(scores: np.ndarray) -> np.ndarray:
    """Order units by falling score, ties in the order of the text, int64 [m].

    >>> order_of(np.array([0.5, 2.0, 0.5])).tolist()
    [1, 0, 2]
    """
    return np.argsort(-scores, kind="stable")


def removed(order: np.ndarray) -> np.ndarray:
    """Return the sets left after removing the first 0, 1, .., m units of an order, bool [m + 1, m]."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[None, :] >= np.arange(len(order) + 1)[:, None]


def sets_of(orders: Sequence[np.ndarray], counts: Sequence[int]) -> np.ndarray:
    """Return the sets without the first k units of each order, and with only these, for each k; bool [n, m]."""
    return np.concatenate([sets[list(counts)] for order in orders for sets in (removed(order), ~removed(order))])


def comprehensiveness(values: Values, order: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Return f(all) - f(all but the first k of the order) for every k of `counts`, float64; larger is better."""
    return values.full - values(removed(order)[list(counts)])


def sufficiency(values: Values, order: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Return f(all) - f(only the first k of the order) for every k of `counts`, float64; smaller is better."""
    return values.full - values(~removed(order)[list(counts)])


def area(values: Values, order: np.ndarray) -> float:
    """Return AOPC: the mean comprehensiveness over k = 1..m; of a reversed order, the same of the sufficiency.

    >>> weights = np.array([4.0, 2.0])
    >>> area(Values(lambda sets: sets @ weights, 2), np.array([0, 1]))  # (4 + 6) / 2
    5.0
    """
    return float(comprehensiveness(values, order, range(1, values.n_units + 1)).mean())


@dataclass(frozen=True)
class Limits:
    """The smallest and the largest area over all orders; `exact` is False if only a beam search was made."""

    low: float
    high: float
    exact: bool

    def share(self, value: float) -> float:
        """Return the relative place of an area between the limits, 0..1.

        It is outside 0..1 if the area is beyond those of a beam search, and 0 if the limits are equal.
        """
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0


def area_limits(values: Values) -> Limits:
    """Return the limits of the area over all orders.

    They are exact up to 10 units: with g(R) = f(all) - f(all but R), the best continuation from a removed set R is the
    maximum over i of g(R and i) + the best continuation from there, so 2^m sets are evaluated instead of m! orders.
    For more units a beam search of width 5 is used; its limits lie within the true ones.
    """
    if values.n_units <= EXACT_UNITS:
        return Limits(*_exact_limits(values), exact=True)
    return Limits(_beam(values, -1.0), _beam(values, 1.0), exact=False)


def n_kept(fraction: float, n_units: int) -> int:
    """Return the number of units for a fraction of m: the nearest number, at least one.

    >>> n_kept(0.01, 20), n_kept(0.5, 5), n_kept(1.0, 5)
    (1, 2, 5)
    """
    return min(n_units, max(1, round(fraction * n_units)))


def _exact_limits(values: Values) -> tuple[float, float]:
    m = values.n_units
    index = np.arange(2**m)  # bit i set: unit i is removed
    is_removed = (index[:, None] >> np.arange(m)) & 1 == 1
    drop = values.full - values(~is_removed)
    drop[0] = 0.0
    best, worst = np.zeros(2**m), np.zeros(2**m)
    for size in range(m - 1, -1, -1):
        here = index[is_removed.sum(axis=1) == size]
        onward = here[:, None] | (1 << np.arange(m))[None, :]
        grows = onward != here[:, None]
        for table, pick, worthless in ((best, np.max, -np.inf), (worst, np.min, np.inf)):
            steps = np.where(grows, drop[onward] + table[onward], worthless)
            table[here] = pick(steps, axis=1)
    return float(worst[0]) / m, float(best[0]) / m


def _beam(values: Values, sign: float) -> float:
    """Return the largest (sign 1) or smallest (sign -1) area found by keeping the 5 best sets of every size."""
    m = values.n_units
    beam, totals = np.ones((1, m), dtype=bool), np.zeros(1)
    for _ in range(m):
        row, unit = beam.nonzero()
        sets = beam[row]
        sets[np.arange(len(sets)), unit] = False
        reached = totals[row] + values.full - values(sets)
        order = np.argsort(-sign * reached, kind="stable")
        _, first = np.unique(sets[order], axis=0, return_index=True)  # the best way to each set
        chosen = order[np.sort(first)[:BEAM]]
        beam, totals = sets[chosen], reached[chosen]
    return float(sign * (sign * totals).max()) / m
