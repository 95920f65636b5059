"""Tokens that `token_health` does not call usable are neither drawn nor listed, and the provenance says so."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pandas as pd
import pytest

import interp
from interp.authoring import usable_facts, usable_tokens
from interp.runs import registry
from interp.tokenization import Lattice, Pieces
from interp.tokenization.recutting import replaced
from probes import (
    attribute,
    character_content,
    concept_scores,
    faithfulness,
    first_tokens,
    neuron_tokens,
    reagent,
    reagent_ls,
    retokenisation,
    spelling,
    token_health,
    token_repetition,
    top_tokens,
    value_clusters,
)
from probes.attribution._replacements import Replacements, replacements
from probes.characters import spelling as _spelling
from probes.neurons._concept_words import concept_words, random_words

TAKE = {
    *("character_content", "concept_scores", "faithfulness", "first_tokens", "neuron_tokens", "reagent"),
    *("reagent_ls", "reagent_probes", "retokenisation", "spelling", "token_repetition", "top_tokens", "value_clusters"),
}
TEXTS = ["w3 w4 w5 w6 w7 w8", "w20 w21 w22 w23"]


@pytest.fixture(scope="module")
def subject(small_subject) -> interp.Subject:
    return small_subject("gpt2", "bridge")


@pytest.fixture(scope="module")
def health(subject) -> pd.DataFrame:
    """The ordinary tokens of an even id are usable; rows in another order than the ids'."""
    frame = token_health(subject, TEXTS)
    return frame.assign(usable=(frame["category"] == "ok") & (frame["token_id"] % 2 == 0)).sample(
        frac=1, random_state=0
    )


def recorded(frame: pd.DataFrame) -> dict:
    """The provenance of the one run of a frame."""
    (provenance,) = frame.interp.runs.values()
    return provenance


def calls(subject, health) -> dict[str, pd.DataFrame]:
    """A small run of each probe whose frame names tokens that it chose."""
    return {
        "top_tokens": top_tokens(subject, TEXTS, k=7, usable=health),
        "neuron_tokens": neuron_tokens(subject, layers=[0], k=7, n_random=3, usable=health),
        "token_repetition": token_repetition(
            subject, token_ids=[3, 5], prompts=["repeat"], n_random=10, usable=health
        ).query("control != 'none'"),
        "first_tokens": first_tokens(subject, n_continue=2, n_best=4, usable=health).query("continued != ''"),
    }


def test_every_probe_that_draws_or_lists_tokens_takes_it():
    taking = {
        name for name in registry.names() if "usable" in inspect.signature(registry.get(name).function).parameters
    }
    assert taking == TAKE


def test_no_other_token_is_listed_or_drawn(subject, health):
    """And of the tokens that are usable, those are listed that would be without the others."""
    usable = set(health.loc[health["usable"], "token_id"])
    frames = calls(subject, health)
    for name, frame in frames.items():
        assert set(frame["pred_id" if name == "top_tokens" else "token_id"]) <= usable, name
        assert recorded(frame)["parameters"]["usable"]["n_tokens"] == len(usable)
        assert recorded(frame)["parameters"]["usable"]["runs"] == [health["run_id"].iat[0]]
    every = top_tokens(subject, TEXTS, k=subject.d_vocab)
    keys = ["prompt_id", "pos", "layer"]
    want = every[every["pred_id"].isin(usable)].groupby(keys, sort=False).head(7)
    found = frames["top_tokens"]
    assert found["pred_id"].tolist() == want["pred_id"].tolist()
    assert found["log_prob"].to_numpy() == pytest.approx(want["log_prob"].to_numpy(), abs=1e-6)  # sums of other tiles
    every = neuron_tokens(subject, layers=[0], k=subject.d_vocab, n_random=3)
    want = every[every["token_id"].isin(usable)].groupby(["neuron", "control"], sort=False).head(7)
    assert frames["neuron_tokens"]["token_id"].tolist() == want["token_id"].tolist()
    assert frames["neuron_tokens"]["zscore"].tolist() == want["zscore"].tolist()


def test_without_it_the_provenance_says_that_all_tokens_count_and_the_id_is_as_before(subject, health):
    frame, some = (top_tokens(subject, TEXTS, k=2, usable=usable) for usable in (None, health))
    assert recorded(frame)["parameters"]["usable"] is None
    assert frame["run_id"].iat[0] != some["run_id"].iat[0]
    decisive = ("probe", "model", "backend", "device", "fingerprint", "dtype", "data_sha256", "seed", "edits")
    identity = {name: recorded(frame)[name] for name in decisive}
    parameters = {"k": 2, "positions": None, "layers": None, "sublayers": False, "final_norm": True}
    assert frame["run_id"].iat[0] == interp.authoring.hash_of(identity | {"parameters": parameters})


