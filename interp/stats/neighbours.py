"""Nearest neighbours in a cloud of points, exact, by products of chunks of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from interp.errors import InputError

_ROWS = 512  # of products at a time
_PRODUCTS = 1 << 25  # and no more bounds than these, of which few are kept: 128 MiB of float32 where all of them are
_TILE = 1 << 19  # products at a time, which stay in the cache
_EVERY = 32  # points of which one is looked at first
_SPARSE = 8  # times as many points as are wanted, from which on it is worth it
_DIFFERENCES = 1 << 16  # numbers of exact differences held at a time, which stay in the cache
_BY_HAND = 3  # so many candidates are found sooner one after another than by a partition
_ODD = np.uint64(0x9E3779B97F4A7C15)  # any odd number: a product with it loses no bits
_PRECISIONS = (np.float32, np.float64)  # the second for rows of which the first is not sure


def distinct_rows(points: np.ndarray) -> np.ndarray:
    """Return the index of the first of each set of equal rows of points [n, d], int64 [distinct], ascending.

    >>> distinct_rows(np.array([[0.0, 1.0], [2.0, 3.0], [-0.0, 1.0]])).tolist()
    [0, 1]
    """
    if not points.size:
        return np.arange(min(1, len(points)))
    # Two coordinates tell nearly all rows apart: only rows that share these are compared as wholes.
    some = (points[:, [0, points.shape[1] // 2]].astype(float) + 0.0).view(np.uint64)
    _, place, n_alike = np.unique(some[:, 0] * _ODD + some[:, 1], return_inverse=True, return_counts=True)
    alike = np.flatnonzero(n_alike[place] > 1)
    kept: dict[bytes, int] = {}
    for index in alike.tolist():
        kept.setdefault((points[index] + 0.0).tobytes(), index)  # -0.0 and 0.0 are one number with different bytes
    distinct = np.ones(len(points), dtype=bool)
    distinct[alike] = False
    distinct[list(kept.values())] = True
    return np.flatnonzero(distinct)


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
    if n < 2:
        return distances, found
    unsure = np.arange(len(rows))
    size = max(1, min(_ROWS, _PRODUCTS // n))
    for precision in _PRECISIONS:
        if not len(unsure):
            break
        bounds = _Bounds(points, precision)
        for more in (max(1, k // 8), k + 8):  # few rows of float32 need the second, and hardly any float64
            again, n_candidates = [unsure[:0]], min(k + more, n - 1)
            for block in np.array_split(unsure, range(size, len(unsure), size)):
                own = rows[block]
                candidates, last = bounds.lowest(own, n_candidates)
                squares = _square_distances(points, own, candidates)
                order = np.argsort(squares, axis=1, kind="stable")[:, :k]
                width = order.shape[1]
                ascending = np.take_along_axis(squares, order, axis=1)
                distances[block, :width] = np.sqrt(ascending)
                found[block, :width] = np.take_along_axis(candidates, order, axis=1)
                # Either all points are candidates, or all others are at least as far as the last candidate's bound.
                furthest = (ascending[:, -1] - _squares(points[own]) * (1 - bounds.slack)) / 2
                again.append(block[(furthest > last) & (n_candidates < n - 1)])
            unsure = np.concatenate(again)
            if not len(unsure):
                break
    return distances, found


class _Bounds:
    """A cloud, ready for lower bounds of distances by products in one precision; see `_slack`.

    Bounds are computed a tile at a time, and only those are kept that are below a threshold for the row: a rank among
    the bounds of every 32nd point, so high that more than enough are nearly always below it.
    """

    def __init__(self, points: np.ndarray, precision: type[np.floating[Any]]) -> None:
        self.others = points.astype(precision, copy=False)
        self.slack = _slack(points.shape[1], precision)
        squares: np.ndarray = np.einsum("nd,nd->n", self.others, self.others)
        self._least = squares * precision(0.5 - self.slack)
        self._buffer = np.empty((0, len(points)), precision)
        self._some = np.ascontiguousarray(self.others[::_EVERY])

    def lowest(self, own: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the n points of lowest bound for each of `own`, [own, n], and the highest of these bounds, [own]."""
        rank = int(n / _EVERY + 3 * np.sqrt(n / _EVERY)) + 3
        if n <= _BY_HAND or n * _SPARSE > len(self.others) or rank >= len(self._some):
            return self._of_all(own, n)
        some = self._some @ self.others[own].T
        np.subtract(self._least[::_EVERY, None], some, out=some)
        (point, bound), n_kept = self._below(own, np.partition(some, rank, axis=0)[rank])
        few = n_kept < n
        places, last = np.empty((len(own), n), dtype=int), np.empty(len(own))
        if few.any():
            places[few], last[few] = self._of_all(own[few], n)
        many = np.flatnonzero(~few)
        starts = np.cumsum(n_kept) - n_kept
        for each in many.tolist():
            part = slice(starts[each], starts[each] + n_kept[each])
            chosen = np.argpartition(bound[part], n - 1)[:n]
            places[each], last[each] = point[part][chosen], bound[part][chosen].max()
        return places, last

    def _below(self, own: np.ndarray, most: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Return points and bounds of all bounds up to `most` [own], row by row, and how many each row has, [own]."""
        width = max(1, _TILE // len(own))
        mine, buffer = self.others[own], np.empty(len(own) * width, self.others.dtype)
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for start in range(0, len(self.others), width):
            tile = self.others[start : start + width]
            products = buffer[: len(own) * len(tile)].reshape(len(own), len(tile))
            np.matmul(mine, tile.T, out=products)
            np.subtract(self._least[start : start + width], products, out=products)
            flat = np.flatnonzero(products <= most[:, None])
            row, column = np.divmod(flat, len(tile))
            other = column + start != own[row]
            parts.append((row[other], column[other] + start, products.ravel()[flat[other]]))
        row, point, bound = (np.concatenate(one) for one in zip(*parts, strict=True))
        order = np.argsort(row, kind="stable")
        return (point[order], bound[order]), np.bincount(row, minlength=len(own))

    def _of_all(self, own: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        if len(self._buffer) < len(own):
            self._buffer = np.empty((len(own), len(self.others)), self.others.dtype)
        bounds, each = self._buffer[: len(own)], np.arange(len(own))
        np.matmul(self.others[own], self.others.T, out=bounds)
        np.subtract(self._least, bounds, out=bounds)
        bounds[each, own] = np.inf
        if n > _BY_HAND:
            # A row at a time stays in the cache.
            places = np.stack([np.argpartition(row, n - 1)[:n] for row in bounds])
            return places, np.take_along_axis(bounds, places, axis=1).max(axis=1).astype(np.float64)
        places = np.empty((len(own), n), dtype=int)
        for column in range(n):
            places[:, column] = bounds.argmin(axis=1)
            last = bounds[each, places[:, column]].astype(np.float64)
            bounds[each, places[:, column]] = np.inf
        return places, last


def _square_distances(points: np.ndarray, own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the squared distances of points `own` [rows] from `others` [rows, n], in float64."""
    n, d = others.shape[1], points.shape[1]
    size = max(1, _DIFFERENCES // (n * d))
    found, buffer = np.empty(others.shape), np.empty((min(size, len(own)), n, d))
    for start in range(0, len(own), size):
        part = slice(start, start + size)
        differences = buffer[: len(own[part])]
        differences[...] = points[others[part]]
        differences -= points[own[part], None].astype(float)
        found[part] = np.vecdot(differences, differences)
    return found


def _squares(vectors: np.ndarray) -> np.ndarray:
    """Return the squared lengths of vectors [..., d], float64 [...]."""
    squares: np.ndarray = np.einsum("...d,...d->...", vectors, vectors, dtype=np.float64)
    return squares


def _slack(d: int, precision: type[np.floating[Any]]) -> float:
    """Return the slack with which |y|² (1/2 - slack) - x y, computed in this precision, is a lower bound for every y.

    The bound is at most (|x - y|² - |x|² (1 - slack)) / 2. It is |y|² / 2 - x y minus the largest possible rounding
    error: a sum of d products of rounded factors, and the roundings of its difference from |y|² / 2, are wrong by at
    most (d + 6) eps / 2 of the sum of their sizes (Higham, Accuracy and Stability of Numerical Algorithms, section
    3.1), which is |x| |y| + |y|² / 2, so at most |x|² / 2 + |y|²; |y|² itself is wrong by (d + 6) eps / 2 of it. The
    slack is a third more than their sum.
    """
    return (d + 6) * float(np.finfo(precision).eps)


def nearest_of_gram(gram: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return distances to the k nearest neighbours in a small cloud, and their indices, from products of its points.

    Args:
        gram: x y of all pairs of points, float64 [n, n]; better centred, as |x|² + |y|² - 2 x y of points far from 0
            loses digits.
        k: number of neighbours; fewer are returned if there are fewer other points.

    Returns:
        Distances, ascending, and indices, int64, [n, min(k, n - 1)] each.

    Raises:
        InputError: k is below 1.

    >>> line = np.array([[0.0], [1.0], [3.0]])
    >>> nearest_of_gram(line @ line.T, 2)[0].tolist()
    [[1.0, 3.0], [1.0, 2.0], [2.0, 3.0]]
    """
    if k < 1:
        raise InputError(f"k={k}: give at least 1 neighbour.")
    n = len(gram)
    k = min(k, n - 1)
    if k < 1:
        return np.empty((n, 0)), np.empty((n, 0), dtype=int)
    squares = np.diagonal(gram)
    distances = squares[:, None] + squares - 2 * gram
    np.fill_diagonal(distances, np.inf)
    nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
    found = np.take_along_axis(distances, nearest, axis=1)
    order = np.argsort(found, axis=1, kind="stable")
    return np.sqrt(np.take_along_axis(found, order, axis=1).clip(min=0)), np.take_along_axis(nearest, order, axis=1)
