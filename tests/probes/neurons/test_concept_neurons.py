"""Neurons of a concept: planted neurons, random words, the sieve against reading everything, and words held out."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

import interp
from interp.errors import InputError
from probes import NeuronSet, concept_neurons, concept_scores
from probes.neurons._concept_words import concept_words, random_words
from probes.neurons._token_basis import TokenBasis, sieve, token_basis
from probes.neurons.concept_neurons import _scored

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
    for min_hits in (0, 2):
        neurons = concept_neurons(planted, WORDS, n=2, min_hits=min_hits, held_out=0.5)
        assert {layer: of.tolist() for layer, of in neurons.by_layer.items()} == {1: [7], 3: [5]}
        assert len(neurons) == 2 and neurons.concept == neurons.words.seeds[0]
        window = concept_neurons(planted, WORDS, n=2, min_hits=min_hits, layers=[0, 1])
        assert set(window.by_layer) <= {0, 1} and 7 in window.by_layer[1].tolist()


def test_a_neuron_that_promotes_all_words_a_little_is_not_shut_out(small_model, word_level):
    """Ten other tokens above the words put them out of the top ten, and hits would not see the neuron."""
    model = small_model("llama")
    words = [f"w{index}" for index in range(10, 16)]
    with torch.no_grad():
        directions = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0)))[0]
        model.lm_head.weight.copy_(0.3 * torch.randn(model.lm_head.weight.shape) @ directions)
        model.lm_head.weight[10:16] += directions[0]  # what the words share
        model.lm_head.weight[20:32] += 1.5 * directions[0] + 2.0 * directions[1]  # others, on the same side
        model.model.layers[2].mlp.down_proj.weight[:, 4] = directions[0] + directions[1]
        model.model.layers[1].mlp.down_proj.weight[:, 9] = 0.1 * directions[1] + model.lm_head.weight[10]
    subject = interp.load(model, tokenizer=word_level)
    frame = concept_scores(subject, words=words, n=200, held_out=0, n_random=0)
    own = frame.set_index(["layer", "neuron"])
    assert own.loc[(2, 4), "n_hits"] == 0 and own.loc[(1, 9), "n_hits"] >= 1
    with_hits = concept_scores(subject, words=words, n=200, min_hits=1, held_out=0, n_random=0)
    pd.testing.assert_frame_equal(
        frame[frame["n_hits"] >= 1].drop(columns="run_id").reset_index(drop=True),
        with_hits.drop(columns="run_id"),
        check_exact=True,
    )
    assert (2, 4) not in with_hits.set_index(["layer", "neuron"]).index


def test_scores_are_mean_zscores_of_the_seeds(planted):
    frame = concept_scores(planted, words=WORDS, n=1000)
    split = concept_words(planted, WORDS)
    own = frame[frame["control"] == "none"]
    assert len(own) == 4 * planted.d_mlp and own["score"].is_monotonic_decreasing
    for row in own.iloc[::7].itertuples():
        logits = planted.value_vectors(row.layer)[row.neuron] @ planted.W_U
        zscore = (logits - logits.mean()) / logits.std(correction=0)
        assert row.score == pytest.approx(float(zscore[split.choosing_ids].mean()), abs=1e-4)
        assert row.n_hits == int(torch.isin(logits.topk(10).indices, split.seed_ids).sum())
        assert row.value_norm == pytest.approx(float(planted.value_vectors(row.layer)[row.neuron].norm()), rel=1e-5)
    listed = concept_scores(planted, words=WORDS, n=5)
    pd.testing.assert_frame_equal(listed.head(5).drop(columns="run_id"), own.head(5).drop(columns="run_id"))


@pytest.mark.parametrize("layers", [None, [1, 2]])
def test_random_words_have_the_best_neurons_that_a_full_reading_finds(planted, layers):
    frame = concept_scores(planted, words=WORDS, layers=layers, n_random=30, seed=3)
    chance = frame[frame["control"] == "random_words"].reset_index(drop=True)
    sets = random_words(planted, concept_words(planted, WORDS, seed=3), 30, 3)
    searched = range(4) if layers is None else layers
    logits = torch.cat([planted.value_vectors(layer) for layer in searched]) @ planted.W_U
    zscores = (logits - logits.mean(1, keepdim=True)) / logits.std(1, correction=0, keepdim=True)
    best = zscores[:, sets].mean(dim=2).max(dim=0)
    np.testing.assert_allclose(chance["score"], best.values.numpy(), atol=1e-4)
    place = (chance["layer"] - searched[0]) * planted.d_mlp + chance["neuron"]
    assert place.tolist() == best.indices.tolist()
    assert chance["p"].isna().all() and chance["n_hits"].isna().all()
    own = frame[frame["control"] == "none"]
    expected = [(1 + (chance["score"] >= score).sum()) / 31 for score in own["score"]]
    assert own["p"].tolist() == expected
    (summary,) = frame.interp.summary().itertuples()
    assert summary.p == expected[0] and summary.random_mean == pytest.approx(chance["score"].mean())
    assert summary.n_above == (own["score"] > summary.random_95).sum() and summary.n_random == 30


def test_random_words_look_like_the_words_and_are_none_of_them():
    subject = interp.load("reference")
    split = concept_words(subject, ["time", "mother", "day", "night"], held_out=0.25)
    drawn = random_words(subject, split, 300, 0)
    texts = subject.token_strings[drawn.numpy()]
    assert all(text.startswith(" ") and text[1:].isalpha() and text.islower() for text in texts.ravel())
    assert not set(drawn.flatten().tolist()) & set(torch.cat([split.seed_ids, split.held_out_ids]).tolist())
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    # As common: a mean over 300 draws of ids from the nearest thousand of the vocabulary's 8,192 tokens.
    assert (drawn.double().mean(dim=0) - split.choosing_ids).abs().max() < 1000
    assert torch.equal(drawn, random_words(subject, split, 300, 0))
    assert not torch.equal(drawn, random_words(subject, split, 300, 1))


def test_p_is_uniform_where_words_mean_nothing(small_model, word_level):
    """Words drawn at random from a random model are as good as others drawn from it: all ranks are equally likely."""
    subject = interp.load(small_model("llama"), tokenizer=word_level)
    generator = np.random.default_rng(0)
    known = [f"w{index}" for index in range(3, 60)]
    n_draws, n_random = 300, 19
    read, values = token_basis(subject), {layer: subject.value_vectors(layer) for layer in range(subject.n_layers)}
    found = []
    for draw in range(n_draws):
        split = concept_words(subject, generator.choice(known, 5, replace=False).tolist(), held_out=0)
        random = random_words(subject, split, n_random, draw)
        table = _scored(read, values, split, random, n=1, min_hits=0, seed=draw)
        found.append(round(table["p"].iat[0] * (n_random + 1)))
    counts = np.bincount(found, minlength=n_random + 2)[1:]
    assert counts.sum() == n_draws and len(counts) == n_random + 1
    # 20 equally likely ranks: one in a thousand such tests would fail by chance, and this one has a fixed seed.
    assert chisquare(counts).pvalue > 1e-3
    # Not too often significant: 300 draws at 5 % are 15, with a standard deviation of 3.8.
    assert counts[0] <= 15 + 3 * 3.8


def test_words_that_mean_nothing_are_warned_of_and_a_concept_is_not(planted):
    with pytest.warns(
        UserWarning, match=r"that promotes .* most scores .*, and the best for as many random words .*p = "
    ):
        neurons = concept_neurons(planted, ["w20", "w31", "w42", "w53"], n=2, held_out=0.25)
    assert re.search(r"best score \d\.\d\d, of random words \d\.\d\d \(p = 0\.\d+\)", repr(neurons))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sure = concept_neurons(planted, WORDS, n=2, held_out=0.25)
        silent = concept_neurons(planted, ["w20", "w31", "w42", "w53"], n=2, n_random=0)
    assert sure.frame["p"].min() == 1 / 201 and "(p = 0.005)" in repr(sure)
    assert "random words" not in repr(silent) and silent.frame["p"].isna().all()
    assert "random words" not in repr(NeuronSet.of(planted, {1: [2]}, WORDS))


def test_value_vectors_are_read_once_whatever_the_number_of_random_words(planted, monkeypatch):
    """One product per block for the concept and all random words, and one for the standard deviations."""
    read, prepare, sds = [], TokenBasis.prepared, []
    sd = TokenBasis.sd
    monkeypatch.setattr(
        TokenBasis, "prepared", lambda self, vectors: read.append(len(vectors)) or prepare(self, vectors)
    )
    monkeypatch.setattr(TokenBasis, "sd", lambda self, prepared: sds.append(len(prepared)) or sd(self, prepared))
    concept_neurons(planted, WORDS, n=2, held_out=0.25)
    assert read == sds == [planted.d_mlp] * planted.n_layers


def test_columns_read_per_neuron_do_not_grow_with_the_vocabulary(planted, monkeypatch):
    """Every product with a block's value vectors has at most as many columns as dimensions, or as sets of words."""
    widths = []

    class Counting(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            products = (torch.Tensor.matmul, torch.Tensor.__matmul__, torch.matmul, torch.mm)
            if func in products and args[0].shape[0] == planted.d_mlp:
                widths.append(args[1].shape[1])
            return result

    with Counting():
        concept_scores(planted, words=WORDS, n=3, n_random=40)
    assert sum(widths) <= planted.n_layers * (planted.d_model + 41)
    assert len(widths) >= 2 * planted.n_layers


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
    assert subject.token_strings[split.choosing_ids.numpy()].tolist() == [" time", " mother"]
    spellings = set(subject.token_strings[split.seed_ids.numpy()])
    assert {" time", "time", " Time", " mother", "mother", " Mother", "Mother"} >= spellings >= {" time", " mother"}
    assert len(spellings) == len(split.seed_ids) > 2


def test_letters_are_words_of_a_character_level_model(character_level):
    """Its space is a token of its own, so that " a" is two tokens."""
    split = concept_words(character_level, ["a", "e", "i", "an"], held_out=0)
    assert split.seeds == ("a", "e", "i") and split.dropped == ("an",)
    assert character_level.tokenizer.decode(split.seed_ids) == "aAeEiI"
    assert character_level.tokenizer.decode(split.choosing_ids) == "aei"
    assert len(concept_neurons(character_level, ["a", "e", "i"], n=1, min_hits=1)) == 1


def test_the_recipe_is_in_the_provenance(planted):
    neurons = concept_neurons(planted, WORDS, n=2, min_hits=2, seed=4, concept="low")
    (run,) = neurons.frame.interp.runs.values()
    assert run["parameters"] == {
        "words": WORDS,
        "layers": None,
        "n": 100,
        "min_hits": 2,
        "held_out": 0.5,
        "basis": "unembedding",
        "n_random": 200,
        "concept": "low",
        "usable": None,
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
        ({"words": WORDS, "n": 1, "min_hits": 3}, "min_hits is 3; give 0 to 2"),
        ({"words": WORDS, "n": 1, "min_hits": 1, "layers": [9]}, "layers run from 0 to 3"),
        (
            {"words": ["w20", "w40"], "n": 1, "layers": 2, "min_hits": 1, "held_out": 1},
            "no words are left to choose neurons by; give held_out below 1",
        ),
        ({"words": WORDS, "n": 1, "n_random": -1}, "n_random=-1: give 0 or more sets of random words"),
        (
            {"words": [f"w{index}" for index in range(0, 60)], "n": 1, "held_out": 0},
            "too few to draw random words from",
        ),
    ):
        with pytest.raises(InputError, match=message):
            concept_neurons(planted, **arguments)
    with pytest.raises(InputError, match=r"no neuron of .* has 5 of the tokens of"):
        concept_neurons(planted, [f"w{index}" for index in range(30, 40)], n=1, layers=0, min_hits=5)


def test_without_random_words_the_vocabulary_may_be_small(planted):
    """As the refusal above advises."""
    words = [f"w{index}" for index in range(60)]
    frame = concept_scores(planted, words=words, n=3, held_out=0, n_random=0)
    assert frame["control"].eq("none").all() and frame["p"].isna().all()


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
