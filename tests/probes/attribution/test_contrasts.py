"""Contrasts (`against=`): identities between scores, closed forms on planted models, and plain PyTorch."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import interp
from interp.errors import InputError
from interp.planted import copying, cue, two_step
from probes import attribute, faithfulness, normxlogit, reagent_ls
from probes.attribution._finding import find_targets
from probes.attribution.faithfulness._removal import Passage, soft_distances

A, B = 9, 17
TEXTS = ["w5 w11 w7 w7 w12 w9 w4 w10", "w3 w30", "w8 w6 w11"]
LINEAR = ("normxlogit", "logit", "input_x_gradient", "integrated_gradients", "occlusion")
# Two float32 passes and their gradients through four blocks, summed in another order; scores are of size 0.1 to 10.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}
EXACT = {"rtol": 0, "atol": 2e-6}  # float32 sums of a few numbers of size one


@pytest.fixture(scope="module")
def subject(small_subject) -> interp.Subject:
    return small_subject("gpt2", "bridge")


def scores(frame: pd.DataFrame) -> np.ndarray:
    return frame["score"].to_numpy()


# -- identities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("architecture", "of"), [("gpt2", "log_prob"), ("llama", "prob")])
def test_a_contrast_is_the_difference_of_two_targets(small_subject, any_backend, architecture, of):
    """Gradients, paths, falls and read-outs are linear in the output, so in log-probabilities they are logits'."""
    model = small_subject(architecture, any_backend)
    methods = {name: {} if "logit" in name else {"of": of} for name in LINEAR}
    own, other = (attribute(model, TEXTS, methods=methods, target=one) for one in (A, B))
    contrast = attribute(model, TEXTS, methods=methods, target=A, against=B)
    np.testing.assert_allclose(scores(contrast), scores(own) - scores(other), **CLOSE)
    swapped = attribute(model, TEXTS, methods=methods, target=B, against=A)
    np.testing.assert_allclose(scores(swapped), -scores(contrast), **CLOSE)
    assert (contrast["against_id"] == B).all() and (contrast["against"] == " w17").all()
    assert own["against_id"].isna().all() and own["against"].isna().all()


def test_least_squares_of_a_contrast_is_the_difference_of_two_targets(subject):
    """The masks depend on the prompt and the seed alone, and the fit is linear in the response."""
    own, other = (reagent_ls(subject, TEXTS[:1], target=one, seed=3) for one in (A, B))
    contrast = reagent_ls(subject, TEXTS[:1], target=A, against=B, seed=3)
    np.testing.assert_allclose(scores(contrast), scores(own) - scores(other), rtol=0, atol=1e-7)  # of probabilities
    beside = attribute(subject, TEXTS[:1], methods="reagent_ls", target=A, against=B, seed=3)
    assert scores(beside).tolist() == scores(contrast).tolist()
    assert (contrast["score_se"][1:] > 0).all()


@pytest.mark.parametrize("centre", ["none", "vocab_mean", "log_prob"])
def test_the_read_outs_constant_cancels(subject, centre):
    plain = normxlogit(subject, TEXTS, target=A, against=B, layer=[0, -1])
    centred = normxlogit(subject, TEXTS, target=A, against=B, layer=[0, -1], centre=centre)
    np.testing.assert_allclose(scores(centred), scores(plain), **CLOSE)
    assert (plain["score"] == plain["norm"] * plain["logit"]).all()


def outputs(model, embeddings: Tensor) -> Tensor:
    """The logit of A minus that of B after the last position, [batch], from token embeddings."""
    logits = model(inputs_embeds=embeddings, use_cache=False).logits[:, -1]
    return logits[:, A] - logits[:, B]


def test_against_plain_pytorch(small_model, word_level, ids):
    """Integrated gradients add up to the difference of logit differences; the norm is that of the difference."""
    model = small_model("llama", attn_implementation="eager")
    subject = interp.load(model, tokenizer=word_level)
    embeddings = model.get_input_embeddings()(ids).detach()
    base = model.get_input_embeddings()(torch.arange(model.config.vocab_size)).detach().mean(0).expand_as(embeddings)
    path = attribute(
        subject, ids, methods={"integrated_gradients": {"keep": "none", "n_steps": 60}}, target=A, against=B
    )
    with torch.no_grad():
        change = outputs(model, embeddings) - outputs(model, base)
    # The sum over the path is within 1 % of the change, or it would warn; what is seen is far less.
    np.testing.assert_allclose(path.groupby("prompt_id")["score"].sum(), change, rtol=2e-3, atol=1e-4)
    embeddings.requires_grad_()
    (gradient,) = torch.autograd.grad(outputs(model, embeddings).sum(), embeddings)
    found = attribute(subject, ids, methods="gradient_norm", target=A, against=B)
    np.testing.assert_allclose(scores(found), gradient.norm(dim=-1).flatten(), **CLOSE)


