"""The scorecard on tokenizers whose every number is known by counting, and by identities on the shipped one."""

import math

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

import interp
from interp.errors import InputError
from interp.tokenization import Vocabulary, n_encodings, shortest, text_ids, token_bytes

from ..tokenization.toys import byte_level, letters, sentencepiece, wordpiece, wrapped

TEXTS = ["abcabcab", "cabb acab bca", "aabbccabc"]
VOCABULARY_ALONE = ""


def values(frame, texts="texts"):
    return frame[frame["texts"] == texts].set_index("metric")["value"]


def of_pieces(pieces, merges):
    return Tokenizer(BPE({piece: at for at, piece in enumerate(pieces)}, merges))


def scored(tokenizer, texts, **options):
    return interp.tokenizer_scorecard({"toy": tokenizer}, texts, n_resamples=99, **options)


# -- each metric by counting -------------------------------------------------------------------------------------------


def test_single_bytes_make_every_number_known():
    found = scored(byte_level(), ["ab cde", "é f"])
    of = values(found)
    assert of["tokens_per_byte"] == 1.0 and of["tokens_per_word"] == 10 / 4
    assert of["whole_words"] == 1 / 4  # "f" alone; é is two bytes
    assert of["shortest_gap"] == 1.0 and of["log10_encodings_per_byte"] == 0.0 and of["dropped_bytes"] == 0.0
    alone = values(found, VOCABULARY_ALONE)
    assert alone["bytes_missing"] == 0.0
    assert alone["vocabulary_share: Latin"] == 52 / 256 and alone["vocabulary_share: piece of a character"] == 1 / 2
    assert of["token_share: piece of a character"] == 2 / 10 and of["token_share: Latin"] == 6 / 10


def test_ratios_are_of_sums_and_lengths_are_those_of_brute_force():
    tokenizer = byte_level(["abc", "cab", "Ġac"])
    vocabulary = Vocabulary(token_bytes(tokenizer, len(tokenizer)))
    ids = text_ids(TEXTS, tokenizer)
    found = values(scored(tokenizer, TEXTS))
    words = [[b"abcabcab"], [b"cabb", b" acab", b" bca"], [b"aabbccabc"]]
    n_bytes, n_tokens = sum(map(len, TEXTS)), sum(map(len, ids))
    assert found["tokens_per_byte"] == n_tokens / n_bytes and found["tokens_per_word"] == n_tokens / 5
    fewest = sum(len(shortest(vocabulary, word)) for text in words for word in text)
    assert found["shortest_gap"] == pytest.approx(n_tokens / fewest, rel=1e-12)  # a ratio of means
    assert n_tokens > fewest
    ways = sum(math.log10(n_encodings(vocabulary, text.encode())) for text in TEXTS)
    assert found["log10_encodings_per_byte"] == pytest.approx(ways / n_bytes, rel=1e-12)  # logarithms are added


def test_words_are_borders_that_the_shortest_spelling_keeps():
    """ "ab c" as one token would be shorter; pre-tokens forbid it."""
    core = Tokenizer(
        BPE({piece: at for at, piece in enumerate(["a", "b", "Ġ", "c", "ab", "abĠ", "abĠc"])}, [("a", "b")])
    )
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    found = values(scored(wrapped(core), ["ab c"]))
    assert found["shortest_gap"] == 1.0
    assert found["log10_encodings_per_byte"] == pytest.approx(
        math.log10(4) / 4, rel=1e-12
    )  # ab_c, ab_|c, ab|_|c, a|b|_|c


def test_a_letter_that_is_there_twice_is_one_way_to_write():
    tokenizer = sentencepiece()  # "s" is a token, and so is its byte
    found = values(scored(tokenizer, ["sing"]))
    spelt = Vocabulary(sorted({one for one in token_bytes(tokenizer, len(tokenizer)) if one}))
    want = math.log10(n_encodings(spelt, b" sing")) / 5
    assert found["log10_encodings_per_byte"] == pytest.approx(want, rel=1e-12)
    assert found["tokens_per_byte"] == 2 / 4  # the space that the tokenizer adds is no byte of the text


def test_what_does_not_survive_is_counted():
    tokenizer = byte_level()
    core = tokenizer.backend_tokenizer
    core.model = type(core.model)({piece: at for at, piece in enumerate(sorted(set(core.get_vocab()) - {"ñ"}))}, [])
    found = scored(tokenizer, ["aé\U00040000b\U00040000"])  # each of the two begins with byte F1, "ñ" in the vocabulary
    assert values(found)["dropped_bytes"] == 2.0 and values(found, VOCABULARY_ALONE)["bytes_missing"] == 1.0


def test_unknown_words_are_neither_whole_nor_spelt():
    found = values(scored(wordpiece(), ["playing sing xyz sings"]))
    assert found["whole_words"] == 1 / 4  # sing; [UNK] is one token and not the word
    assert found["tokens_per_word"] == 6 / 4 and found["dropped_bytes"] == 3.0
    assert found["token_share: special"] == 1 / 6
    assert found["shortest_gap"] == 1.0


