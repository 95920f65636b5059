"""The cloud of a prompt's tokens at a layer, by its Gram matrix, which all that is measured of it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.stats.neighbours import distinct_rows, nearest_of_gram
from probes.geometry.clouds._gride import gride


@dataclass(frozen=True)
class PromptCloud:
    """The points of one prompt and layer, those that coincide counted once.

    Attributes:
        places: which tokens the points are, the first of those that coincide, int64 [n], ascending.
        gram: their products, float64 [n, n].
    """

    places: np.ndarray
    gram: np.ndarray

    @classmethod
    def of(cls, states: np.ndarray) -> PromptCloud:
        """Take in states [tokens, d_model]."""
        places = distinct_rows(states)
        points = states[places].astype(np.float64)
        return cls(places, points @ points.T)

    def gaussian(self, draws: np.ndarray) -> PromptCloud:
        """Return a Gaussian cloud of the same mean and covariance, and as many points.

        Its points are the cloud's own, centred and mixed by standard normal draws. Clouds of a prompt's layers that are
        mixed by the same draws have the covariances between layers too.

        Args:
            draws: [tokens, tokens].
        """
        n = len(self.places)
        mixed = draws[np.ix_(self.places, self.places)] / np.sqrt(max(1, n - 1))
        of_mean = self.gram.mean(axis=1)
        square = of_mean.mean()  # of the mean point's length
        along = mixed @ (of_mean - square)
        spread = mixed @ self.centred() @ mixed.T
        return PromptCloud(self.places, square + along[:, None] + along + (spread + spread.T) / 2)

    def centred(self) -> np.ndarray:
        """Return the products of the points less their mean, [n, n]."""
        if not len(self.gram):
            return self.gram
        of_mean = self.gram.mean(axis=1)
        found: np.ndarray = self.gram - of_mean[:, None] - of_mean + of_mean.mean()
        return found

    def part(self, places: np.ndarray) -> PromptCloud:
        """Return the cloud of the points at `places`, which are some of its own."""
        if len(places) == len(self.places):
            return self
        own = np.searchsorted(self.places, places)
        return PromptCloud(places, self.gram[np.ix_(own, own)])

    def neighbours(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return distances to the k nearest, ascending, and their numbers, [n, k or fewer] each."""
        return nearest_of_gram(self.centred(), k)

    def mean_cosine(self) -> float:
        """Return the mean cosine of two different points; NaN of fewer than two."""
        n, lengths = len(self.gram), self._lengths()
        return float(((self.gram / lengths / lengths[:, None]).sum() - n) / (n * (n - 1))) if n > 1 else float("nan")

    def mean_angle(self, nearest: np.ndarray) -> float:
        """Return the mean angle at 0 between points and their nearest [n, k], radians."""
        lengths = self._lengths()
        cosines = np.take_along_axis(self.gram, nearest, axis=1) / lengths[:, None] / lengths[nearest]
        return float(np.arccos(cosines.clip(-1, 1)).mean())

    def _lengths(self) -> np.ndarray:
        lengths: np.ndarray = np.sqrt(np.diagonal(self.gram).clip(min=np.finfo(float).tiny))
        return lengths


def measured(clouds: Sequence[PromptCloud], scales: Sequence[int], k: Sequence[int]) -> np.ndarray:
    """Measure clouds of one prompt, layer by layer: a row of the items of `items` for each, [layers, items].

    NaN where there are too few points, and for the overlap of the last with a next one.
    """
    deepest = max(2 * max(scales), *k)
    known = [cloud.neighbours(deepest) for cloud in clouds]
    rows = []
    for number, (cloud, (distances, nearest)) in enumerate(zip(clouds, known, strict=True)):
        after = slice(number + 1, number + 2)
        overlaps = _overlaps((cloud, nearest), *zip(clouds[after], [of for _, of in known[after]], strict=True), k=k)
        rows.append(
            [
                *(_dimension(distances, scale) for scale in scales),
                *overlaps,
                cloud.mean_cosine(),
                *(cloud.mean_angle(nearest[:, :n]) if n <= nearest.shape[1] else np.nan for n in k),
            ]
        )
    return np.array(rows, dtype=float)


def items(scales: Sequence[int], k: Sequence[int]) -> list[tuple[str, int]]:
    """Return metric and scale of all that `measured` gives."""
    return [
        *(("dimension", scale) for scale in scales), *(("overlap", n) for n in k), ("mean_cosine", 0),
        *(("neighbour_angle", n) for n in k),
    ]  # fmt: skip


def _dimension(distances: np.ndarray, scale: int) -> float:
    if 2 * scale > distances.shape[1]:
        return float("nan")
    near, far = distances[:, scale - 1], distances[:, 2 * scale - 1]
    apart = near > 0
    return gride(far[apart] / near[apart], scale)


def _overlaps(
    one: tuple[PromptCloud, np.ndarray], *after: tuple[PromptCloud, np.ndarray], k: Sequence[int]
) -> list[float]:
    """Return which share of each point's k nearest are so in the cloud after it too, for each k."""
    if not after:
        return [float("nan")] * len(k)
    both = np.intersect1d(one[0].places, after[0][0].places)
    found = []
    for cloud, nearest in (one, *after):
        same = len(both) == len(cloud.places)
        found.append(nearest if same else cloud.part(both).neighbours(max(k))[1])
    shared = [
        (found[0][:, :n, None] == found[1][:, None, :n]).any(axis=2).mean() if len(both) > n + 1 else np.nan for n in k
    ]
    return [float(share) for share in shared]
