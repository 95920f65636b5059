"""Phrase carriers: planted cues, identities, and the same numbers by hooks on the model itself."""

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.planted import cue
from probes import phrase_carriers
from probes.contexts.phrases._prompts import fillers, other_phrases, read_prompts
from probes.contexts.phrases.phrase_carriers import LEAST, best_of

GIVEN = pd.DataFrame(
    {
        "phrase": ["w3 w9 w4", "w20 w6 w11", "w7 w8 w30"],
        "context": [" w5 w6", " w12 w13 w14", " w9"],
        "target": [" w7", " w15", " w16"],
        "kind": ["a", "b", "c"],
    }
)
KEYS = ["prompt_id", "layer", "kept", "pos", "control"]


@pytest.fixture(scope="module")
def model(small_model):
    return small_model("llama").double()


@pytest.fixture(scope="module")
def llama(model, word_level):
    return interp.load(model, tokenizer=word_level)


@pytest.fixture(scope="module")
def frame(llama):
    return phrase_carriers(llama, GIVEN)


def test_one_cue_decides_and_leaves_the_phrase_where_attention_reads_it():
    planted = cue(vocab=12, a=6.0, b=14.0, noise_blocks=2)
    subject = interp.load(planted.model, tokenizer=planted.tokenizer)
    given = pd.DataFrame({"phrase": ["w3 w0 w4", "w5 w6 w7"], "context": [" w8 w9"] * 2, "target": [" w1", " w2"]})
    found = phrase_carriers(subject, given, filler="w5")
    first = found[found["prompt_id"] == 0]
    block = planted.truth.layout.planted[0]
    before = first[(first["layer"] <= block) & (first["control"] == "none")]
    one = before[before["kept"] == "one"]
    expected = np.where(one["token"].str.strip() == "w0", 1.0, 0.0)
    # exp(-14) of the attention is left for other tokens; float32 keeps seven digits of the log-probabilities.
    assert np.allclose(one["recovered"], expected, atol=1e-4)
    others = before[before["kept"] == "others"]
    assert np.allclose(others["recovered"], 1 - np.where(others["token"].str.strip() == "w0", 1.0, 0.0), atol=1e-4)
    assert (first["left_at"] == block + 1).all()
    assert first.loc[first["layer"] > block, "recovered"].isna().all()
    other = first[(first["control"] == "other") & (first["layer"] == 0)]
    assert np.allclose(other.loc[other["kept"] == "one", "recovered"], 0, atol=1e-4)  # no cue in another phrase
    # The prompt without a cue has nothing to recover at all.
    assert found.loc[found["prompt_id"] == 1, "recovered"].isna().all()
    assert (found.loc[found["prompt_id"] == 1, "left_at"] == 0).all()


def test_the_model_with_hooks_gives_the_same_numbers(frame, llama, model):
    _, prompts = read_prompts(llama, GIVEN)
    drawn, others = fillers(llama, prompts, None, 0), other_phrases(prompts, 0)
    places = dict(enumerate(prompts))
    rows = frame[(frame["kept"] != "all") & (frame["layer"] < llama.n_layers)]
    for row in rows.sample(24, random_state=1).itertuples():
        prompt, fill, other = places[row.prompt_id], drawn[row.prompt_id], others[row.prompt_id]
        states = {name: entering(model, prompt.up_to(phrase), row.layer) for name, phrase in
                  (("own", prompt.phrase), ("fill", fill), ("other", other))}  # fmt: skip
        kept = states["own" if row.control == "none" else "other"]

        def replace(module, args, prompt=prompt, row=row, kept=kept, fill=states["fill"]):
            state = args[0].clone()
            for pos in range(prompt.first, prompt.stop):
                stays = {"none": False, "one": pos == row.pos, "others": pos != row.pos}[row.kept]
                state[0, pos] = kept[pos] if stays else fill[pos]
            return (state, *args[1:])

        handle = model.model.layers[row.layer].register_forward_pre_hook(replace)
        with torch.no_grad():
            logits = model(prompt.ids[None]).logits[0, -1]
        handle.remove()
        expected = logits.log_softmax(-1)[prompt.target]
        # Statistics of a read-out are float32.
        assert row.log_prob == pytest.approx(float(expected), abs=1e-5)


def entering(model, ids, layer):
    """Return the residual that enters a block, [pos, d_model]."""
    seen = []
    handle = model.model.layers[layer].register_forward_pre_hook(lambda module, args: seen.append(args[0][0]))
    with torch.no_grad():
        model(ids[None])
    handle.remove()
    return seen[0]


