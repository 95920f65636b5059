"""The interval that decides claims: its coverage of normal and of skewed data, and Hall's correction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from interp.stats import mean_over_units
from interp.stats.transformed_t import transformed_interval, transformed_tails

STUDIES = 600
NOISE = 3 * np.sqrt(0.95 * 0.05 / STUDIES)  # three standard errors of a share of .95 among so many studies

DISTRIBUTIONS = {
    "normal": (lambda random, size: random.standard_normal(size), 0.0),
    "exponential": (lambda random, size: random.exponential(size=size), 1.0),
    "lognormal": (lambda random, size: np.exp(random.standard_normal(size)), np.exp(0.5)),
    "near a bound": (lambda random, size: random.beta(20, 1, size), 20 / 21),
}
PROMISED = {
    ("normal", 5): 0.95, ("normal", 8): 0.955, ("normal", 24): 0.955,
    ("exponential", 5): 0.92, ("exponential", 8): 0.94, ("exponential", 24): 0.95,
    ("lognormal", 5): 0.87, ("lognormal", 8): 0.90, ("lognormal", 24): 0.93,
    ("near a bound", 5): 0.92, ("near a bound", 8): 0.94, ("near a bound", 24): 0.955,
}  # fmt: skip


@pytest.mark.parametrize(("name", "n"), PROMISED)
def test_coverage_is_what_it_says(name, n):
    """Without the correction, lognormal data have .81 at 5, .85 at 8 and .88 at 24 units."""
    draw, truth = DISTRIBUTIONS[name]
    samples = draw(np.random.default_rng([n, 7]), (STUDIES, n))
    found = [mean_over_units(sample, level=0.95, n_resamples=299, seed=i) for i, sample in enumerate(samples)]
    above, below = np.mean([one.low > truth for one in found]), np.mean([one.high < truth for one in found])
    # Three standard errors of a share of .87 are .041; NOISE, .027, is that of .95.
    assert 1 - above - below == pytest.approx(PROMISED[name, n], abs=NOISE if PROMISED[name, n] > 0.9 else 0.041)
    if name == "lognormal":
        assert below > 5 * above  # the misses that are left are on the side of the tail
    if n > 5:  # no p-value of five units is below 2^-4
        # The p-value inverts the interval: a truth outside it has a p below .05, but for the grid of the resamples.
        rejected = np.mean([one.p(truth) <= 0.05 for one in found])
        assert rejected == pytest.approx(above + below, abs=0.02)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("skewed", [False, True])
def test_the_cubic_and_its_inverse_agree(scale, skewed):
    """An end of the interval at any level has just that p-value."""
    values = scale * np.random.default_rng(3).standard_normal(9)
    values = np.exp(values / scale) * scale if skewed else values - scale
    for level in (0.5, 0.9, 0.95, 0.999):
        for end in transformed_interval(values, level):
            assert transformed_tails(values, end) == pytest.approx(1 - level, rel=1e-7)


def test_without_skewness_it_is_students():
    values = np.array([-3.0, -1.0, -0.5, 0.5, 1.0, 3.0])
    assert transformed_interval(values, 0.95) == pytest.approx(t.interval(0.95, 5, 0, values.std(ddof=1) / np.sqrt(6)))
    assert transformed_tails(values, 0.7) == pytest.approx(ttest_1samp(values, 0.7).pvalue)


def test_it_reaches_farther_to_the_side_of_the_long_tail():
    values = np.array([0.0, 1.0, 2.0, 3.0, 40.0])
    low, high = transformed_interval(values, 0.95)
    mirrored = transformed_interval(-values, 0.95)
    assert mirrored == pytest.approx((-high, -low)) and high - values.mean() > 1.5 * (values.mean() - low)


def test_the_cubic_removes_the_skewness_of_the_mean():
    """A test of exponential values by the transformed t keeps its level, which Student's does not."""
    random, n = np.random.default_rng(0), 40
    samples = random.exponential(size=(4000, n))
    plain = (samples.mean(axis=1) - 1) / samples.std(axis=1, ddof=1) * np.sqrt(n)
    students = np.mean(2 * t.sf(np.abs(plain), n - 1) < 0.05)
    assert students > 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)
    p = np.array([transformed_tails(sample, 1.0) for sample in samples])
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 4000))


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0)])
def test_an_interval_stays_within_the_bounds(bounds):
    values = np.array([1.0, 1.0, 0.99, 1.0, 0.6, 1.0])
    free, bound = (mean_over_units(values, level=0.95, n_resamples=299, seed=0, bounds=one) for one in (None, bounds))
    assert bound.high <= 1.0 and bound.low == free.low
