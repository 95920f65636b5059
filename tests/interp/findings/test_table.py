"""Verdicts decided by intervals: the rule as a law, coverage by simulation, Holm, and the table of many claims."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp
from typer.testing import CliRunner

import interp
from interp import findings as package
from interp.cli import app
from interp.errors import InputError, ModelError, UnknownName
from interp.findings import FINDINGS, Claim, Comparison, NotApplicable, findings, get, judge
from interp.findings import table as table_module
from interp.frames.schema import Column, Schema, columns
from interp.runs import commands
from interp.stats.corrections import holm

VALUES = st.lists(st.floats(-5, 5, allow_nan=False, width=32), min_size=1, max_size=25)
SIDES = ("at_least", "above", "at_most", "below")


@settings(max_examples=60, deadline=None)
@given(VALUES, st.floats(-5, 5, width=32), st.sampled_from(SIDES))
def test_the_interval_decides_and_not_the_point(values, bound, side):
    found = judge(values, **{side: bound}, n_resamples=199)
    assert found.n == len(values) and found.effect == pytest.approx(np.mean(values), abs=1e-6)
    if found.state == "undecided":
        # The interval spans (or touches) the bound, or too few prompts can refute nothing at this level.
        assert len(values) < 6 or found.p > 0.05 or found.low <= bound <= found.high
    else:
        upper = side in ("at_least", "above")
        beyond = found.low >= bound if (found.state == "holds") == upper else found.high <= bound
        assert beyond and found.p <= 0.05 and len(values) >= 6


@settings(max_examples=40, deadline=None)
@given(VALUES, st.floats(-5, 5, width=32))
def test_a_claim_and_its_opposite_never_both_hold(values, bound):
    above, below = judge(values, above=bound, n_resamples=199), judge(values, at_most=bound, n_resamples=199)
    opposite = {"holds": "fails", "fails": "holds", "undecided": "undecided"}
    assert below.state == opposite[above.state]
    np.testing.assert_equal(below.p, above.p)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=8, max_size=25), st.floats(-3, 3, width=16))
def test_a_control_is_compared_prompt_by_prompt(values, shift):
    """Against a control that is the values themselves, moved, all that is left to scatter is the noise of the shift."""
    values = np.array(values, dtype=float)
    noise = 1e-3 * (-1.0) ** np.arange(len(values))
    found = judge(values, control=values - shift + noise, above="control", n_resamples=199)
    assert found.difference == pytest.approx(shift - noise.mean(), abs=1e-6)
    assert found.threshold == found.control_effect
    if abs(shift) > 2e-3:
        assert found.state == ("holds" if shift > 0 else "fails")


def test_a_control_decides_only_where_it_is_asked_to():
    values, control = [0.80, 0.82] * 10, [0.90, 0.93] * 10
    assert judge(values, control=control, at_least=0.72).state == "holds"
    assert judge(values, control=control, above="control").state == "fails"
    assert judge(values, control=control, at_least=0.72).control_effect == pytest.approx(0.915)


def test_a_range_holds_within_fails_outside_and_is_undecided_across():
    values = np.linspace(0.4, 0.6, 20)
    assert judge(values, between=(0.3, 0.7)).state == "holds"
    assert judge(values, between=(0.7, 0.9)).state == "fails"
    assert judge(values, between=(0.5, 0.9)).state == "undecided"
    assert judge(values, between=(0.3, 0.7)).p < 0.001 and np.isnan(judge(values, between=(0.3, 0.7)).threshold)


def test_missing_values_are_skipped_and_counted():
    values = pd.Series([1.0, 1.1] * 6 + [np.nan] * 3)
    found = judge(values, above=0.5)
    assert (found.n, found.n_skipped, found.state) == (12, 3, "holds")
    paired = judge(values, control=pd.Series([np.nan, 0.0] + [0.1, 0.0] * 6 + [0.0]), above="control")
    assert (paired.n, paired.n_skipped) == (11, 4)  # prompts with both
    assert judge([np.nan] * 9, above=0.0).state == "undecided"


def test_series_are_matched_by_index_and_anything_else_by_place():
    values = pd.Series([1.0, 2.0, 3.0] * 4, index=range(12))
    control = (values - 1.5 + np.linspace(-0.01, 0.01, 12)).sample(frac=1, random_state=0)
    assert judge(values, control=control, above="control").difference_low == pytest.approx(1.5, abs=0.01)
    assert judge(values, control=control.to_numpy(), above="control").difference_low < 1.4
    with pytest.raises(InputError, match="different prompts"):
        judge(values, control=control.rename({0: 99}), above="control")


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_prompts_decide_nothing(n):
    """n values agree in sign by chance with probability 2^(1 - n), above 0.05 below six: whatever their size."""
    assert judge(np.full(n, 100.0) + np.arange(n), above=0.0).state == "undecided"
    assert judge(np.full(6, 100.0) + np.arange(6), above=0.0).state == "holds"


def test_hits_have_wilsons_interval():
    """20 hits of 20, resampled, would have no width; scipy's Wilson interval is the reference."""
    for hits in (0, 7, 20):
        values = np.arange(20) < hits
        found = judge(values, above=0.5, bounds=(0, 1))
        expected = binomtest(hits, 20).proportion_ci(method="wilson")
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert judge(np.ones(20), at_least=0.9, bounds=(0, 1)).state == "undecided"
    assert judge(np.ones(60), at_least=0.9, bounds=(0, 1)).state == "holds"


