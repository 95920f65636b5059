"""Verdicts at equality: whoever checks an identity finds that it holds, and rounding decides nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from interp.findings import judge

NOISE = 1e-9  # relative; values closer than a relative 1e-8 are equal
LEAST_P = 2.0**-23  # of 24 values: the chance that all lie on one side of the truth


@pytest.mark.parametrize(
    ("values", "criteria"),
    [
        ([0.0] * 120, {"at_most": 1e-3}),
        ([0.0] * 120, {"at_most": 0.0}),
        ([0.0] * 120, {"below": 1e-3}),
        ([1.0] * 24, {"at_least": 0.9}),
        ([1.0] * 60, {"at_least": 0.9, "bounds": (0, 1)}),
        ([0.95] * 24, {"at_least": 0.9, "bounds": (0, 1)}),
        ([0.3 - 0.2, 0.1] * 12, {"at_least": 0.1}),  # not the same number in binary
        ([0.5] * 24, {"between": (0.5, 1.0)}),
        ([0.5] * 24, {"between": (0.4, 0.6)}),
    ],
)
def test_an_identity_holds(values, criteria):
    found = judge(values, **criteria)
    assert found.state == "holds" and found.reason.startswith(f"all {len(values)} values ")
    assert found.low <= found.effect <= found.high


@pytest.mark.parametrize(("side", "state"), [("above", "holds"), ("at_least", "holds"), ("at_most", "fails")])
def test_equal_differences_decide(side, state):
    """Every prompt is a tenth above its control: the prompts scatter, the differences do not."""
    control = np.random.default_rng(0).random(24)
    found = judge(control + 0.1, control=control, bounds=(0, 2), **{side: "control"})
    assert found.state == state and found.p == LEAST_P
    assert found.difference_low == found.difference_high == pytest.approx(0.1, rel=1e-12)
    assert found.reason == "all 24 values are equal, so that rarer values are unseen"


def test_an_effect_that_is_its_control_is_at_least_and_at_most_that_and_not_above_it():
    values = np.random.default_rng(0).random(24)
    states = {side: judge(values, control=values, **{side: "control"}).state for side in
              ("at_least", "at_most", "above", "below")}  # fmt: skip
    assert states == {"at_least": "holds", "at_most": "holds", "above": "fails", "below": "fails"}


@pytest.mark.parametrize("n", [2, 5])
def test_few_equal_values_decide_nothing_and_say_how_many_would(n):
    found = judge([0.0] * n, at_most=1e-3)
    assert found.state == "undecided" and found.reason.startswith(f"{n} units decide nothing at a level of 0.95; give")
    assert judge([0.0] * 6, at_most=1e-3).state == "holds"


SIDES = st.sampled_from(["at_least", "at_most", "above", "below"])
GRID = st.integers(-20, 20).map(lambda step: step / 20)
SAMPLES = st.one_of(
    st.lists(GRID, min_size=2, max_size=30),
    st.tuples(GRID, st.integers(2, 30)).map(lambda pair: [pair[0]] * pair[1]),  # equal
    st.lists(st.sampled_from([-1.0, 1.0]), min_size=2, max_size=30),  # hits and misses
)


@settings(max_examples=300, deadline=None)
@given(SAMPLES, GRID, SIDES, st.booleans(), st.integers(0, 2**32 - 1))
def test_rounding_never_changes_a_verdict(values, threshold, side, bounded, seed):
    """Samples and thresholds on one grid meet all the time: values at the threshold, at a bound, and equal ones."""
    exact = np.array(values)
    size = max(np.abs(exact).max(), abs(threshold))
    assume(size > 0)  # zeros against zero have no size that a rounding could be relative to
    noise = np.random.default_rng(seed).uniform(-1, 1, len(values)) * NOISE * size
    criteria = {side: threshold, "n_resamples": 199, "bounds": (-1, 1) if bounded else None}
    before, after = judge(exact, **criteria), judge(exact + noise, **criteria)
    # An end or a p-value that falls on its limit to nine digits by chance is not what is tested.
    assume(min(abs(before.low - threshold), abs(before.high - threshold)) > 1e-7 or abs(before.p - 0.05) > 1e-6)
    assert (before.state, before.n) == (after.state, after.n)
    assert (after.low, after.high) == pytest.approx((before.low, before.high), abs=1e-7)
    assert after.p == pytest.approx(before.p, rel=1e-4, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(SAMPLES, st.integers(-20, 20), SIDES, st.integers(0, 2**32 - 1))
def test_rounding_never_changes_a_comparison_with_a_control(values, shift, side, seed):
    """The differences are equal, and zero if nothing is shifted; values of some size say what a rounding is."""
    exact = np.array(values)
    control = exact + shift / 10
    size = max(np.abs(exact).max(), np.abs(control).max())
    noise = np.random.default_rng(seed).uniform(-1, 1, len(values)) * NOISE * size
    criteria = {side: "control", "n_resamples": 199}
    before, after = judge(exact, control=control, **criteria), judge(exact + noise, control=control, **criteria)
    assert before.state == after.state and after.p == pytest.approx(before.p, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "criteria", "reason"),
    [
        ([], {"above": 0.0}, "an interval needs two units, and there are 0"),
        ([1.0], {"above": 0.0}, "an interval needs two units, and there are 1"),
        ([1.0, 2.0, 3.0], {"above": 0.0}, "3 units decide nothing at a level of 0.95; give at least 6"),
        ([0.0, 1.0] * 12, {"above": 0.5}, "the interval spans 0.5"),
        ([0.0, 1.0] * 12, {"above": "control", "control": [0.5] * 24}, "the interval spans no difference"),
        ([0.0, 1.0] * 12, {"between": (0.4, 0.6)}, "the interval spans an end of the range"),
    ],
)
def test_an_undecided_verdict_has_its_reason(values, criteria, reason):
    found = judge(values, **criteria)
    assert (found.state, found.reason) == ("undecided", reason)


@settings(max_examples=200, deadline=None)
@given(SAMPLES, GRID, SIDES)
def test_every_undecided_verdict_has_a_reason(values, threshold, side):
    found = judge(values, n_resamples=199, **{side: threshold})
    assert (found.state == "undecided") <= bool(found.reason)
