"""Scores by groups: sums of tokens, closed forms on a planted model, turns of three chat templates, and removal."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import interp
from interp.errors import InputError, UnknownName
from interp.planted import copying
from probes import attribute, faithfulness, group_attribution, reagent_ls
from probes.attribution.groups._naming import divide

TEXTS = [
    "The unlikely hero slept. Was she tired? She had walked 3.5 miles, e.g. to the sea.",
    "A princess saw the sea. She laughed!",
]
SPANS = [{"who": "hero", "where": "the sea"}, {"who": "A princess", "where": (-4, -2)}]
KEYS = ["prompt_id", "method", "target_pos", "target_id", "against_id"]


@pytest.fixture(scope="module")
def subject() -> interp.Subject:
    return interp.load("reference")


@pytest.fixture(scope="module")
def tokens(subject) -> pd.DataFrame:
    """Two targets of two prompts: two tokens each of a continuation, against the model's runner-up."""
    methods = ("occlusion", "normxlogit", "random")
    return attribute(subject, TEXTS, methods=methods, continuation=2, against="runner_up")


@pytest.fixture(scope="module")
def spans(subject, tokens) -> pd.DataFrame:
    return group_attribution(subject, tokens, groups=SPANS)


# -- sums ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", ["word", "sentence", SPANS])
def test_groups_add_up_to_the_tokens_and_have_each_once(subject, tokens, groups):
    frame = group_attribution(subject, tokens, groups=groups)
    sums, expected = (one.groupby(KEYS)["score"].sum() for one in (frame, tokens))
    pd.testing.assert_series_equal(sums, expected, rtol=1e-9)  # float64 sums in another order
    for key, rows in frame.groupby(KEYS):
        own = tokens[(tokens[KEYS] == list(key)).all(axis=1)].sort_values("pos")
        covered = [pos for row in rows.itertuples() for pos in range(row.first_pos, row.last_pos + 1)]
        assert covered == own["pos"].tolist()
        assert rows["n_tokens"].sum() == len(own) and "".join(rows["text"]) == "".join(own["token"])
        for row in rows.itertuples():
            inside = own["pos"].between(row.first_pos, row.last_pos)
            assert row.score == pytest.approx(own.loc[inside, "score"].sum(), rel=1e-9, abs=1e-12)


def test_words_and_sentences_are_those_of_a_reader(subject, tokens):
    first = tokens[(tokens["prompt_id"] == 0) & (tokens["method"] == "random")]
    first = first[first["target_pos"] == first["target_pos"].min()]
    said = group_attribution(subject, first, groups="sentence")["text"].tolist()
    assert said[1:] == [
        "The unlikely hero slept.", " Was she tired?", " She had walked 3.5 miles, e.g. to the sea.",
    ]  # fmt: skip
    words = group_attribution(subject, first)["text"].tolist()
    assert words[1:6] == ["The", " unlikely", " hero", " slept", "."]


def test_standard_errors_are_bounded_by_their_sum(subject):
    frame = reagent_ls(subject, "The unlikely hero slept.")
    words = group_attribution(subject, frame)
    assert words["score_se"].sum() == pytest.approx(frame["score_se"].sum())
    without = group_attribution(subject, attribute(subject, "The hero", methods="random"))
    assert without["score_se"].isna().all()


@pytest.mark.filterwarnings("ignore:these scores cannot be told")  # of one short text
def test_removing_the_groups_of_copies():
    """The two places of the target are one group, with 2 a / 5 for it; the other token's place has a / 5 against it."""
    a = 2.0
    model = copying(a=a).model
    groups = {"for": (1, 3), "against": "w5"}
    frame = attribute(model, "w1 w3 w3 w5 w2", methods="occlusion", target="w3", against="w5")
    by_group = group_attribution(model, frame, groups=groups)
    assert by_group["group_name"].tolist() == ["rest", "for", "against", "rest"]
    np.testing.assert_allclose(by_group["score"], [0, 2 * a / 5, -a / 5, 0], rtol=0, atol=2e-6)  # float32 sums
    found = faithfulness(
        model, frame, unit=groups, metrics=["comprehensiveness", "sufficiency"], replacement="zero_embedding",
        fractions=[1 / 3, 2 / 3, 1.0],
    )  # fmt: skip
    own = found[found["control"] == "none"].set_index("metric")["value"]
    assert (found["n_units"] == 3).all()  # position 0 is never removed
    np.testing.assert_allclose(own["comprehensiveness"], np.array([2, 2, 1]) * a / 5, rtol=0, atol=2e-6)
    np.testing.assert_allclose(own["sufficiency"], np.array([-1, -1, 0]) * a / 5, rtol=0, atol=2e-6)


# -- chats -----------------------------------------------------------------------------------------------------------

CHATML = "<|im_start|> user \n Hi there . <|im_end|> \n <|im_start|> assistant \n Yes ."
LLAMA = "<s> <|start|> user <|end|> \n\n Hi there . <|eot|> <|start|> assistant <|end|> \n\n Yes ."
GEMMA = "<bos> <turn> user \n Hi there . <eot> \n <turn> model \n Yes ."
MISTRAL = "<s> [INST] Hi there . [/INST] Yes . </s>"


