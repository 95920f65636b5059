"""Local dimension: the break test's size where nothing breaks, planted breaks, invariances, and planted embeddings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.stats import benjamini_hochberg
from probes import local_dimension
from probes.geometry.clouds._breaks import LEAST, dimension, p_values, scan, simulated, spacings, table
from probes.geometry.clouds.local_dimension import _measured


def uniform_ball(n: int, d: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    directions = random.normal(size=(n, d))
    lengths = random.random((n, 1)) ** (1 / d)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True) * lengths


def measured(points: np.ndarray, places: np.ndarray, low: int = 10, high: int = 200) -> pd.DataFrame:
    return pd.DataFrame(_measured(points - points.mean(axis=0), places, low, high, 2000))


def test_the_ratio_is_the_largest_over_all_splits():
    """Against a loop over splits with the log-likelihood of exponential draws written out."""
    spaces = np.random.default_rng(0).standard_exponential((5, 60))
    found = scan(spaces)
    for row, any_, increase, split in zip(spaces, found.any, found.increase, found.split, strict=True):

        def log_likelihood(part: np.ndarray) -> float:
            rate = 1 / part.mean()
            return float((np.log(rate) - rate * part).sum())

        splits = {
            at: log_likelihood(row[:at]) + log_likelihood(row[at:]) - log_likelihood(row)
            for at in range(LEAST, 60 - LEAST + 1)
        }
        assert any_ == pytest.approx(max(splits.values()), rel=1e-9)
        assert splits[split] == pytest.approx(any_, rel=1e-9)
        rising = [value for at, value in splits.items() if row[at:].mean() < row[:at].mean()]
        assert increase == pytest.approx(max(rising, default=0.0), rel=1e-9)


@pytest.mark.parametrize("m", [90, 190])
def test_the_shipped_table_is_that_of_new_draws(m):
    """A share of 20,000 draws has a standard error of √(p (1 - p) / 20,000); four of these."""
    fresh = scan(np.random.default_rng(99).standard_exponential((20_000, m)))
    for p in p_values(fresh, m, 0):
        for level in (0.5, 0.05, 0.01, 0.001):
            if level < 0.5:
                assert abs((p <= level).mean() - level) < 4 * np.sqrt(level * (1 - level) / 20_000)
        assert p.min() > 0 and p.max() <= 1
    assert set(table()) == {90, 140, 190, 290, 490}


def test_other_numbers_of_neighbours_are_simulated():
    shares, (any_, increase) = simulated(50, 4000)
    assert (np.diff(shares) < 0).all() and (np.diff(any_) >= 0).all() and (np.diff(increase) >= 0).all()
    p = p_values(scan(np.random.default_rng(5).standard_exponential((4000, 50))), 50, 4000)[0]
    assert abs((p <= 0.05).mean() - 0.05) < 4 * np.sqrt(2 * 0.05 * 0.95 / 4000)


@pytest.mark.parametrize("d", [2, 5, 10])
def test_where_points_are_evenly_spread_the_dimension_is_theirs_and_nothing_breaks(d):
    """One point in each of 150 balls, so that they are independent: the shares have a standard error of .018 at .05."""
    balls = [uniform_ball(260, d, seed) for seed in range(150)]
    found = pd.concat([measured(np.vstack([np.zeros(d), ball]), np.array([0])) for ball in balls])
    error = d / np.sqrt(188 * 150)  # of the mean of D, each with D / √(m - 2)
    assert found["dimension"].mean() == pytest.approx(d, abs=4 * error)
    for column in ("p_break", "p_increase"):
        assert abs((found[column] <= 0.05).mean() - 0.05) < 4 * 0.018
        assert (found[column] <= 0.001).mean() <= 2 / 150
    assert np.abs(np.sort(found["p_break"]) - np.linspace(0, 1, 150)).max() < 1.63 / np.sqrt(150)  # Kolmogorov's, .01


def test_a_thick_line_breaks_and_never_increases():
    """Near a point it has five dimensions, and far from it one."""
    random = np.random.default_rng(0)
    line = np.column_stack([40 * random.random(8000), 0.05 * random.normal(size=(8000, 4))])
    inside = np.flatnonzero(np.abs(line[:, 0] - 20) < 10)[:60]
    found = measured(line, inside, 10, 500)
    assert (found["p_break"] < 1e-3).all() and (found["p_increase"] > 0.05).mean() > 0.9
    assert (found["dimension_near"] > found["dimension_far"]).all()


def test_where_a_stick_enters_a_ball_the_dimension_increases():
    random = np.random.default_rng(0)
    stick = np.column_stack([1 + random.random(300), 1e-4 * random.normal(size=(300, 4))])
    ball = uniform_ball(20_000, 5, 1)
    points = np.vstack([stick, ball])
    near = np.argsort(stick[:, 0])[20:40]  # on the stick, by where it leaves the ball
    found = measured(points, near)
    assert (found["p_increase"] < 1e-3).all() and (found["dimension_far"] > 2 * found["dimension_near"]).all()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3))
def test_it_sees_neither_rotation_nor_scale_nor_place(seed, scale):
    random = np.random.default_rng(seed)
    points = random.normal(size=(200, 6)) * np.linspace(0.3, 2, 6)
    rotation = np.linalg.qr(random.normal(size=(6, 6)))[0]
    one = measured(points, np.arange(20), 10, 60)
    other = measured(scale * (points @ rotation + 3), np.arange(20), 10, 60)
    for column in ("dimension", "dimension_near", "dimension_far", "p_break", "p_increase", "split_k"):
        np.testing.assert_allclose(other[column], one[column], rtol=1e-6)
    np.testing.assert_allclose(other["radius_high"], scale * one["radius_high"], rtol=1e-9)


def test_of_a_planted_embedding_rows_that_coincide_count_once(with_embedding):
    points = np.random.default_rng(0).normal(size=(300, 6))
    subject = with_embedding(np.vstack([points, points[:50]]))
    frame = local_dimension(subject, tokens=[3, 303, 120], k=(5, 95), controls=["gaussian"])
    own = frame[frame["control"] == "none"]
    assert own["token_id"].tolist() == [3, 303, 120]
    values = own[["radius_low", "dimension", "p_break"]].to_numpy()
    np.testing.assert_array_equal(values[0], values[1])  # one point, asked for by both of its tokens
    rows = subject.W_E.double().numpy()[:300]
    distances = np.sort(np.linalg.norm(rows - rows[120], axis=1))[1:]
    expected = spacings(distances[None, :95], 5)
    # The cloud is centred in the weights' float32, and a p-value changes by some ten times as much as its distances.
    assert values[2] == pytest.approx(
        [distances[4], dimension(expected)[0], p_values(scan(expected), 90, 0)[0][0]], rel=1e-4
    )


def test_a_gaussian_embedding_breaks_as_often_as_its_control(with_embedding):
    """Two clouds of one law: their shares differ by sampling, √(2 · .25 / 100) at most."""
    points = np.random.default_rng(0).normal(size=(3000, 12)) * np.linspace(0.2, 2, 12)
    frame = local_dimension(with_embedding(points), n_tokens=100, controls=["gaussian"])
    own, control = (frame[frame["control"] == name]["p_break"] < 0.05 for name in ("none", "gaussian"))
    assert abs(own.mean() - control.mean()) < 4 * 0.07
    summary = frame.interp.summary().set_index("control")
    assert summary["break_05"].to_dict() == {"none": own.mean(), "gaussian": control.mean()}
    figure = frame.interp.plot()
    assert "Gaussian of the same covariance" in [one.get_text() for one in figure.legends[0].get_texts()]


def test_adjusted_p_values_bound_the_share_of_false_ones():
    p = np.array([0.9, 0.01, np.nan, 0.02, 0.5])
    by_hand = [0.9, min(0.01 * 4 / 1, 0.02 * 4 / 2), np.nan, 0.02 * 4 / 2, 0.5 * 4 / 3]
    np.testing.assert_allclose(benjamini_hochberg(p), by_hand)
    random = np.random.default_rng(0)
    false = []
    for _ in range(2000):
        p = np.concatenate([random.random(80), random.random(20) * 1e-3])
        found = benjamini_hochberg(p) <= 0.1
        false.append(found[:80].sum() / max(1, found.sum()))
    # Exactly 0.1 · 80 / 100 are expected of independent p-values; the mean of 2,000 has a standard error of .0015.
    assert np.mean(false) == pytest.approx(0.08, abs=4 * np.std(false) / np.sqrt(2000))
