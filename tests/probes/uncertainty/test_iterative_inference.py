"""Trajectories against their definition and planted truth; scores and their comparison; bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import interp
from interp.errors import InputError, InterpError
from interp.planted import bias_ladder
from interp.stats import auc
from probes import iterative_inference, logit_lens
from probes.uncertainty import claims
from probes.uncertainty._detection import SCORES, compare_scores, settled, uncertainty_scores

pytestmark = pytest.mark.trained

CLOSE = 2e-5  # float32 statistics of logits of size ten
TEXTS = ["w4 w9 w33 w5 w17", "w7 w3", "w55 w6 w7 w8 w9 w10", "w9 w9 w4"]


def prompts(subject: interp.Subject) -> pd.DataFrame:
    """Half of them expected to go on as the model does."""
    said = [int(logits[-1].argmax()) for logits in subject.logits(TEXTS)]
    ids = [said[0], 10, said[2], 11]
    return pd.DataFrame({"text": TEXTS, "expected": [subject.tokenizer.decode([index]) for index in ids]})


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "phi"])
def test_trajectories_follow_their_definition(small_subject, architecture, any_backend):
    subject = small_subject(architecture, any_backend)
    table = prompts(subject)
    frame = iterative_inference(subject, table).set_index(["prompt_id", "layer"])
    for prompt, text in enumerate(TEXTS):
        ids = subject.tokens([text]).ids[0]
        layers = range(subject.n_layers + 1)
        logits = subject.run(
            ids[None],
            lambda tape: torch.stack([tape.head(tape.residual(k)[0, -1]) for k in layers]),  # noqa: B023
        ).double()
        log_q = logits.log_softmax(-1)
        generated, true = int(logits[-1].argmax()), subject.tokenizer(table["expected"][prompt])["input_ids"][-1]
        for layer in layers:
            row = frame.loc[prompt, layer]
            two = log_q[layer].topk(2).values
            known = {
                "loss_true": -log_q[layer, true],
                "loss_generated": -log_q[layer, generated],
                "entropy": -(log_q[layer].exp() * log_q[layer]).sum(),
                "margin": two[0] - two[1],
                "kl_to_final": (log_q[-1].exp() * (log_q[-1] - log_q[layer])).sum(),
            }
            for name, value in known.items():
                assert row[name] == pytest.approx(float(value), abs=CLOSE), (prompt, layer, name)
            assert row["agrees_final"] == (int(logits[layer].argmax()) == generated)
            assert (row["true_id"], row["generated_id"]) == (true, generated)
            assert row["correct"] == (true == generated) == (prompt in (0, 2))
            assert row["pos"] == len(ids) - 1


def test_a_ladder_has_known_trajectories():
    planted = bias_ladder()
    table = pd.DataFrame({"text": ["w0 w5", "w3 w7"], "expected": ["w3", "w4"]})
    frame = iterative_inference(planted.model, table)
    for prompt, ids in enumerate(([0, 5], [3, 7])):
        loss = -planted.truth.log_prob(torch.tensor([ids]))[:, 0, -1]
        np.testing.assert_allclose(frame[frame["prompt_id"] == prompt]["loss_generated"], loss, atol=CLOSE)
    assert frame.groupby("prompt_id")["correct"].all().tolist() == [True, False]
    scores = frame.interp.summary(by="prompt").set_index("prompt_id")
    # The target is the argmax from layer 1 on, and its loss below 0.69 nats from layer 2 on.
    assert scores.loc[0, ["top1_layer", "loss_layer"]].tolist() == [1, 2]
    curve = -planted.truth.log_prob(torch.tensor([[0, 5]]))[:, 0, -1].numpy()
    assert scores.loc[0, "slope"] == pytest.approx(np.polyfit(range(5), curve, 1)[0], abs=CLOSE)
    assert scores.loc[0, "area"] == pytest.approx(curve.mean(), abs=CLOSE)
    assert scores.loc[0, "output_loss"] == pytest.approx(curve[-1], abs=CLOSE)


def test_it_is_the_lens_at_the_last_token(small_subject):
    subject = small_subject("gpt2", "bridge")
    frame = iterative_inference(subject, prompts(subject))
    lens = logit_lens(subject, TEXTS, positions=-1, targets="argmax")
    np.testing.assert_allclose(frame["loss_generated"], -lens["log_prob"], atol=CLOSE)
    np.testing.assert_allclose(frame["kl_to_final"], lens["kl_to_final"], atol=CLOSE)


def test_shipped_prompts_are_judged_side_by_side():
    frame = iterative_inference("reference", "prompts")
    summary = frame.interp.summary(n_resamples=50)
    assert summary["score"].tolist() == list(SCORES) and summary["auc"].between(0, 1).all()
    assert (summary["auc_low"] <= summary["auc"]).all() and (summary["auc"] <= summary["auc_high"]).all()
    assert summary.loc[0, "gain"] == 0 and summary.loc[0, ["gain_low", "gain_high"]].isna().all()  # against itself
    assert frame["expected"].notna().all() and "group" in frame.columns
    assert len(frame.interp.plot().axes) == 2


# -- scores ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    score, wrong = np.array([one for one, _ in pairs], dtype=float), np.array([one for _, one in pairs])
    if wrong.all() or not wrong.any():
        assert np.isnan(auc(score, wrong))
        return
    ahead = score[wrong][:, None] - score[~wrong]
    known = ((ahead > 0) + 0.5 * (ahead == 0)).mean()
    assert auc(score, wrong) == pytest.approx(known)
    assert auc(np.exp(score / 2), wrong) == pytest.approx(known)  # monotone transforms change nothing
    assert auc(-score, wrong) == pytest.approx(1 - known)


def scored(n: int = 200, *, signal: float) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    correct = generator.random(n) < 0.5
    table = pd.DataFrame({"model": "m", "run_id": "r", "prompt_id": range(n), "correct": correct})
    for name in SCORES:
        table[name] = generator.normal(size=n) - (signal if name == "area" else 0) * correct
    return table


def test_a_score_with_a_signal_gains_and_one_without_does_not():
    summary = compare_scores(scored(signal=2.0), n_resamples=300).set_index("score")
    assert summary.loc["area", "gain_low"] > 0.2 and summary.loc["area", "auc"] > summary.loc["area", "control_high"]
    assert summary.loc["slope", "gain_low"] < 0 < summary.loc["slope", "gain_high"]


def test_the_same_score_for_everyone_is_a_coin():
    summary = compare_scores(scored(signal=0).assign(slope=1.0), n_resamples=20).set_index("score")
    assert summary.loc["slope", ["auc", "control_high"]].tolist() == [0.5] * 2
    assert summary.loc["slope", ["auc_low", "auc_high"]].isna().all()  # as in every resample


def test_identical_scores_differ_by_nothing_in_any_resample():
    table = scored(signal=1.0)
    summary = compare_scores(table.assign(area=table["output_loss"]), n_resamples=50).set_index("score")
    assert summary.loc["area", "gain"] == 0 and summary.loc["area", ["gain_low", "gain_high"]].isna().all()


@pytest.mark.parametrize(
    ("holds", "first"), [([True] * 3, 0), ([False] * 3, 3), ([True, False, True], 2), ([False, True, True], 1)]
)
def test_settled_is_where_it_stays(holds, first):
    assert settled(np.array(holds)) == first


def test_only_right_answers_have_no_auc():
    summary = compare_scores(scored(signal=0).assign(correct=True), n_resamples=5)
    assert summary["auc"].isna().all() and summary["auc_low"].isna().all()


def test_scores_read_unsorted_frames(small_subject):
    subject = small_subject("gpt2", "bridge")
    frame = iterative_inference(subject, prompts(subject))
    shuffled = uncertainty_scores(frame.sample(frac=1, random_state=0)).sort_values("prompt_id", ignore_index=True)
    pd.testing.assert_frame_equal(shuffled, uncertainty_scores(frame))


# -- answers that their first token does not tell --------------------------------------------------------------------


ANSWERS = pd.DataFrame({
    "text": ["the key", "the keys", "He said", "It was", "a", "b"],
    "expected": [" is", " are", ".", " a", "nd", "ut"],
})  # fmt: skip


def test_answers_of_a_character_level_model_are_not_its_space(character_level):
    with pytest.warns(UserWarning, match="3 of 6 prompts left out, because the answer's first token is a space, or"):
        frame = iterative_inference(character_level, ANSWERS)
    assert frame.drop_duplicates("prompt_id")["true"].tolist() == [".", "n", "u"]
    assert frame.interp.provenance.loc["left_out"].str.startswith("3 of 6 prompts left out").all()
    with pytest.raises(InputError, match=r"no right answer can be told by its first token .* 3 of 3 .* differ in"):
        iterative_inference(character_level, ANSWERS.iloc[[0, 1, 3]])
    with pytest.raises(InterpError, match=r"3 of 3 answers are wrong: .* 3 of 6 prompts left out"):
        claims.confidence(frame.assign(correct=False))


def test_answers_that_begin_alike_are_left_out_and_their_company_changes_nothing_else(character_level):
    alike = pd.DataFrame({"text": ["x", "y", "z", "z"], "expected": ["was", "were", "nor", "nor?"]})
    with pytest.warns(UserWarning, match="2 of 4 prompts left out"):
        frame = iterative_inference(character_level, alike)
    alone = iterative_inference(character_level, alike.iloc[2:])  # one word, with and without a mark
    numbers = ["layer", "true_id", "loss_true", "loss_generated", "entropy"]
    pd.testing.assert_frame_equal(frame[numbers], alone[numbers])


def test_answers_behind_a_prompt_that_ends_in_a_space_are_left_out():
    prompts = pd.DataFrame(
        {"text": ["Once upon a ", "Once upon a", "He opened the"], "expected": ["time", " time", " door"]}
    )
    with pytest.warns(UserWarning, match="1 of 3 prompts left out, because the answer's first token begins inside"):
        frame = iterative_inference("reference", prompts)
    assert frame.drop_duplicates("prompt_id")["true"].tolist() == [" time", " door"]


def test_too_few_answers_of_a_kind_have_no_interval_and_a_note():
    table = scored(signal=1.0)
    right = table.index[table["correct"]]
    few = table.drop(right[5:])  # five are left
    summary = compare_scores(few, n_resamples=20)
    assert summary["auc"].notna().all() and (summary["n_right"] == 5).all()
    assert summary[["auc_low", "auc_high", "gain_low", "gain_high"]].isna().all(axis=None)
    assert summary["note"].str.endswith("answers are wrong: an AUC needs six or more of each kind").all()
    enough = compare_scores(table.drop(right[6:]), n_resamples=20)
    assert enough["auc_low"].notna().all() and (enough["note"] == "").all()


def test_prompts_keep_the_numbers_of_the_rows_that_they_were_given_in(small_subject):
    texts = pd.DataFrame({"text": ["w4", "w5", "w6"], "expected": [None, "w7", "w8"]}, index=[5, 5, 9])
    frame = iterative_inference(small_subject("gpt2", "bridge"), texts)
    assert frame["prompt_id"].unique().tolist() == [1, 2] and frame["token"].unique().tolist() == [" w5", " w6"]
    numbered = iterative_inference(small_subject("gpt2", "bridge"), texts.assign(prompt_id=[40, 41, 42]))
    assert numbered["prompt_id"].unique().tolist() == [41, 42]


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["w4 w5"], "needs to know right from wrong"),
        ("stories", "needs to know right from wrong"),
        (pd.DataFrame({"text": ["w4"], "expected": [None]}), "no prompt has an expected continuation"),
        (pd.DataFrame({"text": ["w4"], "expected": [""]}), "expected continuation '' is not a text"),
        (pd.DataFrame({"text": ["w4"], "expected": [3]}), "expected continuation 3 is not a text"),
    ],
)
def test_prompts_without_answers_are_refused(small_subject, monkeypatch, texts, says):
    monkeypatch.setattr(interp.Subject, "run", lambda *args, **kwargs: pytest.fail("computed before checking"))
    with pytest.raises(InputError, match=says):
        iterative_inference(small_subject("gpt2", "bridge"), texts)


def test_bad_summaries_are_refused(small_subject):
    subject = small_subject("gpt2", "bridge")
    frame = iterative_inference(subject, prompts(subject))
    with pytest.raises(InputError, match="cannot sum trajectories up by 'layer'"):
        frame.interp.summary(by="layer")
    with pytest.raises(InputError, match="n_resamples=0"):
        frame.interp.summary(n_resamples=0)
    for bad in (0, -0.1, float("nan"), float("inf"), "0.1"):
        with pytest.raises(InputError, match=f"kl_below={bad!r}: give a finite number of nats above 0"):
            frame.interp.summary(kl_below=bad)
