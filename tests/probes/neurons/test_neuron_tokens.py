"""Value vectors read as tokens: against dense products, TransformerLens' folding, laws of any weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

import interp
from interp.errors import InputError, ModelError, UnknownName
from probes import neuron_tokens, value_clusters
from probes.neurons._token_basis import TokenBasis, token_basis

# float32 products of 32 terms of size one, in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def dense(subject: interp.Subject, layer: int, basis: str) -> torch.Tensor:
    """Logits [d_mlp, d_vocab] of one block's value vectors, the plain way."""
    directions = subject.W_E.T if basis == "embedding" else subject.W_U
    return (subject.value_vectors(layer) @ directions).float()


@pytest.mark.parametrize("basis", ["unembedding", "embedding"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox"])
def test_equals_a_dense_product(small_subject, architecture, basis, any_backend):
    subject = small_subject(architecture, any_backend)
    frame = neuron_tokens(subject, layers=[0, 2], k=4, basis=basis, centre=False, n_random=0)
    assert len(frame) == 2 * subject.d_mlp * 4
    for layer in (0, 2):
        logits = dense(subject, layer, basis)
        rows = frame[frame["layer"] == layer]
        top = logits.topk(4, dim=1)
        np.testing.assert_allclose(rows["logit"], top.values.flatten(), **CLOSE)
        np.testing.assert_allclose(
            rows["zscore"], ((top.values - logits.mean(1, True)) / logits.std(1, correction=0, keepdim=True)).flatten(),
            rtol=1e-4, atol=1e-4,
        )  # fmt: skip
        assert (rows["token_id"].to_numpy() == top.indices.flatten().numpy()).mean() > 0.99  # ties may be named apart
        assert (rows["token"] == subject.token_strings[rows["token_id"]]).all()


def test_centred_logits_are_the_same_less_their_mean(small_subject):
    subject = small_subject("llama", "bridge")
    raw = neuron_tokens(subject, layers=1, centre=False, n_random=0)
    centred = neuron_tokens(subject, layers=1, n_random=0)
    mean = dense(subject, 1, "unembedding").mean(dim=1).repeat_interleave(10).numpy()
    np.testing.assert_allclose(raw["logit"] - mean, centred["logit"], **CLOSE)
    pd.testing.assert_frame_equal(raw[["token_id", "zscore"]], centred[["token_id", "zscore"]])


def test_the_normed_basis_is_transformer_lens_folding(small_model):
    """Folding the final norm and centring rows in TransformerLens gives the same logits up to a constant per neuron."""
    subject = interp.load(small_model("gpt2"))
    bridge = build_bridge_from_module(small_model("gpt2"), "GPT2LMHeadModel", hf_config=small_model("gpt2").config)
    bridge.enable_compatibility_mode(disable_warnings=True)
    folded = bridge.W_out[1].detach() @ bridge.W_U.detach()
    read = token_basis(subject, "normed_unembedding")
    ours = read.prepared(subject.value_vectors(1)) @ read.tokens.T
    torch.testing.assert_close(ours, folded - folded.mean(dim=1, keepdim=True), **CLOSE)
    assert (ours - dense(subject, 1, "unembedding")).abs().max() > 0.05  # bases differ, so this shows something


def test_tied_embeddings_make_two_bases_one(small_subject):
    subject = small_subject("gpt2", "bridge")
    frames = [
        neuron_tokens(subject, layers=0, basis=basis).drop(columns=["basis", "run_id"])
        for basis in ("unembedding", "embedding")
    ]
    pd.testing.assert_frame_equal(*frames)
    untied = small_subject("llama", "bridge")
    assert not torch.equal(untied.W_E, untied.W_U.T)


def test_a_rotation_of_the_residual_stream_changes_no_reading():
    generator = torch.Generator().manual_seed(0)
    tokens, vectors = torch.randn(50, 16, generator=generator), torch.randn(9, 16, generator=generator)
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    plain, turned = (TokenBasis(one - one.mean(0), one.mean(0), False) for one in (tokens, tokens @ rotation))
    torch.testing.assert_close(vectors @ plain.tokens.T, (vectors @ rotation) @ turned.tokens.T, **CLOSE)
    torch.testing.assert_close(plain.sd(vectors), turned.sd(vectors @ rotation), **CLOSE)


def test_the_standard_deviation_in_closed_form_is_that_of_the_readings():
    generator = torch.Generator().manual_seed(0)
    read = TokenBasis(torch.randn(300, 12, generator=generator), torch.zeros(12), False)
    read = TokenBasis(read.tokens - read.tokens.mean(0), read.mean, False)
    vectors = torch.randn(40, 12, generator=generator)
    expected = (vectors @ read.tokens.T).std(dim=1, correction=0)
    few = read.sd(vectors[:5])
    assert "covariance" not in vars(read)
    torch.testing.assert_close(few, expected[:5], **CLOSE)  # read, as they are fewer than d_model
    torch.testing.assert_close(read.sd(vectors), expected, **CLOSE)  # from the covariance


def test_chunks_make_no_difference(small_subject):
    subject = small_subject("llama", "bridge")
    whole = neuron_tokens(subject, k=3)
    with interp.options.local(memory=4 * 4 * subject.d_vocab * 5):  # five rows at a time
        pieces = neuron_tokens(subject, k=3)
    pd.testing.assert_frame_equal(whole, pieces, rtol=1e-5)


def test_random_directions_have_neurons_norms_and_depend_on_seed_and_layer_alone(small_subject):
    subject = small_subject("llama", "bridge")
    both, one = (
        neuron_tokens(subject, layers=layers, n_random=7).query("control == 'random'") for layers in ([0, 3], 3)
    )
    numbers = ["layer", "neuron", "k", "token_id", "logit"]
    pd.testing.assert_frame_equal(
        both[both["layer"] == 3][numbers].reset_index(drop=True), one[numbers].reset_index(drop=True)
    )
    assert one["neuron"].nunique() == 7
    from probes.neurons.neuron_tokens import random_directions

    drawn, directions = random_directions(subject.value_vectors(0), 7, seed=1)
    torch.testing.assert_close(directions.norm(dim=1), subject.value_vectors(0)[drawn].norm(dim=1))
    assert len(random_directions(subject.value_vectors(0), 10_000, seed=1)[0]) == subject.d_mlp


def test_summary_and_figure(small_subject):
    frame = neuron_tokens(small_subject("llama", "bridge"), n_random=5)
    summary = frame.interp.summary()
    top = frame[(frame["k"] == 0) & (frame["control"] == "none") & (frame["layer"] == 2)]["zscore"]
    row = summary.set_index(["layer", "control"]).loc[(2, "none")]
    assert row["n_neurons"] == len(top) == 48 and row["zscore"] == pytest.approx(top.mean())
    assert frame.interp.plot().axes[0].get_xlabel() == "block"


def test_bad_input(small_subject):
    subject = small_subject("llama", "bridge")
    for arguments, message in (
        ({"k": 0}, "k=0 is not between 1 and the vocabulary's 61"),
        ({"k": 62}, "k=62"),
        ({"layers": 4}, "layers run from 0 to 3"),
        ({"n_random": -1}, "n_random is -1"),
    ):
        with pytest.raises(InputError, match=message):
            neuron_tokens(subject, **arguments)
    with pytest.raises(UnknownName, match="unknown basis 'W_U'"):
        neuron_tokens(subject, basis="W_U")
    with pytest.raises(ModelError, match="no single MLP"):
        neuron_tokens(small_subject("mixtral", "bridge"))


def test_planted_clusters_are_found_and_cohere(small_model):
    """Neurons of each block write along one of three token directions, or along none."""
    model = small_model("gpt2")
    written = [3, 20, 50]
    with torch.no_grad():
        for block in model.transformer.h:
            for index, token in enumerate(written):
                block.mlp.c_proj.weight[index * 40 : (index + 1) * 40] += 4 * model.lm_head.weight[token]
    subject = interp.load(model)
    frame = value_clusters(subject, 4, seed=1)
    own = frame[frame["control"] == "none"]
    for index in range(3):
        inside = own[(own["neuron"] >= index * 40) & (own["neuron"] < (index + 1) * 40)]
        assert inside["cluster"].nunique() == 1
    assert own[own["neuron"] < 120]["cluster"].nunique() == 3
    summary = frame.interp.summary()
    assert summary["n_neurons"].sum() == 4 * 128 and summary["n_neurons"].is_monotonic_decreasing
    planted = summary[summary["cosine"] > 0.5]
    assert len(planted) == 3 and (planted["coherence"] > planted["coherence_shuffled"] + 0.1).all()
    pd.testing.assert_frame_equal(frame, value_clusters(subject, 4, seed=1))
    with pytest.raises(InputError, match="k=0 is not between 1 and the 512 neurons"):
        value_clusters(subject, 0)
