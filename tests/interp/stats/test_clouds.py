"""Second moments of clouds: IsoScore against its package and its paper, closed forms, invariances, and the controls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.stats import clouds
from interp.stats.clouds import (
    CloudSums,
    log_partition,
    matched_gaussian,
    permuted_columns,
    random_directions,
    whitened,
    without_top,
)


def cloud(n: int, d: int, seed: int = 0) -> np.ndarray:
    """A cloud off the origin whose axes differ."""
    random = np.random.default_rng(seed)
    return random.normal(size=(n, d)) * np.linspace(0.2, 3, d) + random.normal(size=d)


def as_published(points: np.ndarray) -> float:
    """IsoScore step by step as its paper has it (Rudman et al. 2022, algorithm 1), in float64."""
    d = points.shape[1]
    spectrum = np.sort(np.linalg.eigvalsh(np.cov(points.T)))
    scaled = np.sqrt(d) * spectrum / np.linalg.norm(spectrum)
    defect = np.linalg.norm(scaled - 1) / np.sqrt(2 * (d - np.sqrt(d)))
    return ((d - defect**2 * (d - np.sqrt(d))) ** 2 - d) / (d * (d - 1))


# What benchmarks/peer_isoscore.py prints, with IsoScore 2.0.1. It takes the root of d in float32, wrong by 6e-8 of it.
PACKAGE = {
    (0, 50, (1.0,) * 4, 0.0): 0.884598729839832,
    (1, 200, (5.0, 3.0, 1.0, 1.0, 0.5, 0.1), 2.0): 0.16569847276917013,
    (2, 30, (1.0,) * 10, 1.0): 0.7106947570073054,
    (3, 500, (1.0, 1.0, 0.001), 0.0): 0.4980658419210509,
    (4, 12, (1.0,) * 16, 0.0): 0.33607774942648866,
}


@pytest.mark.parametrize("given", PACKAGE)
def test_isoscore_is_that_of_its_package(given):
    seed, n, scales, mean = given
    points = np.random.default_rng(seed).standard_normal((n, len(scales))) * np.array(scales) + mean
    found = CloudSums.of(points).isoscore()
    assert found == pytest.approx(PACKAGE[given], abs=1e-7)
    if len(scales) == 4:  # both of its roots are whole numbers
        assert found == pytest.approx(PACKAGE[given], abs=1e-14)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 60), d=st.integers(2, 30))
def test_isoscore_is_as_published_and_sees_neither_rotation_nor_scale_nor_place(seed, n, d):
    points = cloud(n, d, seed)
    sums = CloudSums.of(points)
    assert sums.isoscore() == pytest.approx(as_published(points), abs=1e-10)
    rotation = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(d, d)))[0]
    turned = CloudSums.of(7 * points @ rotation + 3)
    for debiased in (False, True):
        assert turned.participation(debiased=debiased) == pytest.approx(
            sums.participation(debiased=debiased), rel=1e-8, nan_ok=True
        )
    # What is measured from 0 sees neither of the first two.
    turned = CloudSums.of(7 * points @ rotation)
    assert turned.mean_cosine() == pytest.approx(sums.mean_cosine(), abs=1e-10)
    assert turned.mean_norm() == pytest.approx(7 * sums.mean_norm(), rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_k_equal_axes_of_d_have_the_score_of_k(k):
    """All corners of a cube of k dimensions: covariance exactly equal in each, 0 in the others."""
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * k)).reshape(k, -1).T
    points = np.pad(corners, ((0, 0), (0, 8 - k)))
    sums = CloudSums.of(points)
    assert sums.participation() == pytest.approx(k) and sums.isoscore() == pytest.approx((k - 1) / 7)


def test_means_of_all_pairs_are_those_of_a_loop():
    points = cloud(40, 5)
    units = points / np.linalg.norm(points, axis=1, keepdims=True)
    cosines = (units @ units.T)[~np.eye(40, dtype=bool)]
    with_zero = np.vstack([points, np.zeros(5)])  # which has no direction
    assert CloudSums.of(with_zero).mean_cosine() == pytest.approx(cosines.mean(), abs=1e-12)
    assert CloudSums.of(points).mean_norm() == pytest.approx(np.linalg.norm(points, axis=1).mean())


def test_the_partition_is_that_of_every_eigenvector():
    points = cloud(60, 4)
    _, vectors = np.linalg.eigh(points.T @ points)
    z = np.exp(points @ np.hstack([vectors, -vectors])).sum(axis=0)
    assert log_partition(points, CloudSums.of(points)) == pytest.approx(np.log(z.min() / z.max()), abs=1e-10)
    large = 1e3 * points  # whose exponentials no float holds
    assert np.isfinite(log_partition(large, CloudSums.of(large)))


@pytest.mark.parametrize(("n", "d"), [(20, 10), (60, 10), (40, 60)])
def test_the_debiased_ratio_is_right_on_average_of_gaussian_points(n, d):
    scales = np.linspace(1, 2, d)
    true = (scales**2).sum() ** 2 / (scales**4).sum()
    draws = [
        CloudSums.of(np.random.default_rng(seed).normal(size=(n, d)) * scales + 5).participation(debiased=debiased)
        for debiased in (False, True)
        for seed in range(200)
    ]
    raw, debiased = np.split(np.array(draws), 2)
    error = debiased.std() / np.sqrt(len(debiased))
    # The numerator and the denominator are unbiased, and their ratio is up to the square of their relative errors.
    assert abs(debiased.mean() - true) < 4 * error + 2 * (debiased.std() / true) ** 2 * true
    assert raw.mean() < true * n / (n + true) * 1.1  # about n·d / (n + d) for an even cloud


def test_parts_add_up_and_can_be_taken_out(monkeypatch):
    points = cloud(50, 6)
    whole, part = CloudSums.of(points), CloudSums.of(points[:20])
    rest = CloudSums.of(points[20:])
    for one, other in ((part + rest, whole), (whole - part, rest)):
        assert one.n == other.n and one.n_units == other.n_units
        assert one.isoscore() == pytest.approx(other.isoscore(), abs=1e-12)
        assert one.mean_cosine() == pytest.approx(other.mean_cosine(), abs=1e-12)
        assert one.mean_norm() == pytest.approx(other.mean_norm(), abs=1e-12)
    monkeypatch.setattr(clouds, "_ROWS", 7)
    assert CloudSums.of(points).isoscore() == pytest.approx(whole.isoscore(), abs=1e-12)


@pytest.mark.parametrize(("n", "d"), [(20_000, 5), (40, 60)])
def test_the_matched_gaussian_has_the_mean_and_the_covariance(n, d):
    """Draw many times: a mean has a standard error of sd / √N, an entry of a covariance of at most √2 sd² / √N."""
    points = cloud(n, d)
    repeats = 1 if n > 1000 else 500
    random = np.random.default_rng(1)
    drawn = np.concatenate([matched_gaussian(points, random) for _ in range(repeats)])
    variance = points.var(axis=0, ddof=1)
    error = 5 / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - points.mean(axis=0)) < error * np.sqrt(variance)).all()
    off = np.abs(np.cov(drawn.T) - np.cov(points.T)) / np.sqrt(np.outer(variance, variance))
    assert off.max() < np.sqrt(2) * error


def test_a_gaussian_is_drawn_alike_whatever_the_chunk_and_the_signs_of_eigenvectors(monkeypatch):
    points = cloud(50, 4)
    one = matched_gaussian(points, np.random.default_rng(3))
    monkeypatch.setattr(clouds, "_ROWS", 7)
    np.testing.assert_allclose(matched_gaussian(points, np.random.default_rng(3)), one, atol=1e-12)
    eigh = np.linalg.eigh

    def flipped(matrix):
        values, vectors = eigh(matrix.numpy())
        return clouds.torch.from_numpy(values), clouds.torch.from_numpy(-vectors)

    monkeypatch.setattr(clouds.torch.linalg, "eigh", flipped)
    np.testing.assert_allclose(matched_gaussian(points, np.random.default_rng(3)), one, atol=1e-10)
    assert matched_gaussian(points.astype(np.float32), np.random.default_rng(3)).dtype == np.float32


def test_the_other_controls_keep_what_they_say():
    points = cloud(300, 5)
    columns = permuted_columns(points, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(columns, axis=0), np.sort(points, axis=0))
    assert not np.array_equal(np.sort(columns.sum(axis=1)), np.sort(points.sum(axis=1)))
    turned = random_directions(points, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(points, axis=1), rtol=1e-12)
    # 300 random directions in 5 dimensions: the mean of their 44,850 cosines has a standard error of about .002.
    assert abs(CloudSums.of(turned).mean_cosine()) < 0.01 < CloudSums.of(points).mean_cosine()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_whitening_is_even_and_sees_no_invertible_map(seed):
    points = cloud(80, 6, seed)
    white = whitened(points, CloudSums.of(points))
    assert CloudSums.of(white).isoscore() == pytest.approx(1, abs=1e-10)
    mapped = points @ (np.random.default_rng(seed).normal(size=(6, 6)) + 4 * np.eye(6)) + 2
    other = whitened(mapped, CloudSums.of(mapped))
    np.testing.assert_allclose(other @ other.T, white @ white.T, atol=1e-7)
    flat = np.hstack([points, points[:, :2]])  # of rank 6
    assert whitened(flat, CloudSums.of(flat)).shape == (80, 6)


def test_without_its_top_directions_a_cloud_has_the_rest():
    points = cloud(200, 6)
    rest = without_top(points, CloudSums.of(points), 2)
    values = np.linalg.eigvalsh(np.cov(points.T))
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(rest.T)), [0, 0, *values[:4]], atol=1e-12)