def reading(text: str) -> tuple[SimpleNamespace, np.ndarray]:
    """A subject whose tokens are the pieces between spaces, of which those in brackets are special ones."""
    pieces = text.split(" ")
    special = {number for number, one in enumerate(pieces) if one[0] in "<["}
    tokenizer = SimpleNamespace(
        added_tokens_decoder={number: SimpleNamespace(special=True) for number in special}, all_special_ids=[]
    )
    strings = np.array([one if one[0] in "<[\n." else f" {one}" for one in pieces], dtype=object)
    return SimpleNamespace(tokenizer=tokenizer, token_strings=strings), np.arange(len(pieces))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (CHATML, ("user", "assistant")),
        (LLAMA, ("user", "assistant")),
        (GEMMA, ("user", "model")),
        (MISTRAL, ("turn", "turn")),
    ],
)
def test_turns_are_the_messages_without_the_template(text, names):
    subject, ids = reading(text)
    division = divide(subject, {0: ids}, "turn", "groups")[0]
    said = [
        (name, "".join(subject.token_strings[division.label == number])) for number, name in enumerate(division.names)
    ]
    assert [one for one in said if one[0] != "template"] == [(names[0], " Hi there."), (names[1], " Yes.")]
    assert len(division.label) == len(ids)


# -- summaries and figures -------------------------------------------------------------------------------------------


def test_the_summary_is_over_prompts_and_beside_the_share_of_tokens(spans):
    summary = spans.interp.summary().set_index(["method", "group_name"])
    assert (
        set(summary.index.get_level_values("group_name")) == {"who", "where", "rest"}
        and (summary["n_prompts"] == 2).all()
    )
    later = spans[spans["first_pos"] > 0]
    shares = []
    for (prompt, *_), rows in later[later["method"] == "occlusion"].groupby(["prompt_id", "target_pos"]):
        who = rows[rows["group_name"] == "where"]
        share = who["score"].abs().sum() / rows["score"].abs().sum()
        shares.append((prompt, share, who["n_tokens"].sum() / rows["n_tokens"].sum(), who["score"].sum()))
    expected = pd.DataFrame(shares).groupby(0).mean().mean()
    row = summary.loc[("occlusion", "where")]
    assert [row["share"], row["share_of_tokens"], row["score"]] == pytest.approx(expected.tolist(), rel=1e-9)
    assert row["excess"] == pytest.approx(expected[1] - expected[2], rel=1e-9)
    assert row["excess_low"] <= row["excess"] <= row["excess_high"]
    shares = summary.groupby("method")[["share", "share_of_tokens"]].sum()
    np.testing.assert_allclose(shares, 1.0, rtol=1e-9)


def test_the_figures(subject, tokens, spans, tmp_path):
    axes = spans.interp.plot(path=tmp_path / "shares.png").axes[0]
    assert [one.get_text() for one in axes.get_yticklabels()] == ["who", "where", "rest"]
    one = spans.interp.plot(prompt_id=1, target=1).axes[0]
    assert "who" in [label.get_text() for label in one.get_xticklabels()]
    words = group_attribution(subject, tokens)
    figure = words.interp.plot()
    labels = [label.get_text().strip() for label in figure.axes[0].get_xticklabels()]
    assert labels[1:4] == ["The", "unlikely", "hero"] and "scores of groups" in figure.get_suptitle()
    assert " unlikely" in words.interp.explore().html


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ("line", UnknownName, "unknown groups 'line'"),
        (
            "turn",
            InputError,
            "prompt 0 has no chat turns, for it holds no special token after its start: give messages",
        ),
        (["hero"], InputError, "prompt 1 does not hold 'hero'; give a text of it, two positions, or groups for each"),
        (["ero"], InputError, "prompt 0 does not hold 'ero'"),
        ({"a": (2, 90)}, InputError, r"groups \(2, 90\) is not a span of prompt 0, which has"),
        (
            {"a": (2, 4), "b": (3, 5)},
            InputError,
            "groups 'a' and 'b' overlap at position 3 of prompt 0; make them apart",
        ),
        ({"a": (1, 2, 3)}, InputError, r"groups holds \[1, 2, 3\]: give a text, or two positions"),
        ([{"a": "the"}], InputError, "groups lists 1 sets of spans for 2 prompts; give one, or one each"),
        ({}, InputError, "names no span; give at least one, or one of word, sentence, turn"),
    ],
)
def test_groups_that_are_refused(subject, tokens, groups, error, message):
    with pytest.raises(error, match=message):
        group_attribution(subject, tokens, groups=groups)


def test_frames_that_are_refused(subject, tokens, spans):
    norms = attribute(subject, TEXTS, methods=("norm", "random"))
    with pytest.raises(InputError, match="scores of 'norm' cannot be added up: a sum of the norms of vectors is the"):
        group_attribution(subject, norms)
    with pytest.raises(InputError, match="not an attribution frame"):
        group_attribution(subject, spans)
    other = attribute(subject, TEXTS[::-1], methods="random", target=9)
    with pytest.raises(InputError, match="prompt 0 has two texts in this frame; number them apart, or give one run"):
        group_attribution(subject, interp.concat([attribute(subject, TEXTS, methods="random", target=9), other]))
    with pytest.raises(InputError, match="leave the group at position 0 out"):
        group_attribution(subject, attribute(subject, "A", methods="random", target_pos=0)).interp.summary()
    with pytest.raises(UnknownName, match="unknown unit 'line'"):
        faithfulness(subject, tokens, unit="line")