@pytest.mark.parametrize("sampler", ["unigram", "uniform", "self", "counts"])
def test_replacements_are_usable_tokens(subject, health, sampler):
    allowed = usable_tokens(health, subject)
    chosen = np.arange(float(subject.d_vocab)) if sampler == "counts" else sampler
    contexts = subject.tokens(TEXTS).ids
    uniforms = np.random.default_rng(0).random((200, len(contexts[0])))
    before, after = (replacements(chosen, subject, contexts, usable)[0] for usable in (None, health))
    drawn = after.draw(uniforms)
    own = contexts[0].numpy()
    assert (allowed[drawn] | (drawn == own)).all()
    if sampler != "self":  # the same odds among the usable ones
        assert allowed[drawn].all()
        weights = np.diff(before.cumulative[0], prepend=0.0) * allowed[before.ids[0]]
        odds = np.diff(after.cumulative[0], prepend=0.0)
        assert odds == pytest.approx(weights[weights > 0] / weights.sum(), abs=1e-12)


def test_a_sampler_that_proposes_none_of_them_leaves_the_token():
    tables = Replacements([np.array([1, 2]), np.array([2, 3])], [np.array([0.5, 1.0])] * 2)
    among = tables.among(np.array([True, False, True, False]), np.array([9, 8]))
    assert [one.tolist() for one in among.ids] == [[2], [2]]
    assert [one.tolist() for one in tables.among(np.zeros(4, bool), np.array([9, 8])).ids] == [[9], [8]]


@pytest.mark.filterwarnings("ignore:these scores cannot be told from shuffled ones")  # of two short texts
def test_attributions_take_it_as_an_option_and_by_themselves(subject, health):
    facts = usable_facts(health, subject)["usable"]
    frame = attribute(subject, TEXTS, methods={"reagent_ls": {"usable": health, "n_masks": 40}, "random": {}})
    alone = reagent_ls(subject, TEXTS, n_masks=40, usable=health)
    of_method = frame[frame["method"] == "reagent_ls"]["score"].to_numpy()
    assert of_method.tolist() == alone["score"].tolist()
    assert recorded(frame)["parameters"]["methods"]["reagent_ls"]["usable"] == facts
    assert recorded(alone)["parameters"]["usable"] == facts
    assert of_method.tolist() != reagent_ls(subject, TEXTS, n_masks=40)["score"].tolist()
    measured = faithfulness(subject, frame, metrics=["comprehensiveness"], fractions=[0.5], usable=health)
    assert recorded(measured)["parameters"]["usable"] == facts
    recursion = reagent(subject, TEXTS, n_probes=1, max_steps=1, keep=2, tolerance=61, usable=health)
    assert recorded(recursion)["parameters"]["usable"] == facts


def test_random_words_are_usable(subject, health):
    allowed = usable_tokens(health, subject)
    words = concept_words(subject, ["w10", "w11", "w12", "w13"])
    drawn = random_words(subject, words, 50, 0, allowed)
    assert allowed[drawn.numpy()].all() and not allowed[random_words(subject, words, 50, 0).numpy()].all()
    frame = concept_scores(subject, words=["w10", "w11", "w12"], n=2, n_random=3, usable=health)
    assert recorded(frame)["parameters"]["usable"]["n_tokens"] == allowed.sum()


def test_clusters_are_described_by_usable_tokens(subject, health):
    names = set(health.loc[health["usable"], "token"].str.strip())
    frame = value_clusters(subject, 2, layers=[0], n_init=1, usable=health)
    assert {word for words in frame["tokens"] for word in words.split()} <= names


def test_letters_are_asked_of_usable_words():
    subject = interp.load("reference")
    health = token_health(subject, ["Once upon a time"], indicators=["direction"])
    half = health.assign(usable=health["usable"] & (health["token_id"] % 2 == 0))
    asked = {"letters": ["e"], "seeds": 1, "controls": ["length_only"]}
    n, n_half, n_dropped = (
        character_content(subject, **asked, **more)["n_train"].iat[0]
        for more in ({}, {"usable": half}, {"usable": health})
    )
    assert math.isclose(n_half / n, 0.5, abs_tol=0.06) and n > n_dropped > n_half  # half of some thousand words
    shown = _spelling._partners(subject, ["zebra"], usable_tokens(half, subject))
    allowed = {text.strip() for text in half.loc[half["usable"], "token"]}
    assert {word for words in shown.values() for word in words} <= allowed | {"zebra"}
    frame = spelling(subject, ["little"], tasks=["spelling"], shots=2, usable=half)
    assert set(frame.loc[frame["control"] != "none", "shown"]) <= allowed
    assert recorded(frame)["parameters"]["usable"]["n_tokens"] == int(half["usable"].sum())


def test_random_tokens_in_place_of_others_are_usable():
    subject = interp.load("reference")
    health = token_health(subject, ["Once upon a time"], indicators=["direction"])
    tenth = health.assign(usable=health["usable"] & (health["token_id"] % 10 == 0))
    (ids,) = subject.tokens(["Once upon a time there was a little girl"], bos=False).ids
    pieces = Pieces(Lattice(subject.tokenizer, subject.d_vocab))
    found = replaced(pieces, ids.tolist(), range(len(ids)), np.random.default_rng(0), usable_tokens(tenth, subject))
    assert len(found) == len(ids) and usable_tokens(tenth, subject)[list(found)].all()
    frame = retokenisation(
        subject, ["Once upon a time there was"], schemes=["split_last"], n_variants=1, layers=[8], usable=tenth
    )
    assert recorded(frame)["parameters"]["usable"]["n_tokens"] == tenth["usable"].sum()