@pytest.mark.parametrize("share", [0.03, 0.3, 0.97])
def test_intervals_of_hits_cover_the_truth_whether_or_not_any_differ(share):
    """Of 40 units that nearly all agree, three studies in ten see no other: resampled, those would never cover it."""
    random, inside = np.random.default_rng(5), 0
    for _ in range(2000):
        found = judge((random.random(40) < share).astype(float), above=share, bounds=(0, 1), n_resamples=99)
        inside += found.low <= share <= found.high
    # Wilson's coverage oscillates with the share, 0.93 to 0.98 at n = 40; two standard errors of 2000 studies are 0.01.
    assert 0.92 < inside / 2000 < 0.99


def test_equal_values_at_a_bound_are_no_evidence_that_the_next_is_equal():
    """Hits that all agree: what could not be seen counts as far as it can reach."""
    unseen = binomtest(0, 24).proportion_ci(method="wilson").high
    correlation = judge([1.0] * 24, at_least=0.9, bounds=(-1, 1))
    assert (correlation.low, correlation.high) == (pytest.approx(1 - 2 * unseen), 1.0)
    assert correlation.state == "undecided" and judge([1.0] * 24, at_least=0.5, bounds=(-1, 1)).state == "holds"
    assert correlation.reason == (
        "the interval spans 0.9; all 24 values lie at one bound, and the next may lie at the other"
    )


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("bound", [0.1, 0.3, 0.9])
def test_an_interval_of_hits_that_agree_and_its_p_value_agree(value, bound):
    for n in (6, 20, 60, 400):
        found = judge([value] * n, above=bound, bounds=(0, 1))
        assert (found.p <= 0.05) == (not found.low <= bound <= found.high)


def test_differences_of_shares_reach_from_minus_one_to_one():
    unseen = binomtest(0, 30).proportion_ci(method="wilson").high
    found = judge([1.0] * 30, control=[0.0] * 30, above="control", bounds=(0, 1))
    assert (found.difference_low, found.difference_high) == (pytest.approx(1 - 2 * unseen), 1.0)


DISTRIBUTIONS = {
    "normal": (lambda random, size: random.normal(3.0, 2.0, size), 3.0),
    "uniform": (lambda random, size: random.random(size), 0.5),
    "share of ten tokens": (lambda random, size: random.binomial(10, 0.85, size) / 10, 0.85),
    "skewed share": (lambda random, size: random.beta(8, 2, size), 0.8),
    "hit or miss": (lambda random, size: random.binomial(1, 0.7, size).astype(float), 0.7),
    "difference of hits": (lambda random, size: random.choice([-1.0, 0.0, 1.0], size, p=[0.1, 0.6, 0.3]), 0.2),
}


