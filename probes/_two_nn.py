"""TwoNN (Facco et al. 2017, doi 10.1038/s41598-017-11873-y): dimension from every point's two nearest neighbours."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from interp.errors import InputError

# Distances from products cancel: near ties are told apart by computing those of a few more neighbours anew.
_CANDIDATES = 4
# Points nearer than this share of the cloud's size are the same state, computed in batches of different shape.
_SAME = 1e-5


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
    points = np.unique(np.asarray(points, dtype=np.float64), axis=0)
    points -= points.mean(0)
    same = _SAME * np.sqrt((points**2).sum(1).mean())
    while len(points) > _CANDIDATES:
        distances, nearest = _nearest(points)
        twins = (distances[:, 0] < same) & (nearest < np.arange(len(points)))
        if not twins.any():
            break
        points = points[~twins]
    else:
        return float("nan"), len(points)
    ratios = distances[:, 1] / distances[:, 0]
    kept = np.sort(ratios[ratios > 1 + 1e-8])
    n_dropped = len(ratios) - len(kept)
    n_fitted = int(keep * len(kept))
    if n_fitted < 3:
        return float("nan"), len(points)
    share = (np.arange(1, n_fitted + 1) + n_dropped) / len(ratios)
    if share[-1] == 1:  # the last point of all, whose -log(1 - F) is infinite
        share, kept = share[:-1], kept[: n_fitted - 1]
    log_ratio = np.log(kept[: len(share)])
    return float(log_ratio @ -np.log1p(-share) / (log_ratio @ log_ratio)), len(points)


def _nearest(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the nearest points, ascending [n, _CANDIDATES], and which one is the nearest [n]."""
    search = NearestNeighbors(n_neighbors=_CANDIDATES, algorithm="brute").fit(points)
    nearest = search.kneighbors(return_distance=False)
    distances = np.stack([np.linalg.norm(points - points[column], axis=1) for column in nearest.T], axis=1)
    first = nearest[np.arange(len(points)), distances.argmin(axis=1)]
    return np.sort(distances, axis=1), first
