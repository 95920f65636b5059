"""Positions by number, from the end and by the string of a token mean the same in every probe."""

from __future__ import annotations

import inspect

import pandas as pd
import pytest

import probes
from interp import InputError, load, options
from interp.authoring import numbered, positions_of

TEXTS = ["Once upon a time there was a little dog", "There was a cat", "The cat saw a dog and a bird and a tree"]
NAMES = {"positions", "target_pos"}
TAKING = [one for one in probes.PROBES if NAMES & set(inspect.signature(one).parameters) and one.__name__ != "steer"]


@pytest.fixture(scope="module")
def subject():
    return load("reference")


def places_by_hand(subject, string):
    """Return the positions of a token in each text, by its id in the tokenizer's vocabulary."""
    (wanted,) = subject.tokenizer(string, add_special_tokens=False)["input_ids"]
    rows = [subject.tokenizer(text)["input_ids"] for text in TEXTS]
    starts = [0 if row[0] == subject.tokenizer.bos_token_id else 1 for row in rows]
    return [[at + pos for pos, one in enumerate(row) if one == wanted] for row, at in zip(rows, starts, strict=True)]


def test_a_token_means_each_place_where_it_stands(subject):
    chosen = positions_of(subject, subject.tokens(TEXTS), " a")
    assert [one.tolist() for one in chosen.by_prompt] == places_by_hand(subject, " a")
    assert len(chosen) == 6


def test_numbers_and_tokens_are_joined_in_order_without_duplicates(subject):
    tokens = subject.tokens(TEXTS[:1])
    (chosen,) = positions_of(subject, tokens, [-1, " a", 3, 0]).by_prompt
    assert chosen.tolist() == [0, 3, 7, 9]


@pytest.mark.parametrize("everything", [None, "all"])
def test_all_positions(subject, everything):
    assert positions_of(subject, subject.tokens(TEXTS), everything) is None


def test_the_word_all_as_a_token_is_given_in_a_list(subject):
    tokens = subject.tokens(["all we all"])
    (chosen,) = positions_of(subject, tokens, ["all"]).by_prompt
    assert chosen.tolist() == [1]  # the second one is ' all'


@pytest.mark.parametrize(("positions", "reaches"), [(0, False), (-1, True), (" a", False), (" cat", True)])
def test_it_is_known_whether_a_last_token_is_read(subject, positions, reaches):
    assert positions_of(subject, subject.tokens(TEXTS[1:]), positions).reaches_an_end is reaches


def test_a_lens_reads_the_same_by_token_and_by_number(subject):
    """In batches of one prompt and in one batch of all: a position belongs to its prompt, not to its row."""
    by_number = pd.concat(
        [
            probes.logit_lens(subject, [text], positions=places).assign(prompt_id=number)
            for number, (text, places) in enumerate(zip(TEXTS, places_by_hand(subject, " a"), strict=True))
        ],
        ignore_index=True,
    )
    for memory in (options.memory, 1):
        with options.local(memory=memory):
            by_token = probes.logit_lens(subject, TEXTS, positions=" a")
        pd.testing.assert_frame_equal(
            by_token.drop(columns="run_id"), by_number.drop(columns="run_id"), rtol=1e-4, atol=1e-5
        )  # float32 sums differ with the size of a batch


def test_values_are_recorded_at_each_place(subject):
    rows = subject.record(TEXTS, "attn_out", layers=0, positions=" a").rows
    assert rows.groupby("prompt_id")["pos"].apply(list).tolist() == places_by_hand(subject, " a")


@pytest.mark.parametrize("probe", TAKING, ids=lambda probe: probe.__name__)
def test_every_probe_of_positions_takes_them_so(probe):
    (name,) = NAMES & set(inspect.signature(probe).parameters)
    assert inspect.signature(probe).parameters[name].annotation == "Positions"


def test_the_targets_of_attribution_are_read_after_each_place(subject):
    frame = probes.attribute(subject, TEXTS, target_pos=" a", methods="normxlogit")
    found = frame.groupby("prompt_id")["target_pos"].unique().map(list).tolist()
    assert found == places_by_hand(subject, " a")


@pytest.mark.parametrize(
    ("string", "mend"),
    [
        (" a cat", "' a cat' is within ' a', ' cat' there: give one of these."),
        (" cats", "did you mean ' cat'?"),
        ("Zebra", "it has '<|endoftext|>', 'There', ' was', ' a', ' cat'; give one of these."),
    ],
)
def test_a_token_that_is_not_there_is_refused_with_what_is_there(subject, string, mend):
    with pytest.raises(InputError, match="prompt 0 has no token") as refused:
        positions_of(subject, subject.tokens(TEXTS[1:2]), string)
    assert str(refused.value).endswith(mend)


def test_patches_and_noise_are_put_where_a_token_stands(subject):
    girl = "The little girl was happy and the girl ran"
    settings = {"corruption": "noise", "layers": [1], "sites": "resid_pre", "target": " away", "against": " home"}
    by_token, by_number = (
        probes.patch(subject, girl, None, positions=given, noised=given, controls=(), **settings)
        for given in (" girl", [3, 8])
    )
    assert by_token["pos"].tolist() == [3, 8]
    pd.testing.assert_frame_equal(by_token.drop(columns="run_id"), by_number.drop(columns="run_id"))


def test_a_long_prompt_is_not_listed_whole():
    tokens = {pos: f"t{pos}" for pos in range(500)}
    with pytest.raises(InputError, match=r"'t11' and 488 others; give one of these\.$"):
        numbered(["??"], tokens, "prompt 7")


def test_a_figure_takes_a_token_too(subject):
    frame = probes.logit_lens(subject, TEXTS[:1], layers=[0, 4, 8])
    by_token, by_number = (frame.interp.plot(positions=given, layers=-1) for given in (" a", [3, 7]))
    texts = [[one.get_text() for one in figure.axes[0].texts] for figure in (by_token, by_number)]
    assert texts[0] == texts[1] and len(texts[0]) == 2
