"""TwoNN (Facco et al. 2017, doi 10.1038/s41598-017-11873-y): dimension from every point's two nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interp.authoring import InputError
from interp.stats.neighbours import distinct_rows, nearest

# Points nearer than this share of the cloud's size are one state that was computed in batches of different shape.
_SAME = 1e-5


def intrinsic_dimension(points: np.ndarray, keep: float = 0.2) -> tuple[float, int]:
    """Estimate the dimension by TwoNN as LLM-Microscope does: the slope of -log(1 - F) on log(r2 / r1) through 0.

    Points that coincide (such as equal tokens before the first block) have no nearest distance and are counted once. A
    dimension above about ten comes out too low at a few thousand points: 20 as about 17.

    Args:
        points: [n, d].
        keep: share of the points to fit the slope on, those of smallest ratio; the tail is noise.

    Returns:
        The dimension, NaN if fewer than 3 points are left to fit, and the number of different points.

    Raises:
        InputError: `keep` is not a share.

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
    """A cloud of different points with each point's two nearest neighbours, computed once for all its parts.

    Attributes:
        points: float64 [n, d], centred, of mean square norm 1.
        origin: index of each point among the points given, the first of those that coincide, [n].
        distances: to the two nearest neighbours, ascending, [n, 2]; infinite if there are fewer.
        nearest: indices of those neighbours, [n, 2].
    """

    points: np.ndarray
    origin: np.ndarray
    distances: np.ndarray
    nearest: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray) -> Cloud:
        """Build the cloud of points [n, d]; some may coincide."""
        given = np.asarray(points, dtype=np.float64)
        origin = distinct_rows(given)
        n = max(1, len(origin))
        centred = given[origin] - given[origin].sum(0) / n
        size = np.sqrt((centred**2).sum() / n)
        centred /= size if size > 0 else 1.0
        cloud = cls(centred, origin, *nearest(centred, np.arange(len(centred)), 2))
        while (twins := cloud._twins()).any():
            cloud = cloud._of(~twins)
        return cloud

    def part(self, chosen: np.ndarray) -> Cloud:
        """Return the cloud of the chosen points; `chosen` has a bool for each of the points given."""
        return self._of(chosen[self.origin])

    def dimension(self, keep: float = 0.2) -> tuple[float, int]:
        """Estimate the dimension, see `intrinsic_dimension`."""
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
        if share[-1] == 1:  # leave out the last point of all: its -log(1 - F) is infinite
            share, kept = share[:-1], kept[: n_fitted - 1]
        log_ratio = np.log(kept[: len(share)])
        return float(log_ratio @ -np.log1p(-share) / (log_ratio @ log_ratio)), n

    def _twins(self) -> np.ndarray:
        """Flag the points that are the same as an earlier one, bool [n]."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        own, place = (self.distances < _SAME).nonzero()
        pairs = coo_array((np.ones(len(own)), (own, self.nearest[own, place])), shape=(len(self.points),) * 2)
        _, state = connected_components(pairs, directed=False)
        twins = np.ones(len(self.points), dtype=bool)
        twins[np.unique(state, return_index=True)[1]] = False
        return twins

    def _of(self, kept: np.ndarray) -> Cloud:
        """Keep only the points flagged in `kept` [n]; find new neighbours for points that lose one."""
        place = np.cumsum(kept) - 1
        points = self.points[kept]
        distances, neighbours = self.distances[kept], place[self.nearest[kept]]
        bereft = (~kept[self.nearest[kept]].all(axis=1)).nonzero()[0]
        distances[bereft], neighbours[bereft] = nearest(points, bereft, 2)
        return Cloud(points, self.origin[kept], distances, neighbours)
