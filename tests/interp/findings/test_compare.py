"""Two runs compared prompt by prompt: against differences taken by hand, on frames whose difference is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import interp
from interp.errors import InputError
from interp.planted import bias_ladder
from interp.stats import paired_bootstrap
from probes import logit_lens, neuron_kinds

TEXTS = ["w5 w6 w7", "w8 w9", "w3 w4 w5 w6", "w7 w7", "w9 w8 w7", "w4 w3"]


@pytest.fixture(scope="module")
def runs():
    """The lens on a ladder whose blocks add 6, and on one whose blocks add 3: one frame each."""
    return tuple(logit_lens(bias_ladder(n_layers=3, a=a, target=3).model, TEXTS, targets="w3") for a in (6.0, 3.0))


def by_hand(frame, measure, layer):
    rows = frame[(frame["pos"] > 0) & (frame["layer"] == layer)]
    return rows.groupby("prompt_id")[measure].mean()


@pytest.mark.parametrize("measure", ["log_prob", "entropy"])
def test_differences_are_those_within_each_prompt(runs, measure):
    found = interp.compare(*runs).query("measure == @measure and layer == 2").iloc[0]
    apart = by_hand(runs[1], measure, 2) - by_hand(runs[0], measure, 2)
    mean, low, high, p = paired_bootstrap(apart.to_numpy()[None])
    # float64 sums of the same numbers, in another order
    assert found[["difference", "low", "high"]].tolist() == pytest.approx([*mean, *low, *high], rel=1e-12)
    assert found["p"] == p.item() and found["n_prompts"] == len(TEXTS)
    assert found["other_value"] - found["value"] == pytest.approx(found["difference"], rel=1e-12)


def test_a_run_compared_with_itself_differs_nowhere(runs):
    found = interp.compare(runs[0], runs[0])
    assert (found["difference"] == 0).all() and (found["p"] == 1).all()
    assert found.interp.summary()["n_different"].tolist() == [0] * found["measure"].nunique()


def test_one_frame_with_two_runs_is_the_same(runs):
    pd.testing.assert_frame_equal(interp.compare(interp.concat(list(runs))), interp.compare(*runs))


def test_turned_round_the_difference_changes_its_sign(runs):
    there, back = interp.compare(*runs), interp.compare(*runs[::-1])
    np.testing.assert_array_equal(there["difference"], -back["difference"])
    np.testing.assert_array_equal(there["value"], back["other_value"])


def test_layers_of_one_model_only_are_left_out_aloud(runs):
    deeper = logit_lens(bias_ladder(n_layers=4, a=6.0, target=3).model, TEXTS, targets="w3")
    with pytest.warns(UserWarning, match="are in one of the two runs only, and are left out"):
        found = interp.compare(runs[0], deeper)
    assert found["layer"].max() == 2  # layer 3 is the output of one and enters a block of the other


def test_other_tokens_are_told(runs):
    other = logit_lens(bias_ladder(n_layers=3, a=6.0, target=3).model, TEXTS[::-1], targets="w3")
    with pytest.warns(UserWarning, match="prompts are paired by prompt_id"):
        interp.compare(runs[0], other)


def test_what_cannot_be_compared_is_refused(runs):
    with pytest.raises(InputError, match="there are 1 runs to compare"):
        interp.compare(runs[0])
    weights = neuron_kinds("reference", layers=7)
    with pytest.raises(InputError, match="'logit_lens' and 'neuron_kinds' are two probes"):
        interp.compare(runs[0], weights)
    with pytest.raises(InputError, match="'neuron_kinds' has no numbers by prompt"):
        interp.compare(weights, weights)


def test_the_figure_has_a_panel_for_each_measure_and_says_what_its_band_is(runs):
    figure = interp.compare(*runs).interp.plot()
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == [
        "log prob (nats)", "rank", "entropy (nats)", "kl to final (nats)", "agrees final",
    ]  # fmt: skip
    assert "bands and bars: 95 % bootstrap over prompts" in figure.get_supxlabel()
    assert shown[0].get_xlabel() == "layer"


def test_the_provenance_holds_both_runs(runs, tmp_path):
    found = interp.compare(*runs)
    (facts,) = found.interp.runs.values()
    assert facts["runs"] == [frame["run_id"].iat[0] for frame in runs]
    assert [one["fingerprint"] for one in facts["of"].values()] == [
        next(iter(frame.interp.runs.values()))["fingerprint"] for frame in runs
    ]
    found.to_parquet(tmp_path / "a.parquet")
    assert pd.read_parquet(tmp_path / "a.parquet").interp.runs == found.interp.runs
