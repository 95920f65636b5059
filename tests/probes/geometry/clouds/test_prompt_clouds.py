"""A prompt's cloud: dimension by likelihood, against plain distances, its Gaussian point by point, and invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist

from probes.geometry.clouds._gride import gride
from probes.geometry.clouds._prompt_clouds import PromptCloud, items, measured

SCALES, K = (1, 2, 4), (1, 5)


def values(*clouds: np.ndarray) -> list[dict[tuple[str, int], float]]:
    """The items of clouds of points [n, d], each followed by the next."""
    rows = measured([PromptCloud.of(one) for one in clouds], SCALES, K)
    return [dict(zip(items(SCALES, K), row, strict=True)) for row in rows]


@pytest.mark.parametrize("scale", [1, 2, 8, 64])
def test_the_dimension_is_the_most_likely_one(scale):
    """Against a search for the maximum of the likelihood, with N - 1 in place of N as of an unbiased estimate."""
    ratios = np.exp(np.random.default_rng(scale).standard_exponential(200) / 7) + 1e-9

    def log_likelihood(d: float) -> float:
        x = d * np.log(ratios)
        return float(199 * np.log(d) + ((scale - 1) * np.log1p(-np.exp(-x)) - scale * x).sum())

    best = minimize_scalar(lambda d: -log_likelihood(d), bounds=(0.1, 2000), method="bounded", options={"xatol": 1e-7})
    assert gride(ratios, scale) == pytest.approx(best.x, rel=1e-5)
    assert np.isnan(gride(np.ones(10), scale)) and np.isnan(gride(np.array([2.0, 3.0]), scale))


@pytest.mark.parametrize("scale", [1, 2, 8])
def test_ratios_of_evenly_spread_points_give_their_dimension(scale):
    """(r_n / r_2n)^D is a Beta(n, n) variable. 400 samples; the estimate's bias is of order 1 / N."""
    random = np.random.default_rng(0)
    found = [gride(random.beta(scale, scale, 256) ** (-1 / 9), scale) for _ in range(400)]
    assert np.mean(found) == pytest.approx(9, abs=4 * np.std(found) / 20 + 9 * 2 / 256)
    if scale == 1:
        assert np.std(found) == pytest.approx(9 / np.sqrt(254), rel=0.15)  # D / √(N - 2), with 3.5 % of sampling


def test_cubes_have_their_order_and_small_ones_nearly_their_dimension():
    cubes = [np.random.default_rng(d).random((1024, d)) for d in (2, 5, 10)]
    for scale in (1, 8):
        small, middle, large = (measured([PromptCloud.of(one)], (scale,), (1,))[0, 0] for one in cubes)
        assert small < middle < large < 10
        assert small == pytest.approx(2, abs=0.3)  # its edges cost a tenth, its sampling error is 2 / √1024


def test_the_dimension_is_that_of_dadapy():
    """Printed by `benchmarks/peer_gride.py`, whose search for the root ends sooner, at 1e-7 of it or so."""
    theirs = [5.09421026, 4.82055694, 4.85238794, 4.57680870]
    found = measured([PromptCloud.of(np.random.default_rng(5).normal(size=(300, 5)))], (1, 2, 4, 8), (1,))[0, :4]
    np.testing.assert_allclose(found, theirs, rtol=1e-7)


def test_every_metric_is_that_of_plain_distances():
    random = np.random.default_rng(0)
    one, other = random.normal(size=(2, 60, 7)) + 1
    first, second = values(one, other)
    near = []
    for points in (one, other):
        distances = cdist(points, points)
        np.fill_diagonal(distances, np.inf)
        near.append((np.sort(distances, axis=1), np.argsort(distances, axis=1)))
    ratio = near[0][0][:, 7] / near[0][0][:, 3]
    assert first["dimension", 4] == pytest.approx(gride(ratio, 4), rel=1e-9)
    shared = [len(set(a[:5]) & set(b[:5])) / 5 for a, b in zip(near[0][1], near[1][1], strict=True)]
    assert first["overlap", 5] == pytest.approx(np.mean(shared)) and np.isnan(second["overlap", 5])
    units = one / np.linalg.norm(one, axis=1, keepdims=True)
    cosines = units @ units.T
    assert first["mean_cosine", 0] == pytest.approx(cosines[~np.eye(60, dtype=bool)].mean(), rel=1e-9)
    angles = np.arccos(np.take_along_axis(cosines, near[0][1][:, :5], axis=1))
    assert first["neighbour_angle", 5] == pytest.approx(angles.mean(), rel=1e-9)


