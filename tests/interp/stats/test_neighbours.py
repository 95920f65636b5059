"""Nearest neighbours against a loop over points, with points that coincide, in chunks and where float32 is not sure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.stats import neighbours
from interp.stats.neighbours import distinct_rows, nearest


def by_a_loop(points: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """The k smallest distances of each row from all other points, in float64."""
    found = []
    for row in rows:
        distances = np.sqrt(((points.astype(float) - points[row].astype(float)) ** 2).sum(axis=1))
        found.append(np.sort(np.delete(distances, row))[:k])
    return np.array(found)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 40),
    massive=st.sampled_from([1.0, 1e3, 1e6]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_neighbours_are_those_of_a_loop(seed, k, massive, dtype):
    """A massive dimension of few values leaves nothing of small differences in a float32 product."""
    random = np.random.default_rng(seed)
    points = random.normal(size=(120, 6))
    points[:, 0] = massive * np.round(points[:, 0])
    points[100:110] = points[:10]  # some coincide
    points = points.astype(dtype)
    rows = random.choice(120, 30, replace=False)
    distances, found = nearest(points, rows, k)
    np.testing.assert_allclose(distances, by_a_loop(points, rows, k), rtol=1e-12)
    assert not (found == rows[:, None]).any() and all(len(set(one)) == k for one in found.tolist())
    np.testing.assert_allclose(
        np.linalg.norm(points[rows][:, None].astype(float) - points[found], axis=2), distances, rtol=1e-12
    )


def test_chunks_change_nothing(monkeypatch):
    points, rows = np.random.default_rng(0).normal(size=(90, 4)), np.arange(0, 90, 2)
    whole = nearest(points, rows, 20)
    monkeypatch.setattr(neighbours, "_PRODUCTS", 7 * 90)
    monkeypatch.setattr(neighbours, "_DIFFERENCES", 100)
    for one, same in zip(whole, nearest(points, rows, 20), strict=True):
        np.testing.assert_array_equal(one, same)


def test_with_float32_alone_other_points_would_be_taken(monkeypatch):
    points, rows = np.random.default_rng(0).normal(size=(300, 5)), np.arange(300)
    points[:, 0] = 1e4 * np.round(points[:, 0])
    right = by_a_loop(points, rows, 10)
    np.testing.assert_allclose(nearest(points, rows, 10)[0], right, rtol=1e-12)
    monkeypatch.setattr(neighbours, "_PRECISIONS", (np.float32,))
    assert np.abs(nearest(points, rows, 10)[0] - right).max() > 1e-3


def test_fewer_points_than_neighbours_leave_infinite_distances():
    distances, _ = nearest(np.array([[0.0], [1.0], [5.0]]), np.array([1]), 4)
    assert distances.tolist() == [[1.0, 4.0, np.inf, np.inf]]
    assert nearest(np.zeros((1, 3)), np.array([0]), 2)[0].tolist() == [[np.inf, np.inf]]
    with pytest.raises(InputError, match="k=0: give at least 1 neighbour"):
        nearest(np.zeros((3, 1)), np.array([0]), 0)


def test_equal_rows_count_once():
    points = np.array([[1.0, 0.0], [2.0, 0.0], [1.0, -0.0], [2.0, 0.0], [1.0, 1e-300]])
    assert distinct_rows(points).tolist() == [0, 1, 4]
    assert distinct_rows(points.astype(np.float32)).tolist() == [0, 1]  # where 1e-300 is 0
