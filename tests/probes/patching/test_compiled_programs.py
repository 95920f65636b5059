"""Patching traces programs that Tracr compiled: which head moves what from where to where is known."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from interp.planted import tracr
from interp.probes import attribution_patch, layer_robustness, logit_lens, patch

ANSWER = {"target": "b", "against": "d"}
CARRIED = {
    ("resid_pre", 0, 2): 1,
    ("resid_pre", 1, 2): 1,
    ("resid_pre", 2, 2): 1,
    ("attn_out", 2, 4): 1,
}


@pytest.fixture(scope="module")
def induction():
    return tracr("induction").model


@pytest.fixture(scope="module")
def reverse():
    return tracr("reverse").model


def places(frame: pd.DataFrame, value: str = "recovered") -> dict[tuple[str, int, int], float]:
    """The places (site, layer, pos) whose value is not 0, to 1e-5 of a logit difference of 20 in float32."""
    found = frame.set_index(["site", "layer", "pos"])[value].round(5)
    return found[found != 0].to_dict()


def test_the_copied_word_is_carried_at_its_place_and_moved_by_the_last_head(induction):
    """`BOS a b c a` asks for b: the place after the first a has it until the head of block 2 moves it to the end."""
    frame = patch(induction, ["BOS a b c a"], ["BOS a d c a"], controls=(), **ANSWER)
    assert places(frame) == CARRIED


def test_the_word_before_it_is_moved_by_the_head_of_block_1(induction):
    """The text with c and d in other places asks for d: block 1 writes at each place which word stands before it."""
    frame = patch(induction, ["BOS a b c a"], ["BOS c b d a"], controls=(), sites=("attn_out", "mlp_out"), **ANSWER)
    assert set(places(frame)) == {("attn_out", 1, 2), ("attn_out", 2, 4)}


def test_parts_that_the_program_does_not_need_change_nothing(induction):
    """All positions at once, from a text with other words: only the last head's output depends on them all."""
    sites = ("attn_out", "mlp_out")
    frame = patch(
        induction, ["BOS a b c a"], ["BOS d c b d"], mode="noise", sites=sites, controls=(), positions="all", **ANSWER
    )
    effect = frame.set_index(["site", "layer"])["effect"].abs()
    assert effect["attn_out", 2] > 1
    assert effect[[("attn_out", 0), ("mlp_out", 1), ("mlp_out", 2)]].max() < 1e-5


def test_the_estimate_is_exact_where_values_move_and_blind_where_attention_decides(induction):
    """A copied value enters linearly; which place a hard head reads has a gradient of e^-30 or so, no 20 logits."""
    moved = estimates(induction, "BOS a d c a")
    assert places(moved, "estimate").keys() == CARRIED.keys()
    assert (moved[moved["estimate"] > 1]["estimate"].round(3) == 20).all()
    chosen = estimates(induction, "BOS c b d a")
    assert chosen[chosen["layer"] < 2]["estimate"].abs().max() < 1e-3


def estimates(model, corrupt: str, clean: str = "BOS a b c a", **answer: str) -> pd.DataFrame:
    frame = attribution_patch(model, [clean], [corrupt], **(answer or ANSWER))
    return frame[(frame["method"] == "gradient") & (frame["control"] == "none")]


def test_without_any_block_or_with_two_swapped_every_word_is_as_likely(induction):
    """Each block has a part that the program needs; without it all logits are 0, and the entropy is ln 5."""
    frame = layer_robustness(induction, ["BOS a b c a", "BOS b d a b"], controls=())
    last = frame[frame["pos"] == 4]
    assert set(last["layer"]) == {0, 1, 2}
    assert last["entropy"].to_numpy() == pytest.approx(math.log(5), abs=1e-5)  # float32, on logits up to 10
    assert (last["kl"] + last["entropy_intact"]).to_numpy() == pytest.approx(math.log(5), abs=1e-5)


def test_reverse_carries_the_letter_at_its_place_and_writes_its_capital_last(reverse):
    """`BOS a b c end` asks for C: the letter waits at its place, block 2 moves it, and its MLP makes it a capital."""
    answer = {"target": "C", "against": "D"}
    frame = patch(reverse, ["BOS a b c end"], ["BOS a b d end"], controls=(), **answer)
    carried = {("resid_pre", layer, 3): 1 for layer in range(3)}
    assert places(frame) == {**carried, ("attn_out", 2, 4): 1, ("mlp_out", 2, 4): 1}
    estimated = estimates(reverse, "BOS a b d end", clean="BOS a b c end", **answer)
    assert set(places(estimated, "estimate")) == set(places(frame))


def test_where_the_end_stood_is_moved_by_block_1_and_decides_what_block_2_reads(reverse):
    """`BOS a b c d end a` asks for C, and with the end one place earlier for A; words and place are otherwise equal."""
    frame = patch(
        reverse, ["BOS a b c d end a"], ["BOS a b c end d a"], controls=(), sites=("attn_out", "mlp_out"),
        positions=-1, target="C", against="A",
    )  # fmt: skip
    assert places(frame) == {(part, layer, 6): 1 for part in ("attn_out", "mlp_out") for layer in (1, 2)}


def test_reverse_settles_behind_its_last_block_alone(reverse):
    """Before that, nothing is in the dimensions that the unembedding reads: every word is as likely."""
    frame = logit_lens(reverse, ["BOS a b c end", "BOS a b c end C B"], positions=-1, targets="argmax")
    assert frame[frame["layer"] < 3]["entropy"].to_numpy() == pytest.approx(math.log(10), abs=1e-5)
    assert frame[frame["layer"] == 3]["top1"].str.strip().tolist() == ["C", "A"]