# -- planted models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", ["mean", "zero"])
@pytest.mark.parametrize("method", ["occlusion", "integrated_gradients", "input_x_gradient"])
def test_copies_are_for_the_token_or_for_the_other(method, baseline):
    """Every place of the target gives it a / n, every place of the other token takes as much, and the rest is zero."""
    planted = copying(a=2.0)
    frame = attribute(
        planted.model, "w1 w3 w5 w3 w2", target="w3", against="w5",
        methods={method: {"baseline": baseline, "keep": "none"}},
    )  # fmt: skip
    np.testing.assert_allclose(scores(frame), [0, 2 / 5, -2 / 5, 2 / 5, 0], **EXACT)


def test_a_cue_is_why_its_answer_and_no_other_token():
    planted = cue(vocab=12)
    texts = f"w5 w{planted.truth.cue} w7 w8 w9"
    frame = attribute(planted.model, texts, methods="occlusion", target=planted.truth.answer, against="w11")
    assert int(np.argmax(scores(frame))) == 1
    # Neither of these is written by a token but the last one, whose own logit is another's.
    neither = attribute(planted.model, texts, methods="occlusion", target="w10", against="w11")
    np.testing.assert_allclose(scores(neither), 0, **EXACT)


def test_without_attention_only_the_last_token_counts():
    planted = two_step(vocab=12)
    frame = attribute(planted.model, "w3 w5 w8", methods="occlusion", target="w10", against="w5")
    found = scores(frame)
    np.testing.assert_allclose(found[:2], 0, **EXACT)
    assert found[2] > 0.1


# -- asking ----------------------------------------------------------------------------------------------------------


def test_the_runner_up_is_the_likeliest_but_the_target(subject):
    targets = find_targets(subject, subject.tokens(TEXTS), against="runner_up")
    best = [logits[-1].topk(2).indices.tolist() for logits in subject.logits(TEXTS)]
    assert [targets.ids.tolist(), targets.against.tolist()] == [list(one) for one in zip(*best, strict=True)]
    first = [one for one, _ in best]
    named = find_targets(subject, subject.tokens(TEXTS), target=[0, 1, 2], against="runner_up")
    expected = [one if one != target else other for target, (one, other) in enumerate(best)]
    assert named.against.tolist() == expected and named.ids.tolist() == [0, 1, 2]
    assert find_targets(subject, subject.tokens(TEXTS), target=first).against is None


def test_every_token_of_a_continuation_has_its_contrast(subject):
    """In one call, against one token, the runner-up at each step, or a token for each."""
    alone = attribute(subject, TEXTS, methods="occlusion", continuation="w4 w6", against=B)
    keys = ["prompt_id", "target_pos", "target_id"]
    assert len(alone[keys].drop_duplicates()) == 6 and (alone["against_id"] == B).all()
    step = attribute(subject, f"{TEXTS[0]} w4", methods="occlusion", target="w6", against=B)
    second = alone[(alone["prompt_id"] == 0) & (alone["target_id"] == 6)]
    np.testing.assert_allclose(scores(second), scores(step), rtol=0, atol=1e-5)  # batches of another make-up
    best = attribute(subject, TEXTS, methods="occlusion", continuation=3, against="runner_up")
    for (_, pos), rows in best.groupby(["prompt_id", "target_pos"]):
        read = rows.sort_values("pos")["token_id"].tolist()
        logits = subject.logits([read])[0][pos]
        assert logits.topk(2).indices.tolist() == [rows["target_id"].iat[0], rows["against_id"].iat[0]]
    several = attribute(subject, TEXTS[:2], methods="random", continuation="w4 w6", against=[["w5", 7], "runner_up"])
    assert several[several["prompt_id"] == 0].groupby("target_pos")["against_id"].first().tolist() == [5, 7]
    listed = attribute(
        subject, TEXTS[0], methods="random", target=[["w4", "w6"]], against=[["w5", "w7"]], target_pos=[1, -1]
    )
    assert listed[["target_id", "against_id"]].drop_duplicates().to_numpy().tolist() == [[4, 5], [6, 7]]
    assert len(listed) == 2 * (2 + 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": A, "against": A}, "against=' w9' is a target of prompt 0 too, after position 8; give another"),
        ({"continuation": "w4 w9", "against": "w9"}, "against=' w9' is a target of prompt 0 too, after position 9"),
        ({"target": A, "against": "w7 w8"}, r"'w7 w8' is 2 tokens \['w7', 'w8'\], not one"),
        ({"target": A, "against": 61}, "against id 61 is outside the vocabulary of 61"),
        ({"target": A, "against": [1, 2]}, "against lists 2 entries for 3 prompts; give one, or one per prompt"),
        ({"target": A, "against": [[1, 2], 3, 4]}, "against lists 2 tokens for the 1 target of prompt 0; give one, or"),
        ({"continuation": "w4 w6", "against": [3, [4], 5]}, "lists 1 tokens for the 2 targets of prompt 1"),
        ({"against": B, "methods": "rollout"}, "'rollout' has no contrast: its score does not look at the target; le"),
        ({"against": B, "methods": "norm"}, "method 'norm' has no contrast"),
        ({"against": B, "methods": "reagent"}, "no second token enters; take 'reagent_ls'; leave it out, or against="),
    ],
)
def test_contrasts_that_are_refused(subject, arguments, message):
    with pytest.raises(InputError, match=message):
        attribute(subject, TEXTS, **{"methods": "random", **arguments})


