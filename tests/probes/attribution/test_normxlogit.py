"""NormXLogit: its two factors from their definition, what they can know and what they provably cannot."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

import interp
from interp.errors import InputError, ModelError, UnknownName
from interp.planted import bigram, copying, word_tokenizer
from probes import attribute, normxlogit

VOCAB, N_LAYERS = 53, 3
RAGGED = [[5, 1, 7, 7, 2, 9, 4, 0], [3], [8, 6, 11], [2, 2, 2, 50, 1]]
# Dot products of 24 to 32 float32 terms of size one, summed in another order; scores are ten times that.
CLOSE = {"rtol": 1e-5, "atol": 2e-5}


def texts_of(prompts: list[list[int]]) -> list[str]:
    return [" ".join(f"w{index}" for index in ids) for ids in prompts]


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=32, n_embd=24, n_layer=N_LAYERS, n_head=2, initializer_range=0.4,
        attn_implementation="eager", bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def subject(model: GPT2LMHeadModel) -> interp.Subject:
    return interp.load(model, tokenizer=word_tokenizer(VOCAB))


@torch.no_grad()
def plain(model: GPT2LMHeadModel, ids: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """What enters the first block [pos, d], token embeddings [pos, d], and lens logits [layer, pos, V]."""
    tokens = torch.tensor([ids])
    transformer = model.transformer
    states: list[Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda module, args: states.append(args[0])) for block in transformer.h
    ] + [transformer.ln_f.register_forward_pre_hook(lambda module, args: states.append(args[0]))]
    model(tokens)
    for hook in hooks:
        hook.remove()
    logits = torch.stack([model.lm_head(transformer.ln_f(state)) for state in states])
    return states[0][0].clone(), transformer.wte(tokens)[0], logits[:, 0]


# -- the definition --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["resid0", "token_embedding", "none"])
@pytest.mark.parametrize("centre", ["none", "vocab_mean", "log_prob"])
def test_both_factors_are_those_of_plain_pytorch(model, subject, norm, centre):
    frame = normxlogit(subject, texts_of(RAGGED), norm=norm, centre=centre, layer="all")
    assert len(frame) == (N_LAYERS + 1) * sum(map(len, RAGGED))
    for prompt_id, ids in enumerate(RAGGED):
        entered, embedded, logits = plain(model, ids)
        target = int(logits[-1, -1].argmax())
        sizes = {"resid0": entered.norm(dim=-1), "token_embedding": embedded.norm(dim=-1), "none": torch.ones(len(ids))}
        offset = {"none": 0.0, "vocab_mean": logits.mean(-1), "log_prob": logits.logsumexp(-1)}[centre]
        expected = logits[..., target] - offset
        rows = frame[frame["prompt_id"] == prompt_id]
        assert (rows["target_id"] == target).all() and (rows["target_pos"] == len(ids) - 1).all()
        np.testing.assert_allclose(rows.pivot(index="layer", columns="pos", values="logit"), expected, **CLOSE)
        for _, layer in rows.groupby("layer"):
            np.testing.assert_allclose(layer["norm"], sizes[norm], **CLOSE)


def test_the_score_is_the_product_of_the_factors(subject):
    frame = normxlogit(subject, texts_of(RAGGED), layer="all")
    np.testing.assert_array_equal(frame["score"], frame["norm"] * frame["logit"])
    assert frame["score_se"].isna().all() and (frame["control"] == "none").all()


def test_at_its_own_place_the_logit_is_the_models_own(small_subject, any_architecture, any_backend, ids):
    subject = small_subject(any_architecture, any_backend)
    frame = normxlogit(subject, ids, target=[[7, 9], 11])
    own = subject.logits(ids)
    here = frame[frame["pos"] == frame["target_pos"]]
    expected = [own[0][-1, 7], own[0][-1, 9], own[1][-1, 11]]
    np.testing.assert_allclose(here["logit"], torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_a_soft_cap_bends_the_column_as_it_bends_all_logits(small_subject, any_backend, ids):
    """Gemma 2's cap of 3 here is far from linear, and acts on each logit by itself: no full unembedding is needed."""
    subject = small_subject("gemma2", any_backend)
    read = {centre: normxlogit(subject, ids, centre=centre, target=9) for centre in ("none", "log_prob")}
    own = torch.stack(subject.logits(ids))
    np.testing.assert_allclose(read["none"]["logit"], own[..., 9].flatten(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(read["log_prob"]["logit"], own.log_softmax(-1)[..., 9].flatten(), rtol=0, atol=1e-5)
    assert own.abs().max() > 2  # which was 2.4 before the cap


def test_both_backends_agree(small_subject, any_architecture, ids):
    """Attention kernels differ, by roundings that four random blocks enlarge."""
    left, right = (
        normxlogit(small_subject(any_architecture, backend), ids, target=9, norm=norm, layer="all")
        for backend, norm in (("bridge", "token_embedding"), ("nnsight", "token_embedding"))
    )
    np.testing.assert_allclose(left["score"], right["score"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(left["norm"], right["norm"], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_the_factors_are_float32(model, dtype):
    """A residual rounded to 8 or 11 bits; the product and the norm themselves are not rounded further."""
    half = interp.load(model, dtype=dtype, tokenizer=word_tokenizer(VOCAB))
    full = interp.load(model, tokenizer=word_tokenizer(VOCAB))
    rough, fine = (normxlogit(one, texts_of(RAGGED), target=7) for one in (half, full))
    scale = fine["logit"].abs().max()
    np.testing.assert_allclose(rough["logit"], fine["logit"], rtol=0, atol=0.05 * scale)
    np.testing.assert_allclose(rough["norm"], fine["norm"], rtol=0.01)
    for column in ("norm", "logit"):
        rounded = torch.tensor(rough[column].to_numpy()).to(half.dtype).double().numpy()
        assert (rounded != rough[column]).any()


# -- invariances -----------------------------------------------------------------------------------------------------


def test_a_prompt_alone_is_as_in_company(subject):
    together = normxlogit(subject, texts_of(RAGGED), layer=[0, 3], target=[7, "w3", [1, 2], 9], centre="vocab_mean")
    for prompt_id, target in enumerate([[7], [3], [[1, 2]], [9]]):
        alone = normxlogit(subject, texts_of(RAGGED)[prompt_id], layer=[0, 3], target=target, centre="vocab_mean")
        rows = together[together["prompt_id"] == prompt_id]
        assert rows["target_id"].tolist() == alone["target_id"].tolist()
        np.testing.assert_allclose(rows["score"], alone["score"], **CLOSE)


@pytest.mark.parametrize("memory", [1, 1 << 16])
def test_batches_and_chunks_change_nothing(subject, memory):
    arguments = {"target": [list(range(VOCAB))] * 4, "centre": "log_prob", "layer": [1, 3]}
    whole = normxlogit(subject, texts_of(RAGGED), **arguments)
    with interp.options.local(memory=memory, progress=False):
        cut = normxlogit(subject, texts_of(RAGGED), **arguments)
    np.testing.assert_allclose(cut["score"], whole["score"], **CLOSE)
    # The probabilities of all tokens, each scored as a target of its own, add up to 1 at every position.
    total = np.exp(whole["logit"]).groupby([whole["prompt_id"], whole["layer"], whole["pos"]]).sum()
    np.testing.assert_allclose(total, 1.0, atol=1e-5)


@settings(max_examples=4, deadline=None)
@given(shift=st.floats(-50, 50), factor=st.floats(0.1, 10))
def test_a_constant_on_all_logits_moves_the_score_by_the_norm(shift, factor):
    """The model is the same, the raw score is not; centred by the vocabulary's mean it is."""
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCAB, n_positions=8, n_embd=24, n_layer=1, n_head=2, tie_word_embeddings=False)
    ).eval()
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(VOCAB))
    before = {centre: normxlogit(model, torch.tensor([[3, 9, 4]]), centre=centre, target=5) for centre in CENTRES}
    with torch.no_grad():
        model.lm_head.bias += shift
    after = {centre: normxlogit(model, torch.tensor([[3, 9, 4]]), centre=centre, target=5) for centre in CENTRES}
    # float32 logits of size 50 round at 4e-6 each.
    moved = after["none"]["score"] - before["none"]["score"]
    np.testing.assert_allclose(moved, shift * before["none"]["norm"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(after["vocab_mean"]["score"], before["vocab_mean"]["score"], atol=1e-4)
    np.testing.assert_allclose(after["log_prob"]["score"], before["log_prob"]["score"], atol=1e-3)
    with torch.no_grad():
        model.transformer.wte.weight *= factor
        model.transformer.wpe.weight *= factor
    scaled = normxlogit(model, torch.tensor([[3, 9, 4]]), target=5)
    np.testing.assert_allclose(scaled["norm"], factor * before["none"]["norm"], rtol=1e-5)


CENTRES = ("none", "vocab_mean", "log_prob")


def test_norms_of_tokens_move_with_the_tokens(subject):
    order = [4, 2, 0, 3, 1]
    ids = torch.tensor([[5, 1, 7, 2, 9]])
    before = normxlogit(subject, ids, norm="token_embedding")["norm"].to_numpy()
    after = normxlogit(subject, ids[:, order], norm="token_embedding")["norm"].to_numpy()
    np.testing.assert_array_equal(after, before[order])


def test_a_contrast_is_a_difference_of_targets(model, subject):
    frame = normxlogit(subject, texts_of(RAGGED[:1]), target=[[7, 9]])
    scores = frame.pivot(index="pos", columns="target_id", values="score")
    entered, _, logits = plain(model, RAGGED[0])
    contrast = entered.norm(dim=-1) * (logits[-1, :, 7] - logits[-1, :, 9])
    np.testing.assert_allclose(scores[7] - scores[9], contrast, rtol=1e-5, atol=1e-4)  # differences of scores of ten


# -- what theory decides ---------------------------------------------------------------------------------------------


def test_on_the_copy_model_the_scores_are_the_closed_form():
    """The logit of y at i is 1[t_i = y] + (how often y at 0..i) / (i + 1): at least 1 on tokens y, less on others."""
    ids = [0, 3, 5, 3, 1, 2, 3, 4]
    frame = normxlogit(copying(vocab=6).model, torch.tensor([ids]), target=3, layer="all")
    is_target = np.array(ids) == 3
    share = is_target.cumsum() / np.arange(1, len(ids) + 1)
    by_layer = frame.pivot(index="layer", columns="pos", values="score")
    np.testing.assert_allclose(by_layer.loc[1], is_target + share, atol=1e-6)
    np.testing.assert_allclose(by_layer.loc[0], is_target, atol=1e-6)
    assert by_layer.loc[1][is_target].min() >= 1 > by_layer.loc[1][~is_target].max()


def test_without_attention_it_scores_tokens_that_cannot_matter():
    """Only the last token decides; an earlier one that would predict the target more surely gets the higher score."""
    transition = [[0.05, 0.05, 0.9], [0.2, 0.2, 0.6], [0.4, 0.3, 0.3]]
    model, ids = bigram(transition).model, torch.tensor([[0, 2, 1]])
    frame = normxlogit(model, ids)
    assert (frame["target_id"] == 2).all()
    np.testing.assert_allclose(frame["score"], np.log([0.9, 0.3, 0.6]), atol=1e-5)
    assert frame["score"].idxmax() == 0
    effect = attribute(model, ids, methods={"occlusion": {"baseline": "zero"}})["score"].to_numpy()
    # Without its embedding the last token predicts all three alike.
    np.testing.assert_allclose(effect, [0, 0, np.log(0.6 * 3)], rtol=0, atol=1e-6)


def test_scores_do_not_add_up_to_anything(subject):
    """No completeness: the sum over tokens is neither the logit nor its change; said here because others assert it."""
    frame = normxlogit(subject, texts_of(RAGGED[:1]))
    assert abs(frame["score"].sum() - frame["logit"].iloc[-1]) > 1


# -- bad input and the frame -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"norm": "resid"}, UnknownName, "unknown norm 'resid'; did you mean 'resid0'"),
        ({"centre": "mean"}, UnknownName, "unknown centre 'mean'"),
        ({"layer": 4}, InputError, "layer 4 is not in 'GPT2LMHeadModel': layers run from 0 to 3"),
        ({"layer": -5}, InputError, "layer -5 is not"),
        (
            {"layer": "last"},
            InputError,
            "unknown layer 'last'; known: 'all'. Or give a whole number, a list",
        ),
        ({"target": "w1 w2"}, InputError, "is 2 tokens"),
        ({"target_pos": 3}, InputError, "position 3 is outside a prompt of 3 tokens; positions run from -3 to 2 there"),
    ],
)
def test_bad_input(subject, monkeypatch, arguments, error, message):
    monkeypatch.setattr(subject, "run", lambda *args, **kwargs: pytest.fail("the model ran"))
    with pytest.raises(error, match=message) as caught:
        normxlogit(subject, ["w1 w2 w3", "w1 w2"], **arguments)
    assert "\n" not in str(caught.value)


def test_a_head_whose_columns_are_not_its_own_is_refused(model, monkeypatch):
    subject = interp.load(model, tokenizer=word_tokenizer(VOCAB))
    weight, bias = subject.backend.unembedding()
    monkeypatch.setattr(subject.backend, "unembedding", lambda: (1.1 * weight, bias))
    with pytest.raises(ModelError, match=r"replaying 'GPT2LMHeadModel' .* or its read-out are not what"):
        normxlogit(subject, "w1 w2")


def test_the_columns_and_the_order_of_rows(subject):
    frame = normxlogit(subject, texts_of(RAGGED), layer=[3, 0, 3], target_pos=[-1, 0])
    assert frame.columns.tolist() == [
        "model", "run_id", "prompt_id", "method", "target_pos", "target_id", "target", "against_id", "against",
        "pos", "token_id", "token",
        "score", "score_se", "control", "layer", "norm", "logit",
    ]  # fmt: skip
    expected = [
        (prompt_id, layer, last, pos)
        for prompt_id, ids in enumerate(RAGGED)
        for layer in (0, 3)
        for last in sorted({0, len(ids) - 1})
        for pos in range(last + 1)
    ]
    keys = frame[["prompt_id", "layer", "target_pos", "pos"]]
    assert list(keys.itertuples(index=False, name=None)) == expected


def test_the_summary_is_by_layer(subject):
    frame = normxlogit(subject, texts_of(RAGGED), layer="all")
    summary = frame.interp.summary()
    later = frame[frame["pos"] > 0].groupby(["layer", "prompt_id"])["logit"].mean().groupby("layer").mean()
    np.testing.assert_allclose(summary.set_index("layer")["logit"], later, rtol=1e-12)


def test_extra_columns_join(subject):
    texts = pd.DataFrame({"text": texts_of(RAGGED), "group": list("abab")})
    frame = normxlogit(subject, texts)
    assert frame.groupby("prompt_id")["group"].first().tolist() == list("abab")