@pytest.mark.parametrize("n", [24, 60])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_intervals_cover_the_truth_as_often_as_they_say(name, n):
    """Simulated studies of n prompts. A plain percentile interval covers 0.92 of normal values at n = 24."""
    draw, truth = DISTRIBUTIONS[name]
    random, studies = np.random.default_rng(1), 1000
    inside = 0
    for study in range(studies):
        bounds = (0, 1) if name == "hit or miss" else None
        found = judge(draw(random, n), above=truth, bounds=bounds, n_resamples=399, seed=study)
        inside += found.low <= truth <= found.high
    # 0.93 to 0.97, and two standard errors of 1000 studies (0.014) for the simulation's own scatter.
    assert 0.93 - 0.014 < inside / studies < 0.97 + 0.014


def test_p_values_are_students_where_students_hold():
    """Normal values: the inverted interval against the t-test, over the range that decisions are made in."""
    values = np.random.default_rng(2).normal(size=30)
    for bound in (-0.8, -0.4, 0.3, 0.5):
        expected = ttest_1samp(values, bound).pvalue
        # The bootstrap has the sample's own skew, which for 30 normal values moves a p-value by a factor of some 1.5.
        assert judge(values, above=bound).p == pytest.approx(expected, rel=0.6, abs=2e-4)