# -- frames of contrasts ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:these scores cannot be told")  # of three short texts
def test_two_contrasts_of_a_target_are_told_apart(subject):
    """In summaries, figures and metrics of a joined frame too."""
    parts = [attribute(subject, TEXTS, methods=("occlusion", "random"), target=A, against=one) for one in (B, 20)]
    joined = interp.concat(parts)
    alone = [one.interp.summary() for one in parts]
    columns = ["top_share", "last_share", "effective_tokens"]
    both = joined.interp.summary().set_index(["run_id", "method"])[columns].sort_index()
    pd.testing.assert_frame_equal(both, pd.concat(alone).set_index(["run_id", "method"])[columns].sort_index())
    figure = joined.interp.plot(target=1)
    assert "“ w9” and not “ w20” after position 8" in figure.axes[0].get_title()
    page = joined.interp.explore()
    assert all(f"“ w9” and not “ w{one}”" in page.html for one in (B, 20))
    measured = faithfulness(subject, joined, metrics=["comprehensiveness"], fractions=[0.5], n_samples=2)
    assert measured[["prompt_id", "against_id"]].drop_duplicates().shape == (6, 2)


def test_contrasts_and_targets_alone_are_not_measured_together(subject):
    parts = [attribute(subject, TEXTS, methods="random", target=A, against=one) for one in (B, None)]
    with pytest.raises(InputError, match="contrasts and targets alone, whose values have two units; give one kind"):
        faithfulness(subject, interp.concat(parts), metrics=["comprehensiveness"])


@pytest.mark.filterwarnings("ignore:these scores cannot be told")  # of one short text
def test_deletion_curves_of_copies():
    """Four tokens may go, the two of the target each with a / 5 for it and the other's with a / 5 against it."""
    a = 2.0
    model = copying(a=a).model
    frame = attribute(model, "w1 w3 w3 w5 w2", methods="occlusion", target="w3", against="w5")
    found = faithfulness(
        model, frame, metrics=["comprehensiveness", "sufficiency", "aopc"], replacement="zero_embedding",
        fractions=[0.25, 0.5, 0.75, 1.0],
    )  # fmt: skip
    own = found[found["control"] == "none"].set_index("metric")["value"]
    np.testing.assert_allclose(own["comprehensiveness"], np.array([1, 2, 2, 1]) * a / 5, **EXACT)
    np.testing.assert_allclose(own["sufficiency"], np.array([0, -1, -1, 0]) * a / 5, **EXACT)
    assert own["aopc_comprehensiveness"] == pytest.approx(6 / 4 * a / 5, abs=2e-6)
    np.testing.assert_allclose(found["logit_diff_intact"], a / 5, **EXACT)
    axes = found.interp.plot().axes[0]
    assert axes.get_ylabel() == "fall of the logit difference (nats)"


@torch.no_grad()
def test_soft_metrics_compare_the_two_tokens_alone(small_model, word_level):
    model = small_model("gpt2", attn_implementation="eager")
    subject = interp.load(model, tokenizer=word_level)
    ids = np.array([1, 7, 9, 4])
    members = np.eye(4, dtype=bool)[1:]
    passage = Passage(ids, A, members, B)
    _, zero = soft_distances(subject, passage, np.ones((1, 3)), np.zeros(1, dtype=int), 0)
    embeddings = model.get_input_embeddings()(torch.from_numpy(ids))[None]
    gone = embeddings * torch.tensor([1.0, 0, 0, 0])[:, None]
    p, q = (torch.sigmoid(outputs(model, one)) for one in (embeddings, gone))
    shared = (p * q).sqrt() + ((1 - p) * (1 - q)).sqrt()
    assert zero == pytest.approx(float(1 - shared), rel=1e-3, abs=1e-7)
