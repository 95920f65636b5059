"""The interval that every summary has: its coverage, and where there is none."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from interp.errors import InputError
from interp.stats import (
    auc,
    bootstrap_over_prompts,
    check_resampling,
    count_draws,
    draw_units,
    draws_in_parts,
    holm,
    interval,
    paired_bootstrap,
    resampling,
)
from interp.stats.resampling import tail_share

SAMPLES = 2000
NOISE = 3 * np.sqrt(0.95 * 0.05 / SAMPLES)  # three standard errors of a share of .95 among so many samples


def means(samples: np.ndarray, n_resamples: int = 1000) -> np.ndarray:
    """Means of every sample [samples, n] under the same draws, [samples, n_resamples]."""
    n = samples.shape[1]
    return samples @ count_draws(draw_units(n, n_resamples, seed=1)).T / n


def coverage(samples: np.ndarray, truth: float) -> tuple[float, float, float]:
    """Share of samples whose interval holds the truth, lies above it, lies below it."""
    low, high = interval(means(samples), samples.shape[1])
    return float(((low <= truth) & (truth <= high)).mean()), float((low > truth).mean()), float((high < truth).mean())


@pytest.mark.parametrize(("n", "least"), [(5, 0.915), (6, 0.93), (8, 0.94), (12, 0.945), (24, 0.945)])
def test_coverage_of_normal_data(n, least):
    """What the docstring promises, less the noise of this many samples; a percentile interval has .83 at 5."""
    covered, above, below = coverage(np.random.default_rng(n).standard_normal((SAMPLES, n)), 0.0)
    assert least - NOISE <= covered <= 0.95 + NOISE
    assert abs(above - below) < 2 * NOISE  # misses fall to either side alike


@pytest.mark.parametrize(("n", "promised"), [(5, 0.80), (8, 0.84), (24, 0.89)])
def test_coverage_of_skewed_data_is_as_short_as_it_says(n, promised):
    skewed = np.exp(np.random.default_rng(n).standard_normal((SAMPLES, n)))
    covered, above, below = coverage(skewed, np.exp(0.5))
    # Three standard errors of .8 among so many samples are .027, and all share one set of draws.
    assert covered == pytest.approx(promised, abs=0.04)
    assert below > 5 * above  # nearly all intervals that miss end below the mean


def test_it_is_wider_than_a_percentile_interval_and_ever_less_so():
    tails = tail_share(0.95, np.array([2, 5, 20, 200, 20_000]))
    assert (np.diff(tails) > 0).all() and (tails < 0.025).all() and tails[-1] == pytest.approx(0.025, rel=1e-3)


def test_ends_are_resampled_values():
    resampled = means(np.random.default_rng(0).standard_normal((3, 7)))
    low, high = interval(resampled, 7)
    assert all(end in row for ends in (low, high) for end, row in zip(ends, resampled, strict=True))


def test_parts_of_draws_are_those_of_all_draws(monkeypatch):
    whole = draw_units(7, 100, seed=3)
    monkeypatch.setattr(resampling, "_HELD", 50)
    parts = list(draws_in_parts(7, 100, seed=3))
    assert len(parts) == 15 and all(np.array_equal(whole[part], draws) for part, draws in parts)


def test_a_bootstrap_in_parts_is_the_same_and_holds_little(monkeypatch):
    draw = np.random.default_rng(0)
    n = 2000
    frame = pd.DataFrame({"prompt_id": np.arange(n), "a": draw.random(n), "b": draw.random(n)})
    frame.loc[::7, "b"] = np.nan
    frame.loc[5, "b"] = np.inf
    for statistic in ("mean", "median"):
        whole = bootstrap_over_prompts(frame, [], ["a", "b"], statistic=statistic, n_resamples=400)
        with monkeypatch.context() as patch:
            patch.setattr(resampling, "_HELD", 1 << 14)
            tracemalloc.start()
            parts = bootstrap_over_prompts(frame, [], ["a", "b"], statistic=statistic, n_resamples=400)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        # A matrix product of other shapes may add up in another order.
        pd.testing.assert_frame_equal(parts, whole, rtol=1e-12)
        assert peak < n * 400 * 8 / 4  # all draws at once are four times as much


@pytest.mark.parametrize(
    ("resampled", "n_units"),
    [
        ([0.5] * 100, 20),
        ([0.1 + 0.2] * 50 + [0.3] * 50, 20),  # one value but for a rounding
        ([0.0, 1.0] * 50, 1),
        ([np.nan] * 60 + [0.0, 1.0] * 20, 20),  # defined in fewer than half of the draws
        ([np.nan] * 100, 20),
    ],
)
def test_there_is_none_where_it_would_claim_too_much(resampled, n_units):
    low, high = interval(np.array([resampled]), n_units)
    assert np.isnan(low).all() and np.isnan(high).all()


def test_rows_are_apart():
    resampled = np.stack([np.linspace(0, 1, 100), np.full(100, 2.0), np.linspace(5, 6, 100)])
    low, high = interval(resampled, np.array([20, 20, 30]))
    for row in (0, 2):
        alone = interval(resampled[row : row + 1], np.array([20, 20, 30])[row])
        assert (low[row], high[row]) == (alone[0][0], alone[1][0])
    assert np.isnan(low[1])


def test_draws_are_whole_samples_and_depend_on_the_seed_alone():
    draws = draw_units(6, 50, seed=3)
    assert (count_draws(draws).sum(axis=1) == 6).all() and set(np.unique(draws)) == set(range(6))
    assert (draws == draw_units(6, 50, seed=3)).all() and (draws != draw_units(6, 50, seed=4)).any()


@pytest.mark.parametrize(("level", "n"), [(0, 100), (1, 100), (95, 100), (float("nan"), 100), (0.9, 0)])
def test_bad_arguments_are_refused(level, n):
    with pytest.raises(InputError, match=rf"level={level}, n_resamples={n}: give a level between 0 and 1"):
        check_resampling(level, n)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: check_resampling("high", 99), "level='high', n_resamples=99: give a level"),
        (lambda: check_resampling(0.9, True), "n_resamples=True"),
        (lambda: draw_units(0, 9, 0), "n_units=0: there must be a unit to draw"),
        (lambda: draw_units(5, 9, 1.5), "seed=1.5: give a whole number of 0 or more"),
        (lambda: draw_units(5, 9, True), "seed=True: give"),
        (lambda: interval(np.ones(3), 3), r"resampled values of shape \[3\]: give 2 dimensions"),
        (lambda: paired_bootstrap(np.ones(3)), r"differences of shape \[3\]: give 2 dimensions"),
        (lambda: paired_bootstrap("many"), "the differences are not numbers"),
        (lambda: holm(np.ones((2, 2))), r"p-values of shape \[2, 2\]: give 1 dimension\."),
        (lambda: holm(np.array([0.1, 1.5])), "a p-value of 1.5: give values from 0 to 1"),
        (lambda: auc(np.ones(3), np.ones(4, bool)), r"3 scores, but bool \[4\] of kinds; give bool \[n\]"),
        (lambda: auc(np.ones(3), np.ones(3)), r"3 scores, but float64 \[3\] of kinds"),
        (lambda: auc("abc", [True]), "the scores are not numbers"),
    ],
)
def test_what_statistics_cannot_use_is_refused_by_name(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_lists_do_as_well_as_arrays():
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert auc([0.1, 0.9, 0.9], [False, True, False]) == 0.75