def test_the_gaussian_cloud_is_the_centred_one_mixed_by_normal_draws():
    random = np.random.default_rng(0)
    points, draws = random.normal(size=(30, 50)) + 3, random.normal(size=(30, 30))
    mean = points.mean(axis=0)
    drawn = mean + draws @ (points - mean) / np.sqrt(29)
    np.testing.assert_allclose(PromptCloud.of(points).gaussian(draws).gram, drawn @ drawn.T, rtol=1e-9)
    # Over many draws their covariance is that of the points: the trace of 200 of them has an error of a few percent.
    clouds = [PromptCloud.of(points).gaussian(random.normal(size=(30, 30))).gram for _ in range(200)]
    assert np.mean([np.trace(one) for one in clouds]) == pytest.approx(np.trace(points @ points.T), rel=0.03)


def test_independent_clouds_share_neighbours_by_chance_and_a_cloud_all_with_itself():
    """Chance is k / (N - 1). 40 pairs of 100 points: the mean has a standard error of about .0034."""
    random = np.random.default_rng(0)
    found = [values(*random.normal(size=(2, 100, 20)))[0]["overlap", 5] for _ in range(40)]
    assert np.mean(found) == pytest.approx(5 / 99, abs=4 * np.std(found) / np.sqrt(40))
    points = random.normal(size=(50, 4))
    assert values(points, points)[0]["overlap", 5] == 1


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3), shift=st.floats(-5, 5))
def test_dimension_and_overlap_see_neither_rotation_nor_scale_nor_place_and_no_duplicates(seed, scale, shift):
    random = np.random.default_rng(seed)
    points, after = random.normal(size=(2, 40, 6)) * np.linspace(0.3, 2, 6)
    after = points + 0.2 * after
    rotation = np.linalg.qr(random.normal(size=(6, 6)))[0]
    twice = random.choice(40, 7)

    def with_twins(cloud: np.ndarray) -> np.ndarray:
        return np.vstack([cloud, cloud[twice]])

    one = values(points, after)[0]
    moved = values(with_twins(scale * (points @ rotation + shift)), with_twins(after - shift))[0]
    for name, value in one.items():
        if name[0] in ("dimension", "overlap"):
            assert moved[name] == pytest.approx(value, rel=1e-6)
    turned = values(with_twins(scale * points @ rotation), with_twins(after))[0]
    for name, value in one.items():
        assert turned[name] == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_few_points_leave_missing_values():
    (found,) = values(np.random.default_rng(0).normal(size=(4, 3)))
    assert np.isfinite([found["dimension", 1], found["neighbour_angle", 1], found["mean_cosine", 0]]).all()
    assert np.isnan([found["dimension", 2], found["neighbour_angle", 5]]).all()
    for few in (np.zeros((0, 3)), np.ones((3, 3))):
        assert all(np.isnan(value) for value in values(few)[0].values())


def test_points_that_coincide_in_one_layer_are_left_out_of_the_overlap_alone():
    random = np.random.default_rng(0)
    types = random.normal(size=(20, 5))
    first, second = types[np.arange(60) % 20], random.normal(size=(60, 5))
    one, two, three = values(first, second, second)
    assert one["overlap", 5] == pytest.approx(values(types, second[:20])[0]["overlap", 5])
    assert one["dimension", 2] == pytest.approx(values(types)[0]["dimension", 2])
    assert two["overlap", 5] == 1 and np.isnan(three["overlap", 5])
