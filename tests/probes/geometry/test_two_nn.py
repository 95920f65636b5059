"""TwoNN: against a loop over points and other packages, on clouds of known dimension, with points that coincide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.stats import neighbours
from probes.geometry._two_nn import Cloud, intrinsic_dimension

pytestmark = pytest.mark.trained


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def by_a_loop(points: np.ndarray) -> float:
    """TwoNN point by point, all kept."""
    ratios = []
    for index, point in enumerate(points):
        distances = np.sqrt(((points - point) ** 2).sum(axis=1))
        distances[index] = np.inf
        nearest, second = np.sort(distances)[:2]
        ratios.append(second / nearest)
    ordered = np.log(np.sort(ratios))[: len(points) // 5]
    height = -np.log(1 - np.arange(1, len(ordered) + 1) / len(points))
    return float((ordered * height).sum() / (ordered**2).sum())


def test_two_nn_equals_a_loop_over_points():
    points = normal(700, 30)
    assert intrinsic_dimension(points)[0] == pytest.approx(by_a_loop(points), rel=1e-10)


@pytest.mark.slow
def test_two_nn_equals_a_loop_at_full_size():
    points = normal(4096, 256)
    assert intrinsic_dimension(points)[0] == pytest.approx(by_a_loop(points), rel=1e-10)


@pytest.mark.parametrize(("true", "expected"), [(2, 2.0), (5, 4.8), (10, 9.9)])
def test_two_nn_knows_gaussian_clouds(true, expected):
    found = [intrinsic_dimension(normal(2000, true, seed))[0] for seed in range(10)]
    # A fifth of 2,000 points tell one cloud's dimension to about 7 %, ten clouds to 2.5 %.
    assert np.mean(found) == pytest.approx(expected, rel=3 * 0.025)


def test_two_nn_does_not_see_where_a_cloud_lies_and_how_large_it_is():
    points = normal(500, 5)
    rotation = np.linalg.qr(normal(25, 25, seed=1))[0]
    turned = np.pad(points, ((0, 0), (0, 20))) @ rotation
    assert intrinsic_dimension(7 * turned + 3)[0] == pytest.approx(intrinsic_dimension(points)[0], rel=1e-6)


def test_points_that_coincide_count_once():
    points = normal(500, 3)
    nearly = np.concatenate([points, points[:200], points[:50] * (1 + 1e-9)])
    assert intrinsic_dimension(nearly)[1] == 500
    assert intrinsic_dimension(nearly)[0] == pytest.approx(intrinsic_dimension(points)[0], rel=1e-5)
    assert np.isnan(intrinsic_dimension(points[:3])[0])
    with pytest.raises(InputError, match="keep=0"):
        intrinsic_dimension(points, keep=0)


def two_by_a_loop(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the two nearest points and which they are, one point at a time in float64."""
    found = []
    for index, point in enumerate(points):
        distances = np.sqrt(((points - point) ** 2).sum(axis=1))
        distances[index] = np.inf
        found.append((np.sort(distances)[:2], np.argsort(distances, kind="stable")[:2]))
    return tuple(np.array(part) for part in zip(*found, strict=True))  # type: ignore[return-value]


def assert_nearest(cloud: Cloud) -> None:
    distances, nearest = two_by_a_loop(cloud.points)
    np.testing.assert_allclose(cloud.distances, distances, rtol=1e-12)
    np.testing.assert_array_equal(cloud.nearest, nearest)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), massive=st.sampled_from([1.0, 1e3, 1e6]))
def test_neighbours_are_the_nearest_whatever_float32_would_say(seed: int, massive: float) -> None:
    """A massive dimension of few values leaves nothing of small differences in a float32 product."""
    points = normal(80, 5, seed)
    points[:, 0] = massive * np.round(points[:, 0])
    assert_nearest(Cloud.of(points))


def test_float32_alone_would_be_wrong(monkeypatch):
    """The case above at its hardest: with its products in float32 only, other points are taken for the nearest."""
    points = normal(300, 5)
    points[:, 0] = 1e4 * np.round(points[:, 0])
    assert_nearest(Cloud.of(points))
    monkeypatch.setattr(neighbours, "_PRECISIONS", (np.float32,))
    with pytest.raises(AssertionError):
        assert_nearest(Cloud.of(points))


def test_a_part_of_a_cloud_is_the_cloud_of_the_part():
    points = normal(300, 6)
    points[200:220] = points[:20]
    chosen = np.random.default_rng(1).random(300) < 0.6
    part = Cloud.of(points).part(chosen)
    assert_nearest(part)
    # A point that an earlier one stands for belongs where that one does.
    kept = [index for index in range(300) if chosen[index] and not 200 <= index < 220]
    assert part.origin.tolist() == kept
    assert part.dimension()[0] == pytest.approx(intrinsic_dimension(points[kept])[0], rel=1e-10)


@pytest.mark.parametrize(
    ("n", "d", "padded", "dadapy_fifth", "dadapy_most", "scikit_dimension"),
    [(300, 3, 3, 2.3408095558, 2.9266111536, 2.9266111552), (500, 8, 40, 8.0183638081, 8.6223302720, 8.6223302720)],
)
def test_other_packages_find_the_same(n, d, padded, dadapy_fifth, dadapy_most, scikit_dimension):
    """What benchmarks/peer_two_nn.py prints; DADApy searches the slope in steps, to about 1e-9 of it."""
    points = np.pad(normal(n, d, seed=d), ((0, 0), (0, padded - d)))
    assert intrinsic_dimension(points)[0] == pytest.approx(dadapy_fifth, rel=1e-8)
    assert intrinsic_dimension(points, keep=0.9)[0] == pytest.approx(dadapy_most, rel=1e-8)
    assert intrinsic_dimension(points, keep=0.9)[0] == pytest.approx(scikit_dimension, abs=1e-10)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_few_points_have_no_dimension(n):
    dimension, count = intrinsic_dimension(normal(n, 3))
    assert np.isnan(dimension) and count == n
