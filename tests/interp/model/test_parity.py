"""The same frame from both backends, from any batch, and from half precision."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import ModelError
from probes import logit_lens, top_tokens

BOTH = ("gpt2", "llama", "gpt_neox", "gemma2")
TEXTS = [
    "w3 w9 w27 w20 w5 w13 w36 w44",
    "w3",
    "w60 w59 w58 w57 w56 w55 w54 w53 w52 w51 w50 w49 w48",
    "w7 w7 w7 w7",
    "w5 w13 w36",
]
AT = ["prompt_id", "pos", "token_id", "token", "layer", "sublayer"]
NUMBERS = ["log_prob", "entropy", "kl_to_final", "top1_prob"]


def assert_same_lens(left: pd.DataFrame, right: pd.DataFrame, tolerance: float) -> None:
    """Frames of `logit_lens`: equal places, numbers within a tolerance, equal choices but for ties within it."""
    assert len(left) == len(right) > 0
    pd.testing.assert_frame_equal(left[[*AT, "target_id", "target"]], right[[*AT, "target_id", "target"]])
    difference = (left[NUMBERS] - right[NUMBERS]).abs()
    assert difference.max().max() < tolerance
    assert left[NUMBERS].isna().equals(right[NUMBERS].isna())
    # Ranks and argmaxes jump where two logits tie within the tolerance; random logits do so about never.
    for name in ("rank", "top1_id", "top1", "agrees_final"):
        assert (left[name] != right[name]).mean() < 0.002, name


@pytest.mark.parametrize("architecture", BOTH)
@pytest.mark.parametrize("targets", ["next", "argmax", ["w9", 44]], ids=["next", "argmax", "named"])
def test_both_backends_give_the_same_lens(small_subject, architecture, targets):
    bridge, nnsight = (
        logit_lens(small_subject(architecture, backend), TEXTS, targets=targets) for backend in ("bridge", "nnsight")
    )
    # Two orders of float32 sums; the promise is 1e-4.
    assert_same_lens(bridge, nnsight, 1e-4)
    assert bridge["log_prob"].std() > 0.1 and bridge["kl_to_final"].max() > 0.1


@pytest.mark.parametrize("architecture", BOTH)
def test_both_backends_give_the_same_lens_without_the_final_norm(small_subject, architecture):
    frames = [
        logit_lens(small_subject(architecture, backend), TEXTS, final_norm=False) for backend in ("bridge", "nnsight")
    ]
    # Without a norm residuals and logits are up to ten times as large, and so is their rounding.
    assert_same_lens(*frames, 1e-3)


@pytest.mark.parametrize("architecture", [*BOTH, "opt", "olmo2", "bloom", "gpt_neo"])
def test_both_backends_give_the_same_sublayers(small_subject, architecture, parallel):
    subjects = [small_subject(architecture, backend) for backend in ("bridge", "nnsight")]
    if architecture in parallel:
        messages = set()
        for subject in subjects:
            with pytest.raises(ModelError, match=r"parts run in parallel.*pass sublayers=False") as caught:
                logit_lens(subject, TEXTS, sublayers=True)
            messages.add(type(caught.value))
        assert len(messages) == 1
        return
    bridge, nnsight = (logit_lens(subject, TEXTS, sublayers=True) for subject in subjects)
    assert_same_lens(bridge, nnsight, 1e-4)
    assert bridge["sublayer"].value_counts().to_dict() == {
        "pre": 4 * len(bridge) // 9,
        "mid": 4 * len(bridge) // 9,
        "final": len(bridge) // 9,
    }


@pytest.mark.parametrize("architecture", BOTH)
def test_both_backends_give_the_same_top_tokens(small_subject, architecture):
    bridge, nnsight = (top_tokens(small_subject(architecture, backend), TEXTS) for backend in ("bridge", "nnsight"))
    pd.testing.assert_frame_equal(bridge[[*AT, "k"]], nnsight[[*AT, "k"]])
    assert (bridge[["log_prob", "prob"]] - nnsight[["log_prob", "prob"]]).abs().max().max() < 1e-4
    assert (bridge["pred_id"] != nnsight["pred_id"]).mean() < 0.002  # neighbours in probability may tie


@pytest.mark.parametrize("architecture", BOTH)
def test_the_last_layer_is_the_model(small_model, small_subject, word_level, architecture, any_backend):
    model = small_model(architecture)
    frame = logit_lens(small_subject(architecture, any_backend), TEXTS)
    last = frame[frame["layer"] == 4]
    for prompt, text in enumerate(TEXTS):
        ids = torch.tensor([word_level(text)["input_ids"]])
        with torch.no_grad():
            log_probs = model(ids).logits[0].log_softmax(-1)
        rows = last[last["prompt_id"] == prompt]
        expected = log_probs[:-1].gather(1, ids[0, 1:, None])[:, 0]
        # A bridge's attention rounds in other places than the model's: float32, logits below 10.
        np.testing.assert_allclose(rows["log_prob"].to_numpy()[:-1], expected.numpy(), atol=3e-5)
        assert rows["log_prob"].isna().tolist() == [False] * (len(rows) - 1) + [True]
        assert rows["top1_id"].tolist() == log_probs.argmax(-1).tolist()
        assert (rows["kl_to_final"] == 0).all() and rows["agrees_final"].all()


def test_a_prompts_numbers_do_not_depend_on_its_batch(small_subject, any_architecture):
    assert_batch_does_not_matter(small_subject(any_architecture, "bridge"))


@pytest.mark.parametrize("architecture", BOTH)
def test_nor_do_they_under_nnsight(small_subject, architecture):
    assert_batch_does_not_matter(small_subject(architecture, "nnsight"))


def assert_batch_does_not_matter(subject: interp.Subject) -> None:
    assert len(list(subject.tokens(TEXTS).batches(subject.batch_tokens()))) == 1
    together = logit_lens(subject, TEXTS)
    for prompt in (1, 4):  # of 1 and 3 words beside others of up to 13
        alone = logit_lens(subject, TEXTS[prompt])
        rows = together[together["prompt_id"] == prompt].reset_index(drop=True).assign(prompt_id=0)
        # Matrix products of other shapes add in another order: float32 rounding of log-probabilities below 10.
        assert_same_lens(rows, alone, 1e-5)


def test_batches_of_any_size_give_the_same_frame(small_subject, any_backend):
    subject = small_subject("gemma2", any_backend)
    whole = logit_lens(subject, TEXTS)
    with interp.options.local(memory=1 << 17):
        assert len(list(subject.tokens(TEXTS).batches(subject.batch_tokens()))) > 1
        assert_same_lens(logit_lens(subject, TEXTS), whole, 1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2"])
def test_half_precision_gives_float32_statistics(small_model, small_subject, word_level, architecture, any_backend):
    model = small_model(architecture).to(torch.bfloat16)
    subject = interp.load(model, tokenizer=word_level, backend=any_backend)
    frame, probabilities = logit_lens(subject, TEXTS), top_tokens(subject, TEXTS[:1], k=61)
    # Over the whole vocabulary they add up to 1 within float32, which bfloat16 with its 8 bits could not.
    totals = probabilities.groupby(["prompt_id", "pos", "layer"])["prob"].sum()
    assert (totals - 1).abs().max() < 1e-5
    values = torch.tensor(frame["entropy"].to_numpy(), dtype=torch.float32)
    assert (values != values.to(torch.bfloat16).float()).float().mean() > 0.9
    exact = logit_lens(small_subject(architecture, any_backend), TEXTS)
    # Weights rounded to 8 bits move log-probabilities by a few hundredths, not by more.
    assert 1e-3 < (frame["log_prob"] - exact["log_prob"]).abs().median() < 0.1


def test_both_backends_say_the_same_of_where_it_came_from(small_subject):
    bridge, nnsight = (
        logit_lens(small_subject("llama", backend), TEXTS).interp.provenance.squeeze()
        for backend in ("bridge", "nnsight")
    )
    assert bridge.name != nnsight.name  # two runs: concatenated, each keeps its provenance
    for same in ("fingerprint", "model", "data_sha256", "parameters", "dtype"):
        assert bridge[same] == nnsight[same], same
    assert (bridge["backend"], nnsight["backend"]) == ("bridge", "nnsight")