def test_a_verdict_in_one_line():
    assert str(judge([0.8, 0.9] * 10 + [np.nan], control=[0.1] * 21, above="control", statement="more than none")) == (
        "holds: more than none: 0.850 against 0.100: 0.750 [0.725, 0.775] > 0 (n = 20, 1 skipped)"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one"),
        ({"at_least": 1.0, "below": 2.0}, "exactly one"),
        ({"above": "random"}, "neither a finite number nor 'control'"),
        ({"above": float("nan")}, "finite number"),
        ({"above": "control"}, r"no control="),
        ({"between": (2.0, 1.0)}, "smaller"),
        ({"between": 3.0}, "between=3.0: give a list of 2 finite numbers or None"),
        ({"above": 0.0, "bounds": (0, 1)}, r"a value of 2 lies outside bounds=\(0, 1\)"),
        ({"above": 0.0, "bounds": (1, 0)}, "must be two finite numbers"),
        ({"above": 0.0, "level": 95}, "level=95, n_resamples=9999: give a level between 0 and 1"),
        ({"above": 0.0, "control": [1.0, 2.0]}, "3 values, but 2"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        judge([1.0, 2.0, 3.0], **arguments)


def test_bad_values():
    with pytest.raises(InputError, match="one number per prompt"):
        judge(["a", "b"], above=0.0)
    for values in (None, 3.0, "abc"):
        with pytest.raises(InputError, match=rf"values={values!r} must be one number per prompt"):
            judge(values, above=0.0)
    with pytest.raises(InputError, match="infinity"):
        judge([1.0, np.inf], above=0.0)


# The table -----------------------------------------------------------------------------------------------------------

TOY = Schema(
    "toy", "nobody (2020)", "one per prompt", columns("model", "run_id", "prompt_id", Column("x", "float", ""))
)


class Toy:
    """A measurement that counts its calls and can be interrupted or refused."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.stop_at: str | None = None


@pytest.fixture
def toy(monkeypatch) -> Toy:
    state = Toy()

    def measure(subject, *, centre, n=30):
        name = f"{subject.name} {centre}"
        state.calls.append(name)
        if state.stop_at == name:
            raise KeyboardInterrupt
        if centre == "nowhere":
            raise ModelError("this model has no such part.")
        return pd.DataFrame({"run_id": "toyrun", "prompt_id": range(n), "x": centre + np.linspace(-1, 1, n)})

    state.measure = measure  # type: ignore[attr-defined]
    return state


def claim_of(toy: Toy, id: str, centre: object = 1.0, statistic=None, **comparison: object) -> Claim:
    return Claim(
        id=id, statement=f"{id} is so", paper="Nobody (2020)", says="It is said, against no control.", probe="toy",
        measure=toy.measure, parameters={"centre": centre}, statistic=statistic or by_prompt,
        comparison=Comparison(**(comparison or {"above": 0.0})),
    )  # fmt: skip


def by_prompt(frame: pd.DataFrame) -> pd.Series:
    return frame.groupby("prompt_id")["x"].mean()


def not_here(frame: pd.DataFrame) -> pd.Series:
    raise NotApplicable("there is nothing to compare.")


@pytest.fixture(scope="module")
def subject() -> interp.Subject:
    return interp.load("reference")


def test_the_table_says_holds_fails_undecided_and_skipped(toy, subject):
    claims = [
        claim_of(toy, "a.holds"),
        claim_of(toy, "a.fails", below=0.0),
        claim_of(toy, "a.undecided", above=1.0),
        claim_of(toy, "b.refused", centre="nowhere"),
        claim_of(toy, "b.unfit", statistic=not_here),
    ]
    frame = findings(subject, claims, n_resamples=999)
    FINDINGS.validate(frame)
    assert frame["state"].tolist() == ["holds", "fails", "undecided", "skipped", "skipped"]
    assert frame["reason"].tolist()[3:] == ["this model has no such part.", "there is nothing to compare."]
    assert (
        frame["n"].tolist() == [30, 30, 30, 0, 0]
        and frame["reason"].iat[2] == "the interval spans 1"
        and frame["effect"].tolist()[:3] == pytest.approx([1.0] * 3)
    )
    assert frame["probe_run_id"].tolist() == ["toyrun"] * 3 + ["", "toyrun"]
    assert toy.calls == ["reference 1.0", "reference nowhere"]  # a run is shared
    assert frame["model"].unique().tolist() == ["reference"] and frame["run_id"].nunique() == 1


def test_holm_is_over_the_claims_run_together(toy, subject):
    """One claim of p = 0.02 or so holds alone, and is undecided beside twenty others."""
    weak = claim_of(toy, "weak", centre=0.25)
    assert findings(subject, [weak])["state"].tolist() == ["holds"]
    many = [weak, *(claim_of(toy, f"other{index}", centre=0.0) for index in range(20))]
    frame = findings(subject, many)
    assert (
        frame["state"].iloc[0] == "undecided"
        and frame["reason"].iloc[0] == "holds alone, not after Holm over 21 claims"
    )
    np.testing.assert_array_equal(frame["p_holm"], holm(frame["p"].to_numpy()))


def test_an_interrupted_call_goes_on_where_it_stopped(toy, subject, tmp_path):
    claims = [claim_of(toy, f"claim{centre}", centre=centre) for centre in (1.0, 2.0, 3.0)]
    toy.stop_at = "reference 3.0"
    with pytest.raises(KeyboardInterrupt):
        findings(subject, claims, out=tmp_path / "parts")
    toy.stop_at, toy.calls = None, []
    resumed = findings(subject, claims, out=tmp_path / "parts")
    assert toy.calls == ["reference 3.0"]
    pd.testing.assert_frame_equal(resumed, findings(subject, claims))
    toy.calls = []
    findings(subject, [claim_of(toy, "claim1.0", above=5.0)], out=tmp_path / "parts")
    assert toy.calls == ["reference 1.0"]  # the same id with another bound is another claim
    toy.calls = []
    findings(subject, claims, out=tmp_path / "parts", seed=1)
    assert len(toy.calls) == 3  # another seed is another call


def test_a_verdict_does_not_outlive_the_code_it_depends_on(toy, subject, tmp_path, monkeypatch):
    claims = [claim_of(toy, "claim1.0", centre=1.0)]
    findings(subject, claims, out=tmp_path)
    toy.calls = []
    findings(subject, claims, out=tmp_path)
    assert toy.calls == []
    monkeypatch.setattr("interp.runs.code.versions", lambda: {"torch": "another"})
    findings(subject, claims, out=tmp_path)
    assert toy.calls == ["reference 1.0"]


def test_skipped_claims_are_tried_again(toy, subject, tmp_path):
    claims = [claim_of(toy, "x", centre="nowhere")]
    for _ in range(2):
        assert findings(subject, claims, out=tmp_path)["state"].tolist() == ["skipped"]
    assert len(toy.calls) == 2


def raises(subject):
    raise ZeroDivisionError("division\nby zero")


def leaves(subject):
    raise SystemExit(3)


class Mute(Exception):
    """An error that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError


def mute(subject):
    raise Mute


def test_a_bug_in_a_claim_is_shown_and_stops_no_other(toy, subject, tmp_path):
    claims = [
        claim_of(toy, "typo", statistic=lambda frame: frame["not_a_column"]),
        replace(claim_of(toy, "bug"), measure=raises, parameters={}),
        replace(claim_of(toy, "no_text"), texts="stories", parameters={"centre": 1.0, "no_such": 2}),
        claim_of(toy, "two", statistic=lambda frame: (by_prompt(frame), None, None)),
        claim_of(toy, "text", statistic=lambda frame: "much"),
        replace(claim_of(toy, "nothing"), measure=lambda subject: None, parameters={}),
        replace(claim_of(toy, "leaves"), measure=leaves, parameters={}),
        replace(claim_of(toy, "mute"), measure=mute, parameters={}),
        claim_of(toy, "sound"),
    ]
    frame = findings(subject, claims, out=tmp_path).set_index("claim")
    assert frame["state"].to_dict() == {
        "typo": "error", "bug": "error", "no_text": "error", "two": "error", "text": "skipped", "nothing": "error",
        "leaves": "error", "mute": "error", "sound": "holds",
    }  # fmt: skip
    assert re.fullmatch(r"KeyError: 'not_a_column' \(.*\.py, line \d+\)", frame.loc["typo", "reason"])
    assert frame.loc["bug", "reason"].startswith("ZeroDivisionError: division by zero (test_table.py, line ")
    assert frame.loc["nothing", "reason"].startswith(
        "TypeError: the measurement returned a NoneType where a frame is due"
    )
    assert frame.loc["mute", "reason"].startswith("Mute: no message (test_table.py, line ")
    assert frame.loc["typo", "probe_run_id"] == "toyrun" and frame.loc["bug", "probe_run_id"] == ""
    frame.reset_index().interp.plot()
    toy.calls = []
    assert findings(subject, claims, out=tmp_path)["state"].tolist() == frame["state"].tolist()
    assert len(toy.calls) == 1  # an error is not kept: the claim may have been mended


def test_what_a_probe_warns_of_reaches_every_verdict_of_its_run_and_is_shown_once(toy, subject):
    def warns(subject, *, steps):
        warnings.warn(f"{steps} steps\n are too few", stacklevel=1)
        warnings.warn("numbers are rough", DeprecationWarning, stacklevel=1)
        return toy.measure(subject, centre=1.0)

    def warns_too(frame):
        warnings.warn("half of the units are alike", stacklevel=1)
        return by_prompt(frame)

    first = replace(claim_of(toy, "first"), measure=warns, parameters={"steps": 20})
    claims = [first, replace(first, id="second", statistic=warns_too, comparison=Comparison(above=1.0))]
    for _ in range(2):  # Python shows a warning of one line once per session; a verdict needs it every time
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("default")
            frame = findings([subject, subject], claims)
        assert Counter(str(one.message) for one in shown if one.category is UserWarning) == {
            "20 steps\n are too few": 1, "half of the units are alike": 1,
        }  # fmt: skip
        assert any(one.category is DeprecationWarning for one in shown)
        assert frame["caveats"].tolist() == [
            "20 steps are too few", "20 steps are too few; half of the units are alike",
        ] * 2  # fmt: skip
        assert frame["reason"].tolist()[:2] == [
            "20 steps are too few",
            "the interval spans 1; 20 steps are too few; half of the units are alike",
        ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        frame = findings(subject, claims)
    assert frame["state"].tolist() == ["error"] * 2 and frame["reason"].str.startswith("UserWarning: 20 steps").all()


@pytest.mark.parametrize("n_positions", [2, None])
def test_the_end_of_a_text_that_the_claim_cut_is_not_warned_of(toy, subject, n_positions):
    def warns(subject, texts):
        interp.errors.warn("ends in a space. Silence this warning with ignore.", interp.errors.EndsInsideToken)
        return toy.measure(subject, centre=1.0)

    claim = replace(claim_of(toy, "cut"), measure=warns, parameters={}, texts="stories", n_texts=3)
    claim = replace(claim, n_positions=n_positions)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        (caveats,) = findings(subject, [claim])["caveats"]
    told = [one for one in shown if one.category is interp.errors.EndsInsideToken]
    assert len(told) == (n_positions is None) and ("ends in a space" in caveats) == (n_positions is None)
    assert "Silence" not in caveats


def test_holm_keeps_the_caveats(toy, subject):
    def warns(subject):
        warnings.warn("rough", stacklevel=1)
        return toy.measure(subject, centre=0.25)

    weak = replace(claim_of(toy, "weak"), measure=warns, parameters={})
    many = [weak, *(claim_of(toy, f"other{index}", centre=0.0) for index in range(20))]
    with pytest.warns(UserWarning, match="rough"):
        frame = findings(subject, many)
    assert frame["reason"].iloc[0] == "holds alone, not after Holm over 21 claims; rough"


def test_cut_texts_are_counted_and_said(small_subject):
    """A model reads a third of texts three contexts long, and the verdict says so."""
    model = small_subject("gpt2", "bridge")
    words = [" ".join(model.token_strings[3 + one : 6 + one]) for one in range(6)]
    data = model.tokens(words)
    long = [" ".join([text] * (3 * model.n_ctx)) for text in words]

    def lengths(subject, texts, *, truncate):
        kept = subject.tokens(texts, truncate=truncate)
        return pd.DataFrame({"prompt_id": kept.table["prompt_id"], "x": [float(len(ids)) for ids in kept.ids]})

    asked = Claim("cut.long", "s", "p", "s", "toy", by_prompt, Comparison(above=0.0), texts=long, measure=lengths)
    frame = findings(model, [asked, replace(asked, id="cut.short", texts=words)]).set_index("claim")
    cut = model.tokens(long, truncate=True)
    share = cut.n_cut.sum() / (cut.n_cut.sum() + sum(map(len, cut.ids)))
    said = f"{share:.0%} of the tokens were cut for a context of {model.n_ctx}"
    assert frame.loc["cut.long", "n_tokens_cut"] == cut.n_cut.sum() > 0 and frame.loc["cut.long", "caveats"] == said
    assert said in frame.loc["cut.long", "reason"] and frame.loc["cut.long", "data_sha256"] == cut.digest
    short = frame.loc["cut.short"]
    assert (short["n_tokens_cut"], short["caveats"], short["data_sha256"]) == (0, "", data.digest)


@pytest.mark.parametrize("n_positions", [2, 5])
def test_a_claim_reads_as_many_positions_as_it_says(small_subject, n_positions):
    """Neither the probe nor the count of cut tokens sees what lies behind, whether or not it fits the context."""
    model = small_subject("gpt2", "bridge")
    words = [" ".join(model.token_strings[3 + one : 3 + 2 * one]) for one in range(3, 9)]
    long = [" ".join([text] * (3 * model.n_ctx)) for text in words]

    def lengths(subject, texts, *, truncate):
        kept = subject.tokens(texts, truncate=truncate)
        return pd.DataFrame({"prompt_id": kept.table["prompt_id"], "x": [float(len(ids)) for ids in kept.ids]})

    asked = Claim(
        "few", "s", "p", "s", "toy", by_prompt, Comparison(above=0.0), texts=words, measure=lengths,
        n_positions=n_positions,
    )  # fmt: skip
    frame = findings(model, [asked, replace(asked, id="of.long", texts=long)]).set_index("claim")
    whole = model.tokens(words).ids
    assert frame.loc["few", "effect"] == np.mean([min(n_positions, len(ids)) for ids in whole])
    assert frame.loc["few", "data_sha256"] == model.tokens([ids[:n_positions] for ids in whole]).digest
    assert frame.loc["of.long", "effect"] == n_positions and frame["n"].tolist() == [6, 6]
    assert frame["data"].eq(f"the claim's own (6 of up to {n_positions} tokens)").all()
    assert frame["n_tokens_cut"].tolist() == [0, 0] and frame["caveats"].eq("").all()
    wider = findings(model, replace(asked, texts=long, n_positions=model.n_ctx + 2))
    assert wider["effect"].tolist() == [model.n_ctx] and wider["n_tokens_cut"].tolist() == [6 * 2]


def test_a_claim_reads_as_many_texts_as_the_width_of_the_model_asks_for(small_subject):
    """Texts are taken from the start; those of three tokens add two each, as the first position is not counted."""
    model = small_subject("gpt2", "bridge")
    texts = [" ".join(model.token_strings[3:6])] * (2 * model.d_model)
    n_each = len(model.tokens(texts[:1]).ids[0]) - 1

    def count(subject, texts):
        return pd.DataFrame({"prompt_id": texts["prompt_id"], "x": 1.0})

    asked = Claim("wide", "s", "p", "s", "toy", by_prompt, Comparison(above=0.0), texts=texts, measure=count)
    for n_tokens_per_dim in (1, 2):
        frame = findings(model, replace(asked, n_tokens_per_dim=n_tokens_per_dim))
        assert frame["n"].item() == -(-n_tokens_per_dim * model.d_model // n_each)
    assert findings(model, replace(asked, n_tokens_per_dim=99))["n"].item() == len(texts)  # all there are
    with pytest.raises(InputError, match="takes n_tokens_per_dim=0; give 1 or more, or None for all"):
        replace(asked, n_tokens_per_dim=0)


def test_claims_that_read_other_positions_do_not_share_a_run(toy):
    one = replace(claim_of(toy, "a"), texts="stories", n_texts=3, n_positions=4)
    other = replace(one, n_positions=5)
    assert one.run_key() != other.run_key() and one.digest() != other.digest()


def test_the_digest_of_the_data_is_that_of_the_probes_run(subject):
    """And a claim about weights has none."""
    few = replace(get("lens.late_agreement"), n_texts=6)
    frame = findings(subject, [few, "neurons.prediction"], n_resamples=99).set_index("claim")
    run = frame.interp.runs if "run_id" in frame else {}
    assert run[frame["run_id"].iat[0]]["probe"] == "findings"
    probed = interp.runs.accessor._runs[frame.loc["lens.late_agreement", "probe_run_id"]]
    assert frame.loc["lens.late_agreement", "data_sha256"] == probed["data_sha256"] != ""
    assert frame.loc["neurons.prediction", "data_sha256"] == ""


def test_prompts_without_rows_are_skipped_ones(subject):
    def some(subject, texts, *, truncate):
        kept = texts.iloc[::2]
        return pd.DataFrame({"prompt_id": kept["prompt_id"], "x": [float("nan"), *range(1, len(kept))]})

    asked = Claim(
        "half.left", "s", "p", "s", "toy", by_prompt, Comparison(above=0.0), texts="prompts", n_texts=40, measure=some
    )
    frame = findings(subject, [asked, replace(asked, id="half.rows", unit="letters")])
    assert frame["n"].tolist() == [19, 19] and frame["n_skipped"].tolist() == [21, 1]


def test_several_models_make_a_matrix(toy, small_subject):
    first, second = small_subject("gpt2", "bridge"), small_subject("llama", "bridge")
    claims = [claim_of(toy, "a.one"), claim_of(toy, "a.two", below=0.0)]
    frame = findings([first, second], claims)
    matrix = frame.interp.summary()
    assert matrix["claim"].tolist() == ["a.one", "a.two"] and len(matrix.columns) == 5
    assert matrix.iloc[:, 3].tolist() == matrix.iloc[:, 4].tolist() == ["holds", "fails"]
    figure = frame.interp.plot()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a.one is so", "a.two is so"]
    said = [text.get_text() for text in figure.axes[0].texts]
    assert sum("1.00 [0.7" in text for text in said) == 4 and said.count("✓") == said.count("✗") == 2


def test_own_texts_take_the_place_of_the_stories_only(subject):
    def measure(subject, texts, *, truncate, seed):
        assert truncate is True and seed == 5
        return texts.assign(x=texts["text"].str.len(), prompt_id=range(len(texts)))

    story = Claim(
        "s", "s", "p", "s", "toy", by_prompt, Comparison(above=0.0), texts="stories", n_texts=7, measure=measure
    )
    prompt = Claim("q", "s", "p", "s", "toy", by_prompt, Comparison(above=0.0), texts="prompts", measure=measure)
    frame = findings(subject, [story, prompt], seed=5)
    assert frame["data"].tolist() == ["stories (7)", "prompts (120)"] and frame["n"].tolist() == [7, 120]
    own = findings(subject, [story, prompt], seed=5, texts=["ab", "cde"])
    assert own["data"].tolist() == ["your own (2)", "prompts (120)"] and own["effect"].iloc[0] == 2.5


def test_bad_calls(toy, subject):
    with pytest.raises(UnknownName, match=r"unknown claim 'robustness.delet'; did you mean 'robustness.delete'"):
        findings(subject, "robustness.delet")
    with pytest.raises(InputError, match="two claims have the id 'a'"):
        findings(subject, [claim_of(toy, "a"), claim_of(toy, "a", below=1.0)])
    with pytest.raises(InputError, match="no models"):
        findings([], [claim_of(toy, "a")])
    with pytest.raises(InputError, match="no claims"):
        findings(subject, [])
    with pytest.raises(InputError, match="has no paper"):
        Claim("a", "b", " ", "c", "toy", by_prompt, Comparison(above=0.0))
    for name in ("n_texts", "n_positions"):
        for n in (0, -3):
            with pytest.raises(InputError, match=f"claim 'a' takes {name}={n}; give 1 or more"):
                replace(claim_of(toy, "a"), texts="stories", **{name: n})


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def offered(toy, monkeypatch):
    """The command meets two toy claims instead of the installed ones."""
    claims = {one.id: one for one in (claim_of(toy, "a.one"), claim_of(toy, "b.gone", centre="nowhere"))}
    monkeypatch.setattr(package.claim, "_claims", lambda: claims)
    return claims


def test_the_command_prints_writes_and_leaves_nothing_behind(offered, tmp_path):
    out = tmp_path / "findings.parquet"
    result = CliRunner().invoke(app, ["findings", "--out", str(out)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "a.one" in result.output and "holds" in result.output and "this model has no such part" in result.output
    assert pd.read_parquet(out)["state"].tolist() == ["holds", "skipped"]
    assert list(tmp_path.iterdir()) == [out]


def test_the_command_tells_of_a_run_before_it_begins(offered, monkeypatch):
    told = []
    monkeypatch.setattr(table_module, "rows_of", lambda *_: told.append(sys.stderr.getvalue()) or ())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logger = logging.getLogger("interp.findings")
    before = list(logger.handlers), logger.level
    with commands.told("interp.findings"), suppress(KeyError):  # no run gives a row
        findings("reference", list(offered.values()))
    assert told[0].splitlines() == ["reference: 2 claims in 2 runs", "run 1 of 2: toy for a.one"]
    assert told[1].splitlines()[2:] == ["run 2 of 2: toy for b.gone"]
    assert (list(logger.handlers), logger.level) == before


def test_the_command_prints_each_verdict_on_standard_error(offered):
    result = CliRunner().invoke(app, ["findings", "--json"])
    assert json.loads(result.stdout)["rows"][0]["claim"] == "a.one"
    assert re.search(r"^  a\.one holds after \d+ s$", result.stderr, flags=re.MULTILINE), result.stderr


def test_the_command_prints_json(offered):
    result = CliRunner().invoke(app, ["findings", "--claim", "a.*", "--json"])
    (row,) = json.loads(result.stdout)["rows"]
    assert row["claim"] == "a.one" and row["state"] == "holds" and row["low"] < 1.0 < row["high"]


def test_the_command_refuses_in_one_sentence(offered):
    result = CliRunner().invoke(app, ["findings", "--claim", "zzz"])
    assert result.exit_code == 2 and "unknown claim 'zzz'" in result.output


def test_findings_are_no_probe_but_their_frames_are_known():
    assert "findings" not in interp.runs.registry.names()
    assert interp.runs.registry.get("findings").schema is FINDINGS is table_module.FINDINGS
