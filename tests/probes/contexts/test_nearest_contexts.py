"""Nearest contexts: a state finds itself, controls are what they say, and a run depends on contents alone."""

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import InputError, ModelError
from interp.planted import copying
from probes import Direction, NeuronSet, StateBank, nearest_contexts, sentence_states

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


SEEN = ["neighbour_id", "context", "cosine", "z", "lens_id"]


@pytest.fixture(scope="module")
def recorded(reference):
    """The state that leaves block 3, which is that of layer 4, and the one in the middle of block 4."""
    return reference.record(TEXTS[:2], ["resid_post", "resid_mid"], layers=[3, 4])


def test_recorded_states_have_the_neighbours_of_the_text_that_they_are_of(reference, bank, recorded):
    of_texts = nearest_contexts(reference, TEXTS[:2], bank=bank, layers=4, k=3)
    of_states = nearest_contexts(reference, states=recorded["resid_post"][0], bank=bank, layers=4, k=3)
    none, found = (frame[frame["control"] == "none"].reset_index(drop=True) for frame in (of_texts, of_states))
    pd.testing.assert_frame_equal(none[SEEN], found[SEEN], rtol=1e-4, atol=1e-4)  # float32, in batches of other shapes
    assert found["prompt_id"].tolist() == np.repeat(np.arange(len(recorded.rows)), 3).tolist()
    same = of_states[of_states["control"] == "same_token"].reset_index(drop=True)
    assert same["neighbour_id"].equals(found["neighbour_id"]) and set(of_states["control"]) == set(of_texts["control"])
    missing = ["pos", "token_id", "token", "same_token", "same_next", "lens_own", "lens_next"]
    assert of_states[missing].isna().all(axis=None) and of_texts["vector"].isna().all()


def test_an_array_of_layers_gives_each_its_own(reference, bank, recorded):
    both = nearest_contexts(reference, states=recorded["resid_mid"], bank=bank, layers=[4, 8], k=2)
    for place, layer in enumerate((4, 8)):
        one = nearest_contexts(reference, states=recorded["resid_mid"][place], bank=bank, layers=layer, k=2)
        rows = both[both["layer"] == layer].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows.drop(columns="run_id"), one.drop(columns="run_id"), rtol=1e-5, atol=1e-5)


def test_a_direction_has_the_states_that_lie_farthest_along_it_from_the_mean(reference, bank):
    """The cosine of a direction with states less their mean, in float64; its length means nothing."""
    vector = torch.randn(reference.d_model, generator=torch.Generator().manual_seed(0))
    direction = Direction.of(reference, 1e-3 * vector, [4, 7], concept="any")
    frame = nearest_contexts(reference, states=direction, bank=bank, k=3)
    every = bank.at(4).states(torch.arange(len(bank))).double()
    cosine = torch.nn.functional.cosine_similarity(vector.double()[None], every - every.mean(0))
    none = frame[frame["control"] == "none"]
    assert set(frame["layer"]) == {4} and set(frame["vector"]) == {"any"}  # the bank has no layer 7
    assert none["neighbour_id"].tolist() == bank.places.token_id[cosine.topk(3).indices].tolist()
    assert np.allclose(none["cosine"], cosine.topk(3).values, atol=1e-4)  # float32 sums of a state and a mean
    array = nearest_contexts(reference, states=vector[None], bank=bank, layers=4, k=3, as_directions=True)
    pd.testing.assert_frame_equal(array[SEEN], frame[SEEN], atol=1e-4, rtol=1e-4)
    raw = nearest_contexts(reference, states=direction, bank=bank, k=3, centre=False)
    cosine = torch.nn.functional.cosine_similarity(vector.double()[None], every)
    assert np.allclose(raw[raw["control"] == "none"]["cosine"], cosine.topk(3).values, atol=1e-5)


def test_neurons_are_asked_as_what_they_write_before_a_layer(reference, bank):
    neurons = NeuronSet.of(reference, {2: [5], 6: [7, 9]}, ["cat", "dog"], concept="pets")
    frame = nearest_contexts(reference, states=neurons, bank=bank, k=2)
    early = reference.value_vectors(2)[[5]].sum(0)
    late = early + reference.value_vectors(6)[[7, 9]].sum(0)
    assert sorted(set(frame["layer"])) == [4, 8]  # nothing is written before layer 0
    for layer, written in ((4, early), (8, late)):
        own = Direction.of(reference, written, layer, concept="pets")
        want = nearest_contexts(reference, states=own, bank=bank, k=2)
        rows = frame[frame["layer"] == layer].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows[SEEN], want[SEEN], atol=1e-5, rtol=1e-5)


