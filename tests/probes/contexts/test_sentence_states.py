"""Sentence states: the model's own states pooled, and what early tokens can know of what follows."""

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from probes import sentence_states

TEXTS = ["w3 w9 w4 w20", "w5 w6 w7"]
STARTS = ["w3 w9", "w4 w20", "w5 w6", "w7 w8", "w10 w11", "w12 w13", "w14 w15", "w16 w17", "w18 w19", "w21 w22"]
ENDS = [" w30 w31 w32", " w40 w41 w42"]


@pytest.fixture(scope="module")
def model(small_model):
    return small_model("llama").double()


@pytest.fixture(scope="module")
def llama(model, word_level):
    return interp.load(model, tokenizer=word_level)


def hidden(model, ids, layer, replace=None):
    """Return the residual that enters a block, [pos, d_model], where `replace` may change what enters each."""
    seen = {}

    def look(module, args, index):
        state = args[0] if replace is None else replace(index, args[0])
        seen[index] = state[0]
        return (state, *args[1:])

    handles = [
        block.register_forward_pre_hook(lambda module, args, index=index: look(module, args, index))
        for index, block in enumerate(model.model.layers)
    ]
    with torch.no_grad():
        model(ids[None])
    for handle in handles:
        handle.remove()
    return seen[layer]


def test_they_are_the_models_own_states(llama, model):
    ids = llama.tokens(TEXTS).ids
    last, mean = (sentence_states(llama, TEXTS, method=method, layer=3) for method in ("last", "mean"))
    assert (len(last), last.layer, last.method, last.fingerprint) == (2, 3, "last", llama.fingerprint)
    for row, one in enumerate(ids):
        state = hidden(model, one, 3)
        assert torch.allclose(last.vectors[row].double(), state[-1], atol=1e-5)  # kept in float32
        assert torch.allclose(mean.vectors[row].double(), state[1:].mean(dim=0), atol=1e-5)  # without <s>
    named = sentence_states(llama, pd.DataFrame({"text": TEXTS, "kind": ["a", "b"]}))
    assert named.table["kind"].tolist() == ["a", "b"]


def test_echo_pools_the_second_copy_and_leaves_the_first_as_it_was(llama, model):
    echo = sentence_states(llama, TEXTS, method="echo", layer=3).vectors
    for row, ids in enumerate(llama.tokens(TEXTS).ids):
        state = hidden(model, torch.cat([ids, ids[1:]]), 3)
        assert torch.allclose(echo[row].double(), state[len(ids) :].mean(dim=0), atol=1e-5)
        assert torch.allclose(state[: len(ids)], hidden(model, ids, 3), atol=1e-12)


def test_prepend_hands_the_last_state_to_a_placeholder(llama, model):
    placeholder = llama.tokenizer.bos_token_id
    found = sentence_states(llama, TEXTS, method="prepend", layer=3, blocks=(1, 3)).vectors
    baseline = sentence_states(llama, TEXTS, method="prepend", layer=3, blocks=(2, 2)).vectors
    for row, ids in enumerate(llama.tokens(TEXTS).ids):
        whole = torch.cat([ids[:1], torch.tensor([placeholder]), ids[1:]])

        def replace(index, state):
            if index in (1, 2):
                state = state.clone()
                state[:, 1] = state[:, -1]
            return state

        assert torch.allclose(found[row].double(), hidden(model, whole, 3, replace)[2:].mean(dim=0), atol=1e-5)
        assert torch.allclose(baseline[row].double(), hidden(model, whole, 3)[2:].mean(dim=0), atol=1e-5)
    assert not torch.allclose(found, baseline, atol=1e-2)


def told_apart(vectors):
    """Return how often the ending of a left-out start is told by the mean difference of the others; ties half."""
    pairs = vectors.reshape(len(STARTS), 2, -1).double().numpy()
    difference = pairs[:, 1] - pairs[:, 0]
    hits = []
    for left in range(len(STARTS)):
        direction = np.delete(difference, left, axis=0).mean(axis=0)
        margin = difference[left] @ direction
        hits.append(0.5 if abs(margin) < 1e-9 else float(margin > 0))
    return np.mean(hits)


def test_early_tokens_know_what_follows_only_where_they_can_read_it(llama):
    texts = [start + end for start in STARTS for end in ENDS]
    found = {
        method: told_apart(sentence_states(llama, texts, method=method, layer=4, n_tokens=2).vectors)
        for method in ("last", "mean", "echo", "prepend")
    }
    assert found["last"] == found["mean"] == 0.5  # causality
    assert found["echo"] >= 0.8 and found["prepend"] >= 0.8
