"""Rank correlations: against SciPy and a regression written out, missing units, and how often intervals miss 0."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr

from interp.errors import InputError
from interp.stats.correlation import rank_correlation


def partial(x: np.ndarray, y: np.ndarray, held: np.ndarray) -> float:
    """Pearson's r of what a line in the ranks of `held` leaves of the ranks of x and y."""
    line = np.column_stack([np.ones(len(x)), rankdata(held)])
    left = [rankdata(one) - line @ np.linalg.lstsq(line, rankdata(one), rcond=None)[0] for one in (x, y)]
    return float(pearsonr(*left).statistic)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(8, 40), ties=st.booleans())
def test_it_is_spearmans_and_the_partial_one_that_of_what_a_line_leaves(seed, n, ties):
    x, y, held = np.random.default_rng(seed).normal(size=(3, n))
    held = np.round(2 * held) if ties else held
    x = x + held
    # A quantity whose ranks are those of what is held has nothing left, and no partial correlation.
    assume(max(abs(spearmanr(one, held).statistic) for one in (x, y)) < 1 - 1e-9)
    table = np.stack([x, np.exp(x), -x])  # ranks see no monotone map
    found = rank_correlation(table, y, n_resamples=9)[0]
    np.testing.assert_allclose(found, spearmanr(x, y).statistic * np.array([1, 1, -1]), atol=1e-9)
    found = rank_correlation(table, y, held=held, n_resamples=9)[0]
    np.testing.assert_allclose(found, partial(x, y, held) * np.array([1, 1, -1]), atol=1e-9)


def test_units_that_lack_a_number_are_left_out_row_by_row():
    x, y = np.random.default_rng(0).normal(size=(2, 20))
    table = np.stack([x, np.where(np.arange(20) < 5, np.nan, x), np.full(20, np.nan), np.ones(20)])
    value, low, high = rank_correlation(table, y)
    assert value[1] == pytest.approx(spearmanr(x[5:], y[5:]).statistic)
    assert np.isnan(value[2:]).all() and np.isnan(low[2:]).all() and np.isnan(high[2:]).all()
    assert (low[:2] < value[:2]).all() and (value[:2] < high[:2]).all()
    np.testing.assert_array_equal(rank_correlation(x[None], y, held=np.ones(20))[0], rank_correlation(x[None], y)[0])


def test_what_two_share_with_a_third_is_no_correlation_once_that_is_held_fixed():
    """Two thirds of x and of y are the same z: of 400 samples, 5 % of intervals may miss 0, with s.e. .011.

    A bootstrap of twenty units is up to two hundredths too short, so .02 and three standard errors are allowed.
    """
    random, missed, plain = np.random.default_rng(0), 0, 0
    for seed in range(400):
        z, x, y = random.normal(size=(3, 20))
        x, y = x + 1.4 * z, y + 1.4 * z
        _, low, high = rank_correlation(x[None], y, held=z, n_resamples=199, seed=seed)
        missed += not low[0] <= 0 <= high[0]
        plain += rank_correlation(x[None], y, n_resamples=199, seed=seed)[1][0] > 0
    assert missed / 400 < 0.05 + 0.02 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert plain / 400 > 0.8


def test_unequal_lengths_are_refused():
    with pytest.raises(InputError, match="have 3, 4 and 4 units"):
        rank_correlation(np.zeros((1, 3)), np.zeros(4))
