"""TwoNN (Facco et al. 2017, doi 10.1038/s41598-017-11873-y): dimension from every point's two nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from interp.authoring import InputError

# Points nearer than this share of the cloud's size are the same state, computed in batches of different shape.
_SAME = 1e-5
_ROWS = 512  # of products at once: with 4,096 points, 8 MiB of float32
_CANDIDATES = 3  # the two nearest, and one that tells how far all others are at least


def intrinsic_dimension(points: np.ndarray, keep: float = 0.2) -> tuple[float, int]:
    """TwoNN with LLM-Microscope's estimator: the slope of -log(1 - F) on log(r2 / r1) through the origin.

    Points that coincide (equal tokens before the first block, say) have no nearest distance and are counted once. A
    dimension above about ten comes out too low at a few thousand points: 20 as about 17.

    Args:
        points: [n, d].
        keep: share of the points, those of smallest ratio, that the slope is fitted on; the tail is noise.

    Returns:
        The dimension, NaN where fewer than 3 points are left to fit, and the number of different points.

    Raises:
        InputError: `keep` is no share.

    >>> square = np.random.default_rng(0).random((2000, 2))
    >>> dimension, n_points = intrinsic_dimension(square)
    >>> 1.8 < dimension < 2.1, n_points
    (True, 2000)
    """
    if not 0 < keep <= 1:
        raise InputError(f"keep={keep}: give a share of the points above 0, up to 1.")
    return Cloud.of(points).dimension(keep)


@dataclass(frozen=True)
class Cloud:
    """Different points and the two nearest of the others to each, computed once for the cloud and all its parts.

    Attributes:
        points: float64 [n, d], centred, of mean square norm 1.
        origin: which of the points given each was, the first of those that coincide, [n].
        distances: to the two nearest, ascending, [n, 2]; infinite where there are fewer.
        nearest: which those are, [n, 2].
    """

    points: np.ndarray
    origin: np.ndarray
    distances: np.ndarray
    nearest: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray) -> Cloud:
        """Of points [n, d], some of which may coincide."""
        given = np.asarray(points, dtype=np.float64) + 0.0  # -0.0 and 0.0 are the same number, of different bytes
        kept: dict[bytes, int] = {}
        for index, point in enumerate(given):
            kept.setdefault(point.tobytes(), index)
        origin = np.array(list(kept.values()), dtype=int)
        n = max(1, len(origin))
        centred = given[origin] - given[origin].sum(0) / n
        size = np.sqrt((centred**2).sum() / n)
        centred /= size if size > 0 else 1.0
        cloud = cls(centred, origin, *_two_nearest(centred, np.arange(len(centred))))
        while (twins := cloud._twins()).any():
            cloud = cloud._of(~twins)
        return cloud

    def part(self, chosen: np.ndarray) -> Cloud:
        """The cloud of those of the points given where `chosen`, a bool for each of them, holds."""
        return self._of(chosen[self.origin])

    def dimension(self, keep: float = 0.2) -> tuple[float, int]:
        """See `intrinsic_dimension`."""
        n = len(self.points)
        if n < 3:
            return float("nan"), n
        ratios = self.distances[:, 1] / self.distances[:, 0]
        kept = np.sort(ratios[ratios > 1 + 1e-8])
        n_dropped = len(ratios) - len(kept)
        n_fitted = int(keep * len(kept))
        if n_fitted < 3:
            return float("nan"), n
        share = (np.arange(1, n_fitted + 1) + n_dropped) / len(ratios)
        if share[-1] == 1:  # the last point of all, whose -log(1 - F) is infinite
            share, kept = share[:-1], kept[: n_fitted - 1]
        log_ratio = np.log(kept[: len(share)])
        return float(log_ratio @ -np.log1p(-share) / (log_ratio @ log_ratio)), n

    def _twins(self) -> np.ndarray:
        """Points that are the same as an earlier one, bool [n]."""
        own, place = (self.distances < _SAME).nonzero()
        pairs = coo_array((np.ones(len(own)), (own, self.nearest[own, place])), shape=(len(self.points),) * 2)
        _, state = connected_components(pairs, directed=False)
        twins = np.ones(len(self.points), dtype=bool)
        twins[np.unique(state, return_index=True)[1]] = False
        return twins

    def _of(self, kept: np.ndarray) -> Cloud:
        """Only the points where `kept` [n] holds; those of them that lose a neighbour look for another."""
        place = np.cumsum(kept) - 1
        points = self.points[kept]
        distances, nearest = self.distances[kept], place[self.nearest[kept]]
        bereft = (~kept[self.nearest[kept]].all(axis=1)).nonzero()[0]
        distances[bereft], nearest[bereft] = _two_nearest(points, bereft)
        return Cloud(points, self.origin[kept], distances, nearest)


def _two_nearest(points: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the two points nearest to those in `rows` and which they are, [rows, 2] each.

    Products in float32 bound every distance from below. The lowest bounds are of the candidates, whose distances are
    computed exactly; where the second nearest of them is no further than the last bound, no other point can be nearer.
    Else the row is done again in float64.
    """
    n = len(points)
    distances, nearest = np.full((len(rows), 2), np.inf), np.zeros((len(rows), 2), dtype=int)
    n_candidates = min(_CANDIDATES, n - 1)
    if n_candidates < 1:
        return distances, nearest
    unsure = np.arange(len(rows))
    for precision in (np.float32, np.float64):
        if not len(unsure):
            break
        others, slack = _bounding(points, precision)
        products = np.empty((min(_ROWS, len(unsure)), n), precision)
        again = []
        for block in np.array_split(unsure, range(_ROWS, len(unsure), _ROWS)):
            own, each = rows[block], np.arange(len(block))
            left = np.column_stack([-points[own], np.ones(len(block))]).astype(precision)
            bounds = np.matmul(left, others.T, out=products[: len(block)])
            bounds[each, own] = np.inf
            candidates = np.empty((len(block), n_candidates), dtype=int)
            for column in range(n_candidates):
                candidates[:, column] = bounds.argmin(axis=1)
                last = bounds[each, candidates[:, column]].astype(np.float64)
                bounds[each, candidates[:, column]] = np.inf
            squares = ((points[own][:, None] - points[candidates]) ** 2).sum(axis=2)
            two = np.argsort(squares, axis=1, kind="stable")[:, :2]
            width = two.shape[1]
            found = np.take_along_axis(squares, two, axis=1)
            distances[block, :width] = np.sqrt(found)
            nearest[block, :width] = np.take_along_axis(candidates, two, axis=1)
            # All points are candidates, or the others are at least as far as the last of them may be.
            furthest = found[:, -1] / 2 - (points[own] ** 2).sum(axis=1) * (1 - slack) / 2
            again.append(block[(furthest > last) & (n_candidates < n - 1)])
        unsure = np.concatenate(again)
    return distances, nearest


def _bounding(points: np.ndarray, precision: type[np.floating]) -> tuple[np.ndarray, float]:
    """Matrix [n, d + 1], and slack: its product with (-x, 1) is at most (|x - y|² - |x|² (1 - slack)) / 2 for every y.

    The product is |y|² / 2 - x y less what rounding can make of it: a sum of d + 1 products of rounded factors is wrong
    by at most (d + 6) eps of the sum of their sizes (Higham, Accuracy and Stability of Numerical Algorithms, section
    3.1), which is |x| |y| + |y|² / 2, and so at most |x|² / 2 + |y|².
    """
    slack = (points.shape[1] + 6) * float(np.finfo(precision).eps)
    others = np.empty((len(points), points.shape[1] + 1), precision)
    others[:, :-1] = points
    others[:, -1] = (points**2).sum(axis=1) * (0.5 - slack)
    return others, slack