def test_all_kept_is_one_and_none_is_zero(frame, llama):
    scored = frame[frame["recovered"].notna()]
    assert (scored.loc[scored["kept"] == "all", "recovered"] == 1).all()
    assert (scored.loc[scored["kept"] == "none", "recovered"] == 0).all()
    whole = frame[frame["kept"] == "all"].drop_duplicates("prompt_id")
    _, prompts = read_prompts(llama, GIVEN)
    expected = [float(llama.logits([one.ids.tolist()])[0][-1].log_softmax(-1)[one.target]) for one in prompts]
    assert np.allclose(whole["log_prob"], expected, atol=1e-5)
    # At the end of the model the last position has read all it will.
    last = frame[frame["layer"] == llama.n_layers]
    assert np.allclose(last["log_prob"], last.groupby("prompt_id")["log_prob"].transform("first"), atol=1e-5)
    assert last["recovered"].isna().all()


def test_the_smallest_denominator_is_half_a_nat_at_each_layer(frame):
    table = frame[frame["control"] == "none"].pivot_table(
        index=["prompt_id", "layer"], columns="kept", values="log_prob", aggfunc="first"
    )
    enough = (table["all"] - table["none"] >= LEAST).rename("enough")
    joined = frame.join(enough, on=["prompt_id", "layer"])
    assert (joined["recovered"].notna() == joined["enough"]).all()
    for number, rows in joined.groupby("prompt_id"):
        gone = sorted(set(rows.loc[rows["layer"] >= rows["left_at"].iat[0], "layer"]))
        assert gone and not rows.loc[rows["layer"].isin(gone), "enough"].any(), number
        before = rows.loc[rows["layer"] == rows["left_at"].iat[0] - 1, "enough"]
        assert before.all()  # also where there is none


def test_rows_and_the_users_columns(frame, llama):
    per_layer = 1 + 1 + 2 * 2 * 3  # all, none; one and others of three tokens, own and another phrase's
    assert len(frame) == 3 * (llama.n_layers + 1) * per_layer
    assert not frame[KEYS].duplicated().any()
    assert frame["kind"].tolist() == frame["prompt_id"].map(dict(enumerate("abc"))).tolist()
    assert frame["target"].str.strip().drop_duplicates().tolist() == ["w7", "w15", "w16"]
    assert (frame["pos"].isna() == frame["kept"].isin(["all", "none"])).all()


def test_numbers_hang_on_contents_alone(frame, llama):
    turned = phrase_carriers(llama, GIVEN.assign(prompt_id=range(3)).iloc[::-1])
    one, other = (each.set_index(KEYS)[["log_prob", "recovered"]].sort_index() for each in (frame, turned))
    pd.testing.assert_frame_equal(one, other, rtol=1e-6)


def test_a_filler_is_repeated_and_other_phrases_fit(llama):
    _, prompts = read_prompts(llama, GIVEN)
    ids = [one.phrase.tolist() for one in prompts]
    repeated = fillers(llama, prompts, "w5 w6", 0)
    assert [one.tolist() for one in repeated] == [[5, 6, 5]] * 3
    drawn = fillers(llama, prompts, None, 3)
    assert [len(one) for one in drawn] == [3, 3, 3]
    assert [one.tolist() for one in fillers(llama, prompts, None, 4)] != [one.tolist() for one in drawn]
    others = other_phrases(prompts, 0)
    assert all(other.tolist() in ids and other.tolist() != own for own, other in zip(ids, others, strict=True))
    longer = GIVEN.assign(phrase=["w3 w9", "w20 w6 w11", "w7 w8 w30 w31"])
    _, prompts = read_prompts(llama, longer)
    others = other_phrases(prompts, 0)
    assert others[0].tolist() in ([6, 11], [30, 31])  # the end of a longer one
    assert others[1].tolist() == [8, 30, 31] and others[2] is None
    same = GIVEN.assign(target=" w7")
    assert other_phrases(read_prompts(llama, same)[1], 0) == [None] * 3


def test_without_another_phrase_there_is_no_control(llama):
    with pytest.warns(UserWarning, match="no control for 1 of 1 phrases"):
        alone = phrase_carriers(llama, GIVEN.head(1), layers=[1])
    assert set(alone["control"]) == {"none"}
    summary = alone.interp.summary()
    assert summary["n_prompts"].tolist() == [1]


def test_the_summary_is_of_the_best_state(frame):
    best = best_of(frame)
    one = frame[(frame["kept"] == "one") & (frame["control"] == "none") & (frame["layer"] == 0)]
    expected = one.groupby("prompt_id")["recovered"].max().dropna()
    found = best[(best["control"] == "none") & (best["layer"] == 0)].set_index("prompt_id")["best"]
    pd.testing.assert_series_equal(found, expected, check_names=False)
    summary = frame.interp.summary().set_index(["control", "layer"])
    assert summary.loc[("none", 0), "best"] == pytest.approx(expected.mean())