def test_named_vectors_stand_in_one_frame_with_a_summary_and_figures(reference, bank):
    at = torch.tensor([3])
    given = {
        "a state": bank.at(8).states(at)[0],
        "a direction": Direction.of(reference, np.eye(256)[9], 4, concept="x"),
    }
    frame = nearest_contexts(reference, states=given, bank=bank, k=2)
    rows = frame[(frame["vector"] == "a state") & (frame["layer"] == 8)]
    assert rows["neighbour_id"].iat[0] == bank.places.token_id[3] and rows["cosine"].iat[0] == pytest.approx(
        1, abs=1e-5
    )
    assert frame[frame["vector"] == "a direction"]["layer"].unique().tolist() == [4]
    summary = frame.interp.summary().set_index(["layer", "control"])
    assert summary.loc[(4, "none"), "n_prompts"] == 2 and summary["same_token"].isna().all()
    assert summary.loc[(4, "none"), "z"] > summary.loc[(4, "shuffled"), "z"]
    axes = frame.interp.plot().axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a state", "a direct…"]
    assert axes.get_xlabel() == "vector" and "a direction" in frame.interp.explore().html


def test_sentences_are_asked_by_their_states(reference, bank):
    table = pd.DataFrame({"prompt_id": [7, 3], "text": TEXTS[:2]})
    frame = nearest_contexts(reference, states=sentence_states(reference, table, layer=4), bank=bank, layers=[4], k=1)
    none = frame[frame["control"] == "none"]
    # The last state of a text that is in the bank finds itself.
    assert none["prompt_id"].tolist() == [3, 7] and np.allclose(none["cosine"], 1, atol=1e-5)


def test_draws_of_a_vector_hang_on_nothing_else(reference, bank):
    vectors = torch.randn(9, reference.d_model, generator=torch.Generator().manual_seed(1))
    whole = nearest_contexts(reference, states=vectors, bank=bank, layers=[0, 4], k=2)
    alone = nearest_contexts(reference, states=vectors[5:6], bank=bank, layers=[0, 4], k=2)
    rows = whole[whole["prompt_id"] == 5].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows[SEEN], alone[SEEN], atol=1e-5, rtol=1e-5)
    assert whole["run_id"].iat[0] != alone["run_id"].iat[0]
    other = nearest_contexts(reference, states=vectors, bank=bank, layers=[0, 4], k=2, as_directions=True)
    assert other["run_id"].iat[0] != whole["run_id"].iat[0]


def test_vectors_that_cannot_be_asked_are_refused_before_anything_runs(reference, bank, monkeypatch):
    monkeypatch.setattr(type(reference), "run", None)
    fine = np.ones((2, 256))
    direction = Direction.of(reference, fine[0], 3, concept="x")
    for states, arguments, said in (
        (fine, {"positions": -1}, "positions=-1: vectors stand at no position"),
        (fine[:, :9], {}, r"states torch.float64 \[2, 9\]: give floating-point numbers \[n, 256\]"),
        (np.stack([fine] * 2), {}, r"states \[2, 2, 256\] for 3 layers"),
        (fine[:0], {}, "holds no vector"),
        (0 * fine, {}, "a vector that is zero or not finite"),
        ({"a": fine}, {}, r"a torch.float64 \[2, 256\]: give floating-point numbers \[256\]"),
        ({"a": "b"}, {}, r"a is a str; give floating-point numbers \[256\]"),
        ({}, {}, "states is empty; give an array"),
        ("joy", {}, "states is a str; give an array"),
        (direction, {}, r"'x' has no vector at layers \[0, 4, 8\]"),
    ):
        with pytest.raises(InputError, match=said):
            nearest_contexts(reference, states=states, bank=bank, **arguments)
    with pytest.raises(InputError, match="was given texts and states; give the one or the other"):
        nearest_contexts(reference, TEXTS, states=fine, bank=bank)
    with pytest.raises(InputError, match="was given neither texts nor states"):
        nearest_contexts(reference, bank=bank)


def test_vectors_on_another_backend_have_the_same_neighbours_and_lens(small_subject):
    vectors = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    found = {}
    for backend in ("bridge", "nnsight"):
        subject = small_subject("llama", backend)
        bank = StateBank.of(subject, [[1, 5, 9, 7, 3, 8, 2, 6]], layers=[1, 3])
        found[backend] = nearest_contexts(subject, states=vectors, bank=bank, k=2)
    pd.testing.assert_frame_equal(found["bridge"][SEEN], found["nnsight"][SEEN], rtol=1e-4, atol=1e-4)
