"""Metrics of removing tokens in an order, computed from a function of sets of intact tokens, independent of the model.

A set is a row of booleans, one per removable unit (a token, or a word); True is intact. `Values` evaluates each set
once for all orders, methods and metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np

SetFunction: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Sets of intact units, bool [n, m] -> the target's probability (or log-odds) with only these intact, float [n].

A function that draws replacements returns the value of every draw, [n, draw].
"""

EXACT_UNITS = 10  # up to here the limits of the area evaluate all 2^m sets; for more units a beam search is used
BEAM = 5
_MOST_SETS = 252  # 5 of 10: ties of up to ten units are exact


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
        self._known: dict[bytes, np.ndarray] = {}
        self.n_units = n_units

    def __call__(self, sets: np.ndarray) -> np.ndarray:
        """Return the values float64 [n] of sets bool [n, m], as means over draws."""
        return self.draws(sets).mean(axis=1)

    def draws(self, sets: np.ndarray) -> np.ndarray:
        """Return the values of every draw, float64 [n, draw]; of one where nothing is drawn."""
        keys = [row.tobytes() for row in np.packbits(sets.astype(bool), axis=1)]
        new = {key: index for index, key in enumerate(keys) if key not in self._known}
        if new:
            found = self._function(sets[list(new.values())].astype(bool))
            self._known |= dict(zip(new, np.asarray(found, dtype=float).reshape(len(new), -1), strict=True))
        return np.stack([self._known[key] for key in keys])

    @property
    def full(self) -> float:
        """The value of the intact prompt."""
        return float(self(np.ones((1, self.n_units), dtype=bool))[0])

    @property
    def null(self) -> float:
        """The value with every unit removed."""
        return float(self(np.zeros((1, self.n_units), dtype=bool))[0])


class Ranking:
    """Units ranked by falling score; units of equal score are in no order.

    A metric of a ranking is its mean over all orders of the tied units, each as probable as the others. It needs the
    sets of the first k units only: if k ends among t tied units, of which j are in, these are C(t, j) sets, each as
    probable. So the mean is exact where there are at most 252 sets, which always holds for ties of up to ten units.
    Otherwise it is the mean over the given orders.

    Args:
        scores: [m].
        orders: random orders of the units, int64 [m] each, which break ties of too many sets.

    >>> Ranking(np.array([0.5, 2.0, 0.5])).first(2).astype(int).tolist()
    [[1, 1, 0], [0, 1, 1]]
    """

    def __init__(self, scores: np.ndarray, orders: Sequence[np.ndarray] = ()) -> None:
        self.scores, self._orders = scores, orders
        _, self._place = np.unique(-scores, return_inverse=True)

    @classmethod
    def of_order(cls, order: np.ndarray) -> Ranking:
        """Return the ranking of an order of the units, int64 [m], without ties."""
        return cls(-np.argsort(order))

    def reversed(self) -> Ranking:
        """Return the ranking from the lowest score to the highest."""
        return Ranking(-self.scores, [order[::-1] for order in self._orders])

    def first(self, k: int) -> np.ndarray:
        """Return the sets that the first k units can be, each as probable, bool [n, m]."""
        if k == 0:
            return np.zeros((1, len(self.scores)), dtype=bool)
        last = np.sort(self._place)[k - 1]
        certain, tied = self._place < last, np.flatnonzero(self._place == last)
        n_open = k - int(certain.sum())
        if math.comb(len(tied), n_open) <= _MOST_SETS or not self._orders:
            chosen = [list(one) for one in combinations(tied, n_open)]
        else:
            chosen = [order[self._place[order] == last][:n_open].tolist() for order in self._orders]
        sets = np.repeat(certain[None, :], len(chosen), axis=0)
        for row, units in zip(sets, chosen, strict=True):
            row[units] = True
        return sets


def sets_of(rankings: Sequence[Ranking], counts: Sequence[int]) -> np.ndarray:
    """Return the sets without the first k units of each ranking, and with only these, for each k; bool [n, m]."""
    firsts = np.concatenate([ranking.first(k) for ranking in rankings for k in counts])
    return np.unique(np.concatenate([firsts, ~firsts]), axis=0)


def drops(values: Values, ranking: Ranking, counts: Sequence[int], *, kept: bool) -> np.ndarray:
    """Return f(all) - f(all but the first k of the ranking), or f(only these) if `kept`, float64 [k, draw]."""
    firsts = (ranking.first(k) for k in counts)
    return values.full - np.stack([values.draws(one if kept else ~one).mean(axis=0) for one in firsts])


def comprehensiveness(values: Values, ranking: Ranking, counts: Sequence[int]) -> np.ndarray:
    """Return f(all) - f(all but the first k of the ranking) for every k of `counts`, float64; larger is better."""
    return drops(values, ranking, counts, kept=False).mean(axis=1)


def sufficiency(values: Values, ranking: Ranking, counts: Sequence[int]) -> np.ndarray:
    """Return f(all) - f(only the first k of the ranking) for every k of `counts`, float64; smaller is better."""
    return drops(values, ranking, counts, kept=True).mean(axis=1)


def area(values: Values, ranking: Ranking) -> float:
    """Return AOPC: the mean comprehensiveness over k = 1..m; of a reversed ranking, the same of the sufficiency.

    >>> weights = np.array([4.0, 2.0])
    >>> values = Values(lambda sets: sets @ weights, 2)
    >>> area(values, Ranking(weights)), area(values, Ranking(np.zeros(2)))  # (4 + 6) / 2, and the mean with (2 + 6) / 2
    (5.0, 4.5)
    """
    return float(area_draws(values, ranking).mean())


def area_draws(values: Values, ranking: Ranking) -> np.ndarray:
    """Return `area` of every draw, float64 [draw]."""
    return drops(values, ranking, range(1, values.n_units + 1), kept=False).mean(axis=0)


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
    """Return the number of units for a fraction of m: the nearest number, halves rounded up, and at least one.

    >>> n_kept(0.01, 20), n_kept(0.5, 5), n_kept(0.7, 5), n_kept(1.0, 5)
    (1, 3, 4, 5)
    """
    return min(n_units, max(1, math.floor(round(fraction * n_units, 9) + 0.5)))


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
