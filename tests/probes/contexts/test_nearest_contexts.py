"""Nearest contexts: a state finds itself, controls are what they say, and a run depends on contents alone."""

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import InputError, ModelError
from interp.planted import copying
from probes import StateBank, nearest_contexts

TEXTS = [
    "Once upon a time there was a cat who sat on the mat, and the cat was happy.",
    "Once upon a time there was a dog who ran to the house, and the dog was sad.",
    "The big dog and the small cat ran to the big house and sat on a mat.",
]
AT = ["prompt_id", "pos", "layer", "rank_neighbour"]


@pytest.fixture(scope="module")
def reference():
    return interp.load("reference")


@pytest.fixture(scope="module")
def bank(reference):
    return StateBank.of(reference, TEXTS, layers=[0, 4, 8], skip=1, dtype="float32")


@pytest.fixture(scope="module")
def own(reference, bank):
    """The bank's own texts."""
    return nearest_contexts(reference, TEXTS, bank=bank, k=3)


def of(frame, control):
    return frame[frame["control"] == control].set_index(AT)


def test_a_text_of_the_bank_finds_itself(own):
    first = own[(own["control"] == "none") & (own["rank_neighbour"] == 0) & (own["pos"] > 0)]
    assert first["same_token"].all()
    assert np.allclose(first["cosine"], 1, atol=1e-5)  # float32
    later = first[first["layer"] > 0]
    # Two texts begin alike and are kept once: the first stands for both, and only the token behind may differ.
    assert later["same_next"].dropna().mean() > 0.9


def test_neighbours_come_nearest_first(own):
    found = of(own, "none")["cosine"].unstack("rank_neighbour").to_numpy()
    assert (np.diff(found, axis=1) <= 1e-6).all()


def test_controls_are_what_they_say(own, bank):
    none, same, shuffled = (of(own, control) for control in ("none", "same_token", "shuffled"))
    assert same["neighbour_id"].equals(none["neighbour_id"])
    token, counts = np.unique(bank.places.token_id, return_counts=True)
    several = none["neighbour_id"].isin(token[counts > 1]).to_numpy()
    moved = (same["context"] != none["context"]).to_numpy()
    assert np.array_equal(moved, several)
    assert shuffled["same_token"].mean() < 0.2 < none["same_token"].mean()
    # Every control's cosine is its own, so that none is above the nearest.
    assert (same["cosine"].to_numpy() <= none["cosine"].to_numpy() + 1e-5)[none.index.get_level_values(3) == 0].all()


def test_cosines_of_controls_are_those_of_whole_states(reference, own, bank):
    ids = reference.tokens(TEXTS).ids[2][None]
    state = reference.run(ids, lambda tape: tape.residual(4)[0, 5].clone())
    every = bank.at(4).states(torch.arange(len(bank)))
    mean = every.mean(0)
    cosine = torch.nn.functional.cosine_similarity((state - mean)[None], every - mean).numpy()
    rows = own[(own["prompt_id"] == 2) & (own["pos"] == 5) & (own["layer"] == 4)]
    for row in rows.itertuples():
        assert abs(cosine - row.cosine).min() < 1e-5
    best = rows[(rows["control"] == "none") & (rows["rank_neighbour"] == 0)]
    assert best["cosine"].item() == pytest.approx(cosine.max(), abs=1e-5)


def test_the_lens_is_that_of_the_logit_lens(reference, own):
    lens = interp.probes.logit_lens(reference, TEXTS).set_index(["prompt_id", "pos", "layer"])["top1"]
    first = own[(own["control"] == "none") & (own["rank_neighbour"] == 0)].set_index(["prompt_id", "pos", "layer"])
    assert (first["lens"] == lens.reindex(first.index)).mean() > 0.99  # equal logits may be ordered otherwise


def test_rows_of_a_prompt_hang_on_nothing_else(reference, bank, own):
    alone = nearest_contexts(reference, pd.DataFrame({"prompt_id": [2], "text": TEXTS[2:]}), bank=bank, k=3)
    both = own[own["prompt_id"] == 2].reset_index(drop=True)
    exact = ["layer", "rank_neighbour", "control", "neighbour_id", "context"]
    apart = both["layer"] > 0  # at layer 0 equal tokens have equal states, in any order
    pd.testing.assert_frame_equal(alone.loc[apart, exact], both.loc[apart, exact])
    assert np.allclose(alone["cosine"], both["cosine"], atol=1e-5)  # float32, in batches of other shapes


def test_all_layers_at_once_are_ranked_by_z(reference, bank):
    frame = nearest_contexts(reference, TEXTS[2:], bank=bank, k=4, across_layers=True, layers=[4])
    none = frame[frame["control"] == "none"]
    assert (none.groupby("pos")["z"].diff().dropna() <= 1e-9).all()
    single = nearest_contexts(reference, TEXTS[2:], bank=bank, k=1, layers=[4])
    best = none[none["rank_neighbour"] == 0].set_index("pos")["z"]
    assert (best >= single[single["control"] == "none"].set_index("pos")["z"] - 1e-6).all()
    assert set(none["bank_layer"]) <= {0, 4, 8}


def test_bad_calls_are_refused_before_anything_runs(reference, bank, monkeypatch):
    monkeypatch.setattr(type(reference), "run", None)
    for arguments, said in (
        ({"layers": 2}, "layer 2 is not in this bank, which keeps \\[0, 4, 8\\]"),
        ({"k": 0}, "k=0: give a number from 1 to"),
        ({"positions": 99}, "position 99 is outside"),
    ):
        with pytest.raises(InputError, match=said):
            nearest_contexts(reference, TEXTS, bank=bank, **arguments)
    planted = copying(vocab=8, seed=0)
    other = interp.load(planted.model, tokenizer=planted.tokenizer)
    with pytest.raises(ModelError, match="this state bank is of 'reference'"):
        nearest_contexts(other, [[1, 2, 3]], bank=bank)
