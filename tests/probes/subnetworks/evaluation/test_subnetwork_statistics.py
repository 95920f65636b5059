"""The numbers beneath the evaluation of subnetworks: correlations, nulls of overlap, angles, covariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from interp.errors import InputError, NumericalError, UnknownName
from interp.stats.least_squares import Moments
from probes.subnetworks.evaluation._correlation import correlate, finite
from probes.subnetworks.evaluation._placement import Chance, columns_permuted, rows_permuted, scattered
from probes.subnetworks.evaluation._ridge import median_angle, ridge_maps, similarity, unrelated_map, without_largest

pytestmark = pytest.mark.trained

EXACT = 1e-9  # float64 sums of some thousand terms of order one


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- correlations ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def surprisals() -> tuple[np.ndarray, ...]:
    """Prompts of different lengths, and three correlated surprisals about a large mean."""
    rng = np.random.default_rng(0)
    prompts = np.repeat(np.arange(30), rng.integers(5, 60, 30))
    common = rng.gamma(2.0, 3.0, len(prompts))
    measured, bigram, unigram = (1e3 + common + rng.normal(0, scale, len(prompts)) for scale in (1.0, 2.0, 3.0))
    return prompts, measured, bigram, unigram


def test_correlations_are_scipys(surprisals):
    prompts, measured, bigram, unigram = surprisals
    found = correlate(*surprisals)
    assert found["r"] == pytest.approx(stats.pearsonr(measured, bigram).statistic, abs=EXACT)
    assert found["baseline_r"] == pytest.approx(stats.pearsonr(unigram, bigram).statistic, abs=EXACT)
    left = [one - np.polyval(np.polyfit(unigram, one, 1), unigram) for one in (measured, bigram)]
    # numpy's line through points about 1000 costs it digits, not the sums.
    assert found["partial_r"] == pytest.approx(stats.pearsonr(*left).statistic, abs=1e-7)
    assert found["n"] == len(prompts)


def test_intervals_resample_whole_prompts(surprisals):
    """Against prompts drawn and joined one by one; with equal draws, equal intervals."""
    prompts, measured, bigram, _ = surprisals
    found = correlate(*surprisals, n_resamples=200, seed=3)
    rows = [np.flatnonzero(prompts == one) for one in range(30)]
    drawn = []
    for draw in np.random.default_rng(3).integers(0, 30, size=(200, 30)):
        at = np.concatenate([rows[one] for one in draw])
        drawn.append(stats.pearsonr(measured[at], bigram[at]).statistic)
    tail = stats.norm.sf(stats.t.isf(0.025, 29) * np.sqrt(30 / 29))  # Hesterberg's expanded percentile interval
    ends = np.quantile(drawn, tail, method="lower"), np.quantile(drawn, 1 - tail, method="higher")
    assert (found["r_low"], found["r_high"]) == pytest.approx(ends, abs=EXACT)


def test_frequency_alone_leaves_no_partial_correlation():
    """A model that knows frequencies and guesses the rest correlates well, and not at all once they are known."""
    rng = np.random.default_rng(1)
    unigram = rng.gamma(2.0, 3.0, 20_000)
    measured, bigram = (unigram + rng.normal(0, 2, len(unigram)) for _ in range(2))
    found = correlate(np.arange(20_000) // 100, measured, bigram, unigram)
    assert found["r"] > 0.7
    assert found["partial_r_low"] < 0 < found["partial_r_high"]
    assert abs(found["partial_r"]) < 0.03  # four standard errors of 1/sqrt(20,000)


def test_the_unigram_model_has_no_partial_correlation(surprisals):
    prompts, _, bigram, unigram = surprisals
    found = correlate(prompts, 2 * unigram + 1, bigram, unigram)
    assert found["r"] == pytest.approx(found["baseline_r"], abs=EXACT)
    assert math.isnan(found["partial_r"]) and math.isnan(found["partial_r_low"])


def test_one_prompt_has_no_interval(surprisals):
    found = correlate(np.zeros(len(surprisals[0]), dtype=int), *surprisals[1:])
    assert found["r"] > 0 and math.isnan(found["r_low"]) and math.isnan(found["r_high"])


def test_infinite_surprisals_by_both_rules(surprisals):
    prompts, measured, bigram, unigram = surprisals
    unseen = np.arange(len(bigram)) % 7 == 0
    with_unseen = np.where(unseen, np.inf, bigram)
    replaced = np.where(unseen, bigram[~unseen].max(), bigram)
    assert correlate(prompts, measured, finite(with_unseen, "max"), unigram)["r"] == pytest.approx(
        stats.pearsonr(measured, replaced).statistic, abs=EXACT
    )
    dropped = correlate(prompts, measured, finite(with_unseen, "drop"), unigram)
    assert dropped["r"] == pytest.approx(stats.pearsonr(measured[~unseen], bigram[~unseen]).statistic, abs=EXACT)
    assert dropped["n"] == (~unseen).sum()


def test_bad_surprisals():
    with pytest.raises(UnknownName, match="unknown rule for infinite surprisals 'min'"):
        finite(np.ones(2), "min")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no token's bigram surprisal is finite"):
        finite(np.full(3, np.inf), "max")


# -- overlap by chance -----------------------------------------------------------------------------------------------


def mask(seed: int, rows: int = 20, columns: int = 20, share: float = 0.3) -> Tensor:
    """Rows and columns of unequal fullness, as trained masks have them."""
    uneven = torch.linspace(0.2, 1.8, rows)[:, None] * torch.linspace(0.5, 1.5, columns)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, columns, generator=generator) < share * uneven


def brute_force(one: Tensor, other: Tensor, shuffle, n: int = 20_000) -> tuple[float, float]:
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([int((shuffle(one, generator) & other).sum()) for _ in range(n)], dtype=torch.float64)
    return float(counts.mean()), float(counts.var())


def shuffled_elements(one: Tensor, generator: torch.Generator) -> Tensor:
    return one.flatten()[torch.randperm(one.numel(), generator=generator)].view_as(one)


def shuffled_rows(one: Tensor, generator: torch.Generator) -> Tensor:
    return one[torch.randperm(len(one), generator=generator)]


def shuffled_columns(one: Tensor, generator: torch.Generator) -> Tensor:
    return one[:, torch.randperm(one.shape[1], generator=generator)]


@pytest.mark.parametrize(
    ("null", "shuffle"),
    [(scattered, shuffled_elements), (rows_permuted, shuffled_rows), (columns_permuted, shuffled_columns)],
    ids=["scattered", "rows", "columns"],
)
def test_each_null_is_what_shuffling_gives(null, shuffle):
    one, other = mask(0), mask(1)
    chance = null(one, other)
    mean, variance = brute_force(one, other, shuffle)
    # Of 20,000 draws: the mean has a standard error of sd / 141, the variance one of about 1 %; four of each.
    assert chance.mean == pytest.approx(mean, abs=4 * chance.variance**0.5 / 141)
    assert chance.variance == pytest.approx(variance, rel=0.04)


def test_the_scattered_null_is_scipys_hypergeometric():
    one, other = mask(2, 7, 11), mask(3, 7, 11)
    expected = stats.hypergeom(77, int(one.sum()), int(other.sum()))
    chance = scattered(one, other)
    assert (chance.mean, chance.variance) == pytest.approx((expected.mean(), expected.var()), rel=1e-12)


def test_agreement_on_rows_alone_is_above_the_scattered_null_and_not_above_that_of_columns():
    """Both keep much of the same ten rows, at random within them: structure, not the same weights."""
    generator = torch.Generator().manual_seed(0)
    one, other = ((torch.rand(40, 400, generator=generator) < 0.5) & (torch.arange(40) < 10)[:, None] for _ in range(2))
    observed = int((one & other).sum())
    assert scattered(one, other).z(observed) > 20
    assert abs(columns_permuted(one, other).z(observed)) < 4


def test_a_null_without_choice_has_no_z():
    everything = torch.ones(3, 4, dtype=torch.bool)
    for null in (scattered, rows_permuted, columns_permuted):
        chance = null(everything, mask(0, 3, 4))
        assert chance.variance == pytest.approx(0, abs=1e-12)
    assert math.isnan(Chance(3.0, 0.0).z(3)) and math.isnan(Chance(3.0, 0.0).p(3))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_every_null_keeps_the_mean_between_the_bounds(rows, columns, seed, other_seed):
    one, other = mask(seed, rows, columns), mask(other_seed, rows, columns)
    for null in (scattered, rows_permuted, columns_permuted):
        chance = null(one, other)
        assert -1e-9 <= chance.mean <= min(int(one.sum()), int(other.sum())) + 1e-9
        assert chance.variance >= 0


# -- rotations -------------------------------------------------------------------------------------------------------


def rotation(degrees: float, d: int = 12) -> Tensor:
    """Every plane (0, 1), (2, 3), ... turned by the angle, in a basis of its own."""
    angle = math.radians(degrees)
    plane = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    basis = torch.linalg.qr(normal(d, d, seed=5)).Q
    return basis @ torch.block_diag(*[plane] * (d // 2)) @ basis.T


@pytest.mark.parametrize("degrees", [0, 30, 60, 90, 120])
def test_a_planted_rotation_is_recovered_from_streamed_sums(degrees):
    turn = rotation(degrees)
    x = 5 + normal(400, 12)
    y = x @ turn + 3
    moments = Moments.zeros(12, 12)
    for rows in zip(x.split(150), y.split(150), strict=True):
        moments.add(*rows)
    (found,) = ridge_maps(moments, [12], alpha=0.0)
    assert median_angle(found.coefficients) == pytest.approx(degrees, abs=1e-6)
    torch.testing.assert_close(found(x), y, rtol=0, atol=EXACT)


def test_angles_of_identity_and_its_negative():
    assert median_angle(torch.eye(7)) == 0.0
    assert median_angle(-torch.eye(7)) == 180.0
    assert median_angle(torch.diag(torch.tensor([2.0, 3.0, -1.0]))) == 0.0  # the median, not the mean


def test_ridge_maps_are_sklearns():
    from sklearn.linear_model import Ridge

    x, y = 2 + normal(100, 6), normal(100, 5, seed=1)
    moments = Moments.zeros(6, 5)
    moments.add(x, y)
    for found, wanted in zip(ridge_maps(moments, [2, 3], alpha=3.0), (y[:, :2], y[:, 2:]), strict=True):
        model = Ridge(alpha=3.0).fit(x.numpy(), wanted.numpy())
        np.testing.assert_allclose(found.coefficients.numpy().T, model.coef_, atol=EXACT)
        np.testing.assert_allclose(found(x).numpy(), model.predict(x.numpy()), atol=EXACT)


def test_an_unrelated_map_has_the_moments_of_randomly_paired_rows():
    """Mean 0 and the covariance of products that shuffling rows of y gives, element by element of the map."""
    x, y = normal(40, 3) @ normal(3, 3, seed=1), normal(40, 2, seed=2) @ normal(2, 2, seed=3)
    x, y = x - x.mean(0), y - y.mean(0)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([unrelated_map(x.T @ x, y.T @ y, 40, 1.0, generator) for _ in range(5_000)])
    ridge = x.T @ x + torch.eye(3, dtype=torch.float64)
    shuffles = (torch.randperm(40, generator=generator) for _ in range(5_000))
    shuffled = torch.stack([torch.linalg.solve(ridge, x.T @ y[order]) for order in shuffles])
    ours, theirs = (torch.cov(one.flatten(1).T) for one in (drawn, shuffled))
    scale = theirs.diagonal().sqrt()
    # Of 5,000 draws a correlation has a standard error of 0.014, and so has a mean; four of the difference of two.
    assert float(((ours - theirs) / scale[:, None] / scale).abs().max()) < 0.08
    assert float((drawn.mean(0).flatten() / scale).abs().max()) < 0.06


def test_an_unrelated_map_turns_by_about_ninety_degrees():
    x, y = normal(2000, 64), normal(2000, 64, seed=1)
    found = unrelated_map(x.T @ x, y.T @ y, 2000, 1.0, torch.Generator().manual_seed(0))
    assert 75 < median_angle(found) < 105


def test_a_map_with_nan_has_no_angle():
    with pytest.raises(NumericalError, match="NaN or infinity"):
        median_angle(torch.full((2, 2), torch.nan))


# -- covariances -----------------------------------------------------------------------------------------------------


def scatter(x: Tensor) -> Tensor:
    moments = Moments.zeros(x.shape[1], 0)
    moments.add(x, x[:, :0])
    return moments.centred().xx


def similar(x: Tensor, y: Tensor, n_dropped: int = 1) -> float:
    return similarity(*(without_largest(scatter(one), n_dropped) for one in (x, y)))


def test_covariance_similarity_is_that_of_singular_vectors():
    """‖S_x V_xᵀ V_y S_y‖² over the norms, from the states themselves, the first singular direction dropped."""
    x, y = normal(80, 9) @ normal(9, 9, seed=1), normal(80, 9, seed=2) @ normal(9, 9, seed=3)
    parts = []
    for states in (x, y):
        _, values, vectors = torch.linalg.svd(states - states.mean(0), full_matrices=False)
        parts.append((values[1:], vectors[1:]))
    (s, v), (t, w) = parts
    inner = float((s[:, None] * (v @ w.T) * t).square().sum())
    expected = inner / float((s**2).norm() * (t**2).norm())
    assert similar(x, y) == pytest.approx(expected, abs=EXACT)


def test_covariance_similarity_is_symmetric_and_forgets_place_and_size():
    x, y = normal(80, 9) @ normal(9, 9, seed=1), normal(80, 9, seed=2) @ normal(9, 9, seed=3)
    assert similar(x, y) == pytest.approx(similar(y, x), abs=EXACT)
    assert similar(x, x) == pytest.approx(1.0, abs=EXACT)
    assert similar(7 + 3 * x, y) == pytest.approx(similar(x, y), abs=EXACT)


def test_covariances_of_orthogonal_support_are_not_similar():
    x, y = torch.zeros(50, 8, dtype=torch.float64), torch.zeros(50, 8, dtype=torch.float64)
    x[:, :4], y[:, 4:] = normal(50, 4), normal(50, 4, seed=1)
    assert similar(x, y) == pytest.approx(0.0, abs=EXACT)


def test_the_largest_direction_is_dropped():
    """One massive dimension makes any two layers alike, until it is dropped."""
    x, y = normal(200, 6), normal(200, 6, seed=1)
    x[:, 3:5], y[:, :2] = 0.1 * x[:, 3:5], 0.1 * y[:, :2]
    x[:, 5] *= 100
    y[:, 5] *= 100
    assert similar(x, y, n_dropped=0) > 0.999
    assert similar(x, y) < 0.8
