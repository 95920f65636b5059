"""What removing tokens in an order does, from a function that values sets of intact tokens; nothing of a model in it.

A set is a row of booleans, one per unit (a token, or a word) that may be removed; True is intact. `Values` asks for
each set once, however many orders, methods and metrics need it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

SetFunction: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Sets of intact units, bool [n, m] -> what the target is worth with only these intact, float [n]."""

EXACT_UNITS = 10  # up to here all 2^m sets are valued for the limits of the area, beyond a beam is searched
BEAM = 5


class Values:
    """A set function that remembers: every set is valued once.

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
        """Values float64 [n] of sets bool [n, m]."""
        keys = [row.tobytes() for row in np.packbits(sets.astype(bool), axis=1)]
        new = {key: index for index, key in enumerate(keys) if key not in self._known}
        if new:
            found = self._function(sets[list(new.values())].astype(bool))
            self._known |= dict(zip(new, found.tolist(), strict=True))
        return np.array([self._known[key] for key in keys])

    @property
    def full(self) -> float:
        """Of the intact prompt."""
        return float(self(np.ones((1, self.n_units), dtype=bool))[0])

    @property
    def null(self) -> float:
        """With every unit removed."""
        return float(self(np.zeros((1, self.n_units), dtype=bool))[0])


def order_of(scores: np.ndarray) -> np.ndarray:
    """Units by falling score, equals in the order of the text, int64 [m].

    >>> order_of(np.array([0.5, 2.0, 0.5])).tolist()
    [1, 0, 2]
    """
    return np.argsort(-scores, kind="stable")


def removed(order: np.ndarray) -> np.ndarray:
    """The sets left after the first 0, 1, .., m units of an order are removed, bool [m + 1, m]."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[None, :] >= np.arange(len(order) + 1)[:, None]


def sets_of(orders: Sequence[np.ndarray], counts: Sequence[int]) -> np.ndarray:
    """The sets that orders need when the first k units go, or stay alone, for some k; bool [n, m]."""
    return np.concatenate([sets[list(counts)] for order in orders for sets in (removed(order), ~removed(order))])


def comprehensiveness(values: Values, order: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """f(all) - f(all but the first k of the order) for every k of `counts`, float64; larger is better."""
    return values.full - values(removed(order)[list(counts)])


def sufficiency(values: Values, order: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """f(all) - f(the first k of the order alone) for every k of `counts`, float64; smaller is better."""
    return values.full - values(~removed(order)[list(counts)])


def area(values: Values, order: np.ndarray) -> float:
    """AOPC: the mean of the comprehensiveness over k = 1..m; of the reversed order, the same for the sufficiency.

    >>> weights = np.array([4.0, 2.0])
    >>> area(Values(lambda sets: sets @ weights, 2), np.array([0, 1]))  # (4 + 6) / 2
    5.0
    """
    return float(comprehensiveness(values, order, range(1, values.n_units + 1)).mean())


@dataclass(frozen=True)
class Limits:
    """The smallest and the largest area that any order reaches; `exact` says whether all were considered."""

    low: float
    high: float
    exact: bool

    def share(self, value: float) -> float:
        """Where an area lies between them, 0..1, outside where it beats a beam; 0 where they are equal."""
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0


def area_limits(values: Values) -> Limits:
    """The limits of the area over all orders.

    Exact up to 10 units: with g(R) = f(all) - f(all but R), the best way on from a removed set R is the maximum over i
    of g(R and i) + the best way on from there, so that 2^m sets are valued, not m! orders. Beyond, a beam search of
    width 5, whose limits lie within the true ones.
    """
    if values.n_units <= EXACT_UNITS:
        return Limits(*_exact_limits(values), exact=True)
    return Limits(_beam(values, -1.0), _beam(values, 1.0), exact=False)


def n_kept(fraction: float, n_units: int) -> int:
    """How many of m units a fraction stands for: the nearest number, at least one.

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
    """The largest (sign 1) or smallest (sign -1) area found by keeping the 5 best sets of every size."""
    m = values.n_units
    beam, totals = np.ones((1, m), dtype=bool), np.zeros(1)
    for _ in range(m):
        row, unit = beam.nonzero()
        sets = beam[row]
        sets[np.arange(len(sets)), unit] = False
        reached = totals[row] + values.full - values(sets)
        order = np.argsort(-sign * reached, kind="stable")
        _, first = np.unique(sets[order], axis=0, return_index=True)  # of ways to the same set, the best
        chosen = order[np.sort(first)[:BEAM]]
        beam, totals = sets[chosen], reached[chosen]
    return float(sign * (sign * totals).max()) / m
