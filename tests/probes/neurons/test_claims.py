"""Claims about neurons, on a model whose neurons write one token each and on frames written by hand."""

from __future__ import annotations

import copy

import pandas as pd
import torch

import interp
from probes.neurons import claims


def test_neurons_that_write_one_token_are_prediction_neurons(state_of, small_model, word_level):
    """Value vectors that are tokens' own unembedding directions, orthogonal: one large cosine in 61."""
    random = small_model("gpt2", n_embd=64)
    sharp = copy.deepcopy(random)
    with torch.no_grad():
        directions = torch.linalg.qr(torch.randn(64, 61, generator=torch.Generator().manual_seed(0)))[0].T
        sharp.transformer.wte.weight.copy_(3 * directions)
        for block in sharp.transformer.h:
            block.mlp.c_proj.weight.copy_(directions[torch.arange(256) % 61])
        sharp.transformer.ln_f.weight.fill_(1.0)
    for model, expected in ((random, "fails"), (sharp, "holds")):
        assert state_of(interp.load(model, tokenizer=word_level), "neurons.prediction") == expected


def test_random_value_vectors_are_not_readable(state_of, small_model, word_level):
    random = interp.load(small_model("gpt2"), tokenizer=word_level)
    assert state_of(random, "neurons.readable") in ("undecided", "fails")


def test_later_and_earlier_blocks_are_compared_by_their_neurons():
    tops = pd.DataFrame({"layer": [0, 0, 1, 1], "neuron": [0, 1, 0, 1], "k": 0, "zscore": [1.0, 2.0, 5.0, 7.0]})
    later, earlier = claims.later_reads_better(tops.assign(control="none"))
    assert later.tolist() == [5.0, 7.0] and earlier.tolist() == [1.0, 2.0]


def test_a_dose_must_raise_more_than_the_one_before_and_than_none():
    """Three prompts: rising; falling back at the largest dose; below the unsteered model at the smallest."""
    raised = {0: (0.1, 0.5, 0.9), 1: (0.1, 0.5, 0.4), 2: (-0.1, 0.5, 0.9)}
    rows = [
        (prompt, control, alpha, change if control == "none" else -alpha)
        for prompt, changes in raised.items()
        for alpha, change in zip((4.0, 1.0, 2.0), (changes[2], changes[0], changes[1]), strict=True)
        for control in ("none", "random")
    ]
    frame = pd.DataFrame(rows, columns=["prompt_id", "control", "alpha", "delta_log_prob"])
    assert claims.dose_response(frame).to_dict() == {0: 1.0, 1: 0.0, 2: 0.0}
