"""Neurons of a concept: the sieve against reading everything, planted neurons, and words that are held out."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import interp
from interp.errors import InputError
from probes import NeuronSet, concept_neurons, concept_scores
from probes.neurons._concept_words import concept_words
from probes.neurons.concept_neurons import sieve

pytestmark = pytest.mark.trained

WORDS = ["w10", "w11", "w12", "w13"]


@pytest.fixture(scope="module")
def planted(small_model, word_level) -> interp.Subject:
    """In blocks 1 and 3 a neuron promotes all the words, in block 2 one promotes w10 alone."""
    model = small_model("llama")
    with torch.no_grad():
        words = model.lm_head.weight[10:14]
        model.model.layers[1].mlp.down_proj.weight[:, 7] = 2.0 * words.sum(0)
        model.model.layers[3].mlp.down_proj.weight[:, 5] = 2.0 * words.sum(0) + 0.1
        model.model.layers[2].mlp.down_proj.weight[:, 3] = 2.0 * words[0]
    return interp.load(model, tokenizer=word_level)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 40),
    d_vocab=st.integers(12, 900),
    n_ids=st.integers(1, 6),
    hits=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_sieve_keeps_exactly_what_a_full_reading_would(n, d_vocab, n_ids, hits, seed):
    generator = torch.Generator().manual_seed(seed)
    # Products of whole numbers below 2**24 are exact in any order, so that ties are ties.
    tokens = torch.randint(-20, 20, (d_vocab, 6), generator=generator).float()
    vectors = torch.randint(-20, 20, (n, 6), generator=generator).float()
    ids = torch.randperm(d_vocab, generator=generator)[:n_ids]
    logits = vectors @ tokens.T
    in_top_ten = (logits[:, None, :] > logits[:, ids, None]).sum(2) < 10
    expected = in_top_ten.sum(1)
    left, n_hits = sieve(tokens, vectors, ids, torch.randperm(d_vocab, generator=generator), hits)
    assert left.tolist() == (expected >= hits).nonzero()[:, 0].tolist()
    assert n_hits.tolist() == expected[expected >= hits].tolist()


def test_planted_neurons_are_found_first(planted):
    neurons = concept_neurons(planted, WORDS, n=2, min_hits=2, held_out=0.5)
    assert {layer: of.tolist() for layer, of in neurons.by_layer.items()} == {1: [7], 3: [5]}
    assert len(neurons) == 2 and neurons.concept == neurons.words.seeds[0]
    window = concept_neurons(planted, WORDS, n=2, min_hits=2, layers=[0, 1])
    assert set(window.by_layer) <= {0, 1} and 7 in window.by_layer[1].tolist()


def test_fewer_hits_are_asked_where_too_few_neurons_have_three(planted):
    with pytest.warns(UserWarning, match="min_hits was lowered to 2. More words"):
        neurons = concept_neurons(planted, WORDS, n=2)
    strict = concept_neurons(planted, WORDS, n=2, min_hits=2)
    pd.testing.assert_frame_equal(neurons.frame, strict.frame)
    many = [*WORDS, "w1", "w2"]
    assert len(concept_words(planted, many, held_out=0).seed_ids) >= 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        concept_neurons(planted, many, n=1, held_out=0)


def test_scores_are_mean_zscores_of_the_seeds(planted):
    frame = concept_scores(planted, words=WORDS, min_hits=1)
    seeds = concept_words(planted, WORDS).seed_ids
    own = frame[frame["control"] == "none"]
    assert own["score"].is_monotonic_decreasing and (own["n_hits"] >= 1).all()
    for row in own.itertuples():
        logits = planted.value_vectors(row.layer)[row.neuron] @ planted.W_U
        zscore = (logits - logits.mean()) / logits.std(correction=0)
        assert row.score == pytest.approx(float(zscore[seeds].mean()), abs=1e-4)
        assert row.n_hits == int(torch.isin(logits.topk(10).indices, seeds).sum())
        assert row.value_norm == pytest.approx(float(planted.value_vectors(row.layer)[row.neuron].norm()), rel=1e-5)
    summary = frame.interp.summary()
    assert summary["n_neurons"].sum() == len(frame) and set(summary["control"]) == {"none", "random_tokens"}


def test_held_out_words_have_no_part_in_the_choice(planted):
    split = concept_words(planted, [*WORDS, "W10 ", "w11", "exuberance", "w3 w4"], held_out=0.5, seed=2)
    assert len(split.seeds) == len(split.held_out) == 2 and not set(split.seeds) & set(split.held_out)
    assert set(split.dropped) == {"W10", "w11", "exuberance", "w3 w4"}
    assert not set(split.seed_ids.tolist()) & set(split.held_out_ids.tolist())
    splits = {concept_words(planted, WORDS, seed=seed).held_out for seed in range(9)}
    assert (
        len(splits) > 1
        and concept_words(planted, WORDS, seed=3).held_out == concept_words(planted, WORDS, seed=3).held_out
    )
    assert len(concept_words(planted, WORDS, held_out=0.01).held_out) == 1
    assert len(concept_words(planted, WORDS, held_out=0.99).seeds) == 1
    assert concept_words(planted, WORDS, held_out=1).seeds == ()


def test_all_spellings_of_a_word_count():
    subject = interp.load("reference")
    split = concept_words(subject, ["time", "mother"], held_out=0)
    spellings = set(subject.token_strings[split.seed_ids.numpy()])
    assert {" time", "time", " Time", " mother", "mother", " Mother", "Mother"} >= spellings >= {" time", " mother"}
    assert len(spellings) == len(split.seed_ids) > 2


def test_letters_are_words_of_a_character_level_model(character_level):
    """Its space is a token of its own, so that " a" is two tokens."""
    split = concept_words(character_level, ["a", "e", "i", "an"], held_out=0)
    assert split.seeds == ("a", "e", "i") and split.dropped == ("an",)
    assert character_level.tokenizer.decode(split.seed_ids) == "aAeEiI"
    assert len(concept_neurons(character_level, ["a", "e", "i"], n=1, min_hits=1)) == 1


def test_the_recipe_is_in_the_provenance(planted):
    neurons = concept_neurons(planted, WORDS, n=2, min_hits=2, seed=4, concept="low")
    (run,) = neurons.frame.interp.runs.values()
    assert run["parameters"] == {
        "words": WORDS,
        "layers": None,
        "min_hits": 2,
        "held_out": 0.5,
        "basis": "unembedding",
        "concept": "low",
    }
    assert run["seed"] == 4 and run["probe"] == "concept_scores" and run["data_sha256"] is None
    pd.testing.assert_frame_equal(
        neurons.frame, concept_scores(planted, words=WORDS, min_hits=2, seed=4, concept="low")
    )
    assert repr(neurons).startswith("NeuronSet('low', 2 neurons in blocks 1, 3, held out: ")


def test_both_backends_choose_the_same_neurons(small_subject):
    frames = [
        concept_scores(small_subject("llama", backend), words=WORDS, min_hits=1) for backend in ("bridge", "nnsight")
    ]
    pd.testing.assert_frame_equal(*(frame.drop(columns="run_id") for frame in frames), rtol=1e-4)
    assert len(frames[0]) > 2


def test_bad_input(planted):
    for arguments, message in (
        ({"words": WORDS, "n": 0}, "n=0: ask for at least 1 neuron"),
        ({"words": [], "n": 1}, r"words=\[\] is not a list of words"),
        ({"words": "w10", "n": 1}, "words='w10': give a list of texts, such as"),
        ({"words": ["w10", "nonsense"], "n": 1}, r"only \['w10'\] are single tokens"),
        ({"words": WORDS, "n": 1, "held_out": 2}, "held_out=2: give the share"),
        ({"words": WORDS, "n": 1, "min_hits": 3}, "min_hits is 3; give 1 to 2"),
        ({"words": WORDS, "n": 1, "min_hits": 1, "layers": [9]}, "layers run from 0 to 3"),
        ({"words": ["w20", "w40"], "n": 1, "layers": 2, "min_hits": 1, "held_out": 1}, "min_hits is 1; give 1 to 0"),
    ):
        with pytest.raises(InputError, match=message):
            concept_neurons(planted, **arguments)
    with pytest.raises(InputError, match=r"no neuron of .* has 5 of the tokens of"):
        concept_neurons(planted, [f"w{index}" for index in range(30, 40)], n=1, layers=0, min_hits=5)


def test_chosen_neurons_are_checked(planted):
    for neurons, message in (
        ({4: [0]}, "layers run from 0 to 3"),
        ({1: [48]}, "neuron 48 is not in block 1: neurons run from 0 to 47"),
        ({1: [-1]}, "neuron -1"),
        ({1: [3, 3]}, "name one twice"),
        ({1: [0.5]}, "give a dictionary from whole numbers to lists of whole numbers"),
    ):
        with pytest.raises(InputError, match=message):
            NeuronSet.of(planted, neurons, WORDS)
    chosen = NeuronSet.of(planted, {3: [4], 0: np.array([1, 2]), 2: []}, WORDS)
    assert list(chosen.by_layer) == [0, 3] and len(chosen) == 3 and chosen.words.held_out == tuple(WORDS)