def test_a_token_over_two_words_is_neither_of_them():
    core = Tokenizer(
        BPE({piece: at for at, piece in enumerate(["a", "b", " ", "a ", "a b"])}, [("a", " "), ("a ", "b")])
    )
    core.decoder = decoders.Fuse()
    found = values(scored(wrapped(core), ["a b a"]))
    assert found["tokens_per_word"] == 1.0 and found["whole_words"] == 1 / 3


# -- identities --------------------------------------------------------------------------------------------------------

STORIES = [
    "Once upon a time there was a girl.",
    "She saw a big, red ball!",
    "“Hello,” said the café’s cat.",
    "3 × 14 = 42",
]


@pytest.fixture(scope="module")
def reference():
    return interp.load("reference")


def test_premiums_by_their_formulas(reference):
    other = [text.upper() for text in STORIES]
    there = interp.tokenizer_scorecard(reference, STORIES, parallel={"a": STORIES, "b": other, "c": STORIES})
    back = interp.tokenizer_scorecard(reference, STORIES, parallel={"b": other, "a": STORIES})
    n = {
        name: np.array(list(map(len, text_ids(texts, reference.tokenizer))))
        for name, texts in (("a", STORIES), ("b", other))
    }
    assert values(there, "b")["premium"] == n["b"].sum() / n["a"].sum() > 1
    assert values(there, "b")["log_premium"] == pytest.approx(np.log(n["b"] / n["a"]).mean(), rel=1e-12)
    assert values(there, "b")["premium"] * values(back, "a")["premium"] == pytest.approx(1.0, rel=1e-12)
    assert values(there, "c").tolist() == [1.0, 0.0]
    assert "a" not in set(there["texts"])


def test_what_must_hold_of_every_tokenizer(reference):
    found = values(interp.tokenizer_scorecard(reference, STORIES))
    assert 0 < found["renyi_3"] <= found["renyi_2.5"] <= found["renyi_1"] <= 1 and found["eta_vocab"] < found["renyi_1"]
    assert found["shortest_gap"] >= 1
    assert found.filter(like="token_share: ").sum() == pytest.approx(1.0, rel=1e-12)


def test_intervals_are_of_means_over_two_texts_or_more(reference):
    frame = interp.tokenizer_scorecard(reference, {"many": STORIES, "one": STORIES[:1]})
    many = frame[frame["texts"] == "many"].set_index("metric")
    for metric in ("tokens_per_byte", "tokens_per_word", "whole_words", "log10_encodings_per_byte"):
        assert many["low"][metric] < many["value"][metric] < many["high"][metric]
    assert many.loc[["renyi_2.5", "eta_vocab", "dropped_bytes"], ["low", "high"]].isna().all(axis=None)
    assert frame[frame["texts"] != "many"][["low", "high"]].isna().all(axis=None)
    n_spelt = 8192 - 1  # one token is special
    assert frame.groupby("texts")["n"].first().to_dict() == {"": n_spelt, "many": 4, "one": 1}


def test_the_same_call_gives_the_same_frame_and_the_seed_moves_intervals_alone(reference):
    one, two, other = (interp.tokenizer_scorecard(reference, STORIES, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, two)
    pd.testing.assert_series_equal(one["value"], other["value"])
    assert one["run_id"][0] != other["run_id"][0] and (one["low"] != other["low"]).any()


# -- what may be given, and what is shown ------------------------------------------------------------------------------


def test_tokenizers_may_be_given_as_models_folders_and_lists(reference, tmp_path):
    reference.tokenizer.save_pretrained(tmp_path / "saved")
    frame = interp.tokenizer_scorecard([reference, tmp_path / "saved"], "Once upon a time")
    assert frame["tokenizer"].unique().tolist() == ["reference", "saved"]
    first, second = (one.drop(columns=["tokenizer", "run_id"]) for _, one in frame.groupby("tokenizer"))
    pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True))
    summary = frame.interp.summary()
    assert (
        list(summary.columns) == ["texts", "metric", "reference", "saved"]
        and (summary["reference"] == summary["saved"]).all()
    )
    assert set(frame.interp.provenance.loc["fingerprint"]) == {frame.interp.provenance.loc["fingerprint"].iloc[0]}


def test_a_text_that_a_tokenizer_cannot_read_is_named(word_level):
    with pytest.raises(InputError, match="the model's tokenizer cannot read 'zebra'"):
        scored(word_level, ["w3 w4", "zebra"])


def test_the_figure_has_a_panel_for_each_metric_and_a_mark_for_each_tokenizer():
    frame = interp.tokenizer_scorecard({"bytes": byte_level(), "letters": letters()}, ["abc", "cab"], n_resamples=99)
    panels = frame.interp.plot().axes
    assert [one.get_title() for one in panels][:2] == ["tokens per byte", "words that are one token"] and len(
        panels
    ) == 5
    assert all(len(one.containers) == 2 for one in panels)
    (alone,) = frame.interp.plot(metrics=["renyi_3"]).axes
    assert alone.get_title() == "renyi_3"
    with pytest.raises(InputError, match=r"the frame has none of the metrics \['premium'\]"):
        frame.interp.plot(metrics=["premium"])
