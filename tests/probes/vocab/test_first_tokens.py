"""Continuations of one token alone: on chains that are known, against greedy generation, and those that loop."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.authoring import SharedPrefix
from interp.planted import bigram
from probes import first_tokens
from probes.vocab import first_tokens as _first_tokens
from probes.vocab._greedy import period

V, CHAIN = 30, (7, 3, 9, 4)


def chained() -> torch.Tensor:
    """Token 7 leads to 3, 9 and 4 with certainty but for 1e-6; what follows the others is drawn."""
    drawn = torch.rand(V, V, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    for token, following in pairwise(CHAIN):
        drawn[token] = 1e-6 / (V - 1)
        drawn[token, following] = 1 - 1e-6
    return drawn / drawn.sum(dim=1, keepdim=True)


def test_the_start_of_a_certain_chain_ranks_first_and_its_continuation_is_the_chain():
    planted = bigram(chained())
    frame = first_tokens(planted.model, n_continue=3, n_best=1)
    best = frame.loc[frame["geometric"].idxmax()]
    assert best["token_id"] == 7 and best["is_candidate"] and frame["is_candidate"].sum() == 1
    assert (best["continuation"].split(), best["period"]) == (["w3", "w9", "w4"], 0)
    assert best[["geometric", "score"]].tolist() == pytest.approx([1, 1], abs=3e-6)  # three steps of 1 - 1e-6
    law, ids, want = planted.truth.transition, torch.arange(V), []
    for _ in range(3):
        want.append(law[ids].amax(dim=1))
        ids = law[ids].argmax(dim=1)
    found = frame[["p1", "p2", "p3"]].to_numpy()
    assert found == pytest.approx(torch.stack(want, dim=1).numpy(), rel=1e-5)  # float32 logits
    assert frame["geometric"].to_numpy() == pytest.approx(found.prod(axis=1) ** (1 / 3))
    assert frame["score"].to_numpy() == pytest.approx((1 + found.sum(axis=1)) / 4)


def test_a_model_that_knows_nothing_is_uniform():
    frame = first_tokens(bigram(torch.full((V, V), 1 / V)).model, n_best=0)
    assert frame["geometric"].to_numpy() == pytest.approx(1 / V, rel=1e-5)
    assert not frame["is_candidate"].any() and frame["continuation"].isna().all() and (frame["continued"] == "").all()


def test_a_loop_is_found_where_a_chain_closes():
    closed = torch.full((V, V), 1e-6)
    closed[range(V), [(token + 1) % 5 if token < 5 else 0 for token in range(V)]] = 1
    frame = first_tokens(bigram(closed / closed.sum(dim=1, keepdim=True)).model, token_ids=[0, 20], n_continue=20)
    assert frame["period"].tolist() == [5, 5]


@pytest.mark.parametrize(
    ("ids", "want"), [([1] * 3, 1), ([1, 2] * 3, 2), ([9, *[1, 2, 3] * 3], 3), ([1, 2, 1, 2, 1], 0), ([1, 2] * 2, 0),
                      ([*range(25)] * 3, 25), ([*range(26)] * 3, 0), ([1, 2] * 3 + [3], 0)],
)  # fmt: skip
def test_a_period_is_that_of_three_rounds_at_the_end(ids, want):
    assert period(ids) == want


def test_it_continues_as_greedy_generation_does(any_backend, small_model, word_level):
    subject = interp.load(small_model("llama"), backend=any_backend, tokenizer=word_level)
    frame = first_tokens(subject, n_continue=8, n_best=3, seed=4)
    continued = frame[frame["continued"] != ""]
    assert continued["continued"].value_counts().to_dict() == {"best": 3, "random": 3}
    best = frame.nlargest(3, "geometric")["token_id"]
    assert set(best) == set(continued.query("continued == 'best'")["token_id"])
    for row in continued.itertuples():
        prompt = torch.tensor([1, row.token_id])  # <s> and the token
        (ids,) = subject.continue_ids([prompt], 8, temperature=0)
        words = subject.tokenizer.decode(ids[2:]).split()
        assert row.continuation.split()[: len(words)] == words  # generation ends at the end of text
        law = torch.stack(subject.logits(ids[None]))[0].log_softmax(dim=-1).exp()[1:4].amax(dim=-1)
        if len(ids) >= 5:
            assert [row.p1, row.p2, row.p3] == pytest.approx(law.tolist(), rel=1e-5)


def test_fewer_steps_leave_probabilities_out(small_subject):
    frame = first_tokens(small_subject("gpt2", "bridge"), token_ids=[5, 6], n_steps=1, n_continue=2, n_best=1)
    assert frame["p2"].isna().all() and np.allclose(frame["geometric"], frame["p1"])
    assert np.allclose(frame["score"], (1 + frame["p1"]) / 2)
    assert frame.interp.summary()["n_tokens"].tolist() == [1, 1]
    axes, listed = frame.interp.plot().axes
    assert "prob" in listed.texts[0].get_text() and axes.get_ylabel() == "first tokens"


def test_an_interrupted_scan_goes_on(small_subject, tmp_path, monkeypatch):
    """Read again what is kept, whatever is asked for then; nothing is computed twice."""
    subject = small_subject("gpt2", "bridge")
    monkeypatch.setattr(SharedPrefix, "rows", lambda self, width: 7)
    asked = {"n_continue": 2, "n_best": 3}
    whole = first_tokens(subject, **asked)
    scanned: list[int] = []
    original = _first_tokens.continued

    def counting(prefix, ids, n_steps):
        if len(scanned) == 3 * 7:
            raise KeyboardInterrupt
        if n_steps == 3:
            scanned.extend(ids.tolist())
        return original(prefix, ids, n_steps)

    out = tmp_path / "rows"
    monkeypatch.setattr(_first_tokens, "continued", counting)
    with pytest.raises(KeyboardInterrupt):
        first_tokens(subject, out=out, **asked)
    assert len(list(out.glob("*.parquet"))) == 3
    scanned[:] = [-1]
    resumed = first_tokens(subject, out=out, **asked)
    assert scanned[1:] == list(range(21, 61))
    pd.testing.assert_frame_equal(resumed, whole)
    scanned[:] = [-1]
    some = first_tokens(subject, token_ids=[3, 40], threshold=0.5, seed=1, out=out, **asked | {"n_best": 0})
    assert scanned == [-1] and some["p1"].tolist() == whole["p1"][[3, 40]].tolist()
    assert len(first_tokens(subject, token_ids=[3], n_steps=2, out=out, **asked)) == 1  # other steps are kept apart
    assert first_tokens(subject, token_ids=[3], out=out, **asked)["p3"].notna().all()


def test_a_damaged_part_is_computed_again(small_subject, tmp_path):
    subject = small_subject("gpt2", "bridge")
    first = first_tokens(subject, n_best=0, out=tmp_path)
    (file,) = tmp_path.glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="its rows are computed again"):
        pd.testing.assert_frame_equal(first_tokens(subject, n_best=0, out=tmp_path), first)
