"""Nearest neighbours in a cloud of points, exact, by products of chunks of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from interp.errors import InputError

_ROWS = 512  # of products at a time: with 4,096 points, 8 MiB of float32
_PRODUCTS = 1 << 25  # and no more products than these, 128 MiB of float32
_DIFFERENCES = 1 << 16  # numbers of exact differences held at a time, which stay in the cache
_PRECISIONS = (np.float32, np.float64)  # the second for rows of which the first is not sure
_BY_HAND = 3  # so many candidates are found sooner one after another than by a partition


def distinct_rows(points: np.ndarray) -> np.ndarray:
    """Return the index of the first of each set of equal rows of points [n, d], int64 [distinct], ascending.

    >>> distinct_rows(np.array([[0.0, 1.0], [2.0, 3.0], [-0.0, 1.0]])).tolist()
    [0, 1]
    """
    kept: dict[bytes, int] = {}
    for index, point in enumerate(points):
        kept.setdefault((point + 0.0).tobytes(), index)  # -0.0 and 0.0 are one number with different bytes
    return np.array(list(kept.values()), dtype=int)


def nearest(points: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances of the points in `rows` to their k nearest neighbours, and the indices, [rows, k] each.

    A point is no neighbour of itself; one that coincides with it is. Products in float32 bound every distance from
    below. The points of lowest bound are the candidates; their distances are computed exactly. If the k-th nearest of
    them is not further than the last bound, no other point can be nearer. Otherwise the row is computed again in
    float64.

    Args:
        points: [n, d], float32 or float64; better centred, as the bounds of points far from 0 are loose.
        rows: indices of points, int64 [rows].
        k: number of neighbours.

    Returns:
        Distances, float64, ascending, infinite where there are fewer than k other points; and indices, int64.

    Raises:
        InputError: k is below 1.

    >>> line = np.array([[0.0], [1.0], [3.0]])
    >>> nearest(line, np.array([0, 1]), 2)[0].tolist()
    [[1.0, 3.0], [1.0, 2.0]]
    """
    if k < 1:
        raise InputError(f"k={k}: give at least 1 neighbour.")
    n = len(points)
    distances, found = np.full((len(rows), k), np.inf), np.zeros((len(rows), k), dtype=int)
    n_candidates = min(k + max(1, k // 8), n - 1)
    if n_candidates < 1:
        return distances, found
    squared = _squares(points)
    unsure = np.arange(len(rows))
    size = max(1, min(_ROWS, _PRODUCTS // n))
    for precision in _PRECISIONS:
        if not len(unsure):
            break
        others, slack = points.astype(precision, copy=False), _slack(points.shape[1], precision)
        least = (squared * (0.5 - slack)).astype(precision)
        products = np.empty((min(size, len(unsure)), n), precision)
        again = []
        for block in np.array_split(unsure, range(size, len(unsure), size)):
            own, each = rows[block], np.arange(len(block))
            bounds = np.matmul(others[own], others.T, out=products[: len(block)])
            np.subtract(least, bounds, out=bounds)
            bounds[each, own] = np.inf
            candidates, last = _lowest(bounds, n_candidates)
            squares = _square_distances(points, own, candidates)
            order = np.argsort(squares, axis=1, kind="stable")[:, :k]
            width = order.shape[1]
            ascending = np.take_along_axis(squares, order, axis=1)
            distances[block, :width] = np.sqrt(ascending)
            found[block, :width] = np.take_along_axis(candidates, order, axis=1)
            # Either all points are candidates, or all others are at least as far as the last candidate's bound.
            furthest = ascending[:, -1] / 2 - squared[own] * (1 - slack) / 2
            again.append(block[(furthest > last) & (n_candidates < n - 1)])
        unsure = np.concatenate(again)
    return distances, found


def _lowest(bounds: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the n lowest bounds of each row, [rows, n], and the highest of these, float64 [rows]."""
    each = np.arange(len(bounds))
    if n > _BY_HAND:
        places = np.stack([np.argpartition(row, n - 1)[:n] for row in bounds])  # a row at a time stays in the cache
        return places, np.take_along_axis(bounds, places, axis=1).max(axis=1).astype(np.float64)
    places = np.empty((len(bounds), n), dtype=int)
    for column in range(n):
        places[:, column] = bounds.argmin(axis=1)
        last = bounds[each, places[:, column]].astype(np.float64)
        bounds[each, places[:, column]] = np.inf
    return places, last


def _square_distances(points: np.ndarray, own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the squared distances of points `own` [rows] from `others` [rows, n], in float64."""
    size = max(1, _DIFFERENCES // (others.shape[1] * points.shape[1]))
    found = np.empty(others.shape)
    for start in range(0, len(own), size):
        part = slice(start, start + size)
        found[part] = _squares(points[own[part]][:, None].astype(float) - points[others[part]])
    return found


def _squares(vectors: np.ndarray) -> np.ndarray:
    """Return the squared lengths of vectors [..., d], float64 [...]."""
    squares: np.ndarray = np.einsum("...d,...d->...", vectors, vectors, dtype=np.float64)
    return squares


def _slack(d: int, precision: type[np.floating[Any]]) -> float:
    """Return the slack with which |y|² (1/2 - slack) - x y, computed in this precision, is a lower bound for every y.

    The bound is at most (|x - y|² - |x|² (1 - slack)) / 2. It is |y|² / 2 - x y minus the largest possible rounding
    error: a sum of d products of rounded factors, and the two roundings of its difference from the rounded |y|² / 2,
    are wrong by at most (d + 6) eps of the sum of their sizes (Higham, Accuracy and Stability of Numerical Algorithms,
    section 3.1). That sum is |x| |y| + |y|² / 2, so at most |x|² / 2 + |y|².
    """
    return (d + 6) * float(np.finfo(precision).eps)
