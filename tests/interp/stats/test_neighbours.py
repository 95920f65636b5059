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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cloud", ["even", "clusters", "line", "one place"])
def test_among_many_points_the_threshold_loses_none(cloud, dtype):
    """Few points in every 32nd are near a cluster's, and where most coincide all bounds are equal."""
    random = np.random.default_rng(0)
    points = random.normal(size=(3000, 7))
    if cloud == "clusters":
        points[:1500] = points[:50].repeat(30, axis=0) + 1e-3 * random.normal(size=(1500, 7))
    if cloud == "line":
        points[:, 1:] = 0.0
    if cloud == "one place":
        points[::2] = 1.0
    points, rows = points.astype(dtype), np.arange(1400, 1640)
    for k in (1, 12, 60):
        np.testing.assert_allclose(nearest(points, rows, k)[0], by_a_loop(points, rows, k), rtol=1e-12)


def test_chunks_change_nothing(monkeypatch):
    points, rows = np.random.default_rng(0).normal(size=(90, 4)), np.arange(0, 90, 2)
    whole = nearest(points, rows, 20)
    many = np.random.default_rng(1).normal(size=(2000, 4))
    whole_of_many = nearest(many, rows, 20)
    monkeypatch.setattr(neighbours, "_PRODUCTS", 7 * 90)
    monkeypatch.setattr(neighbours, "_DIFFERENCES", 100)
    monkeypatch.setattr(neighbours, "_TILE", 300)
    for one, same in zip(whole + whole_of_many, nearest(points, rows, 20) + nearest(many, rows, 20), strict=True):
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


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), d=st.integers(1, 5), n=st.integers(0, 40))
def test_distinct_rows_are_the_first_of_each(seed, d, n):
    points = np.random.default_rng(seed).integers(-1, 2, size=(n, d)) * np.array([1.0, -0.0])[seed % 2]
    seen: set[tuple[float, ...]] = set()
    first = [i for i, row in enumerate(points.tolist()) if tuple(row) not in seen and not seen.add(tuple(row))]
    assert distinct_rows(points).tolist() == first


def test_equal_rows_count_once():
    points = np.array([[1.0, 0.0], [2.0, 0.0], [1.0, -0.0], [2.0, 0.0], [1.0, 1e-300]])
    assert distinct_rows(points).tolist() == [0, 1, 4]
    assert distinct_rows(points.astype(np.float32)).tolist() == [0, 1]  # where 1e-300 is 0
