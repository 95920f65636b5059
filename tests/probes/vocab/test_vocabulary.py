"""Words of every alphabet are told by every kind of tokenizer, and so are rows that hold none."""

from __future__ import annotations

import string

import pytest
from tokenizers import AddedToken

from interp.errors import InputError
from probes import character_content, vocabulary
from probes.vocab._words import alphabet, word_in

ASCII = alphabet("ascii")
TOKENIZERS = {
    "byte-level": (["Ġthe", "the", "3D", "Ġdon't", "ðŁĺĢ", "Ġa"], {}),
    "sentencepiece": (["▁the", "the", "3D", "▁don't", "😀", "▁a"], {"unk_token": "<unk>"}),
    "wordpiece": (["[UNK]", "the", "##the", "3D", "don't", "😀", "a"], {"unk_token": "[UNK]"}),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokens_of_every_kind_of_tokenizer_read_as_their_words(tokenizer_of, subject_with, kind):
    """`Ġthe`, `▁the` and `##the` are the word "the"; `3D`, `don't`, an emoji and a single letter are not words."""
    pieces, special = TOKENIZERS[kind]
    core = tokenizer_of(kind, pieces)
    n_tokens = core.get_vocab_size()
    frame = vocabulary(subject_with(core, n_tokens + 3, **special))
    assert frame["kind"].eq("word").sum() == 2
    assert frame.loc[frame["kind"] == "word", "word"].tolist() == ["the", "the"]
    raw = {index: piece for piece, index in core.get_vocab().items()}
    of = {raw[index]: kind for index, kind in zip(frame["token_id"], frame["kind"], strict=True) if index in raw}
    others = [of[piece] for piece in of if piece.strip("Ġ▁") in ("3D", "don't", "😀", "ðŁĺĢ")]
    assert others == ["other"] * 3
    assert of.get("Ġa", of.get("▁a", of.get("a"))) == "single_letter"
    assert frame["kind"].tolist()[-3:] == ["unused"] * 3 and (frame["token_id"] >= n_tokens).sum() == 3
    if special:
        assert of[special["unk_token"]] == "special"
    counts = frame.interp.summary().set_index("kind")["n_tokens"]
    assert counts.sum() == n_tokens + 3 and counts["unused"] == 3


def test_an_added_special_token_that_looks_like_a_word_is_not_one(tokenizer_of, subject_with):
    core = tokenizer_of("byte-level", ["the"])
    core.add_special_tokens([AddedToken("SEP", special=True)])
    frame = vocabulary(subject_with(core, core.get_vocab_size()))
    assert frame.loc[frame["token"] == "SEP", "kind"].tolist() == ["special"]


@pytest.mark.parametrize("text", ["Ġ", " ", "", "3D", "don't", "😀", " a-b", "  the", "naïve", "the\n", "�"])
def test_what_is_no_ascii_word(text):
    assert word_in(text, ASCII.word) is None


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("Cyrillic", "привет"), ("Greek", "λόγος"), ("Devanagari", "नमस्ते"), ("Arabic", "سلام"),
        ("Hiragana", "こんにちは"), ("Latin", "naïve"),
    ],
)  # fmt: skip
def test_words_of_a_script_and_of_no_other(script, word):
    pattern = alphabet(script).word
    assert word_in(f" {word}", pattern) == word
    assert word_in(word + "x", pattern) == (word + "x" if script == "Latin" else None)
    assert word_in(word + "।", pattern) is None and word_in(word + "1", pattern) is None
    assert alphabet(list(dict.fromkeys(word[-3:]))).word == pattern


def test_a_decomposed_letter_is_its_composed_one():
    assert word_in("nai\u0308ve", alphabet("Latin").word) == "naïve"


@pytest.mark.parametrize(
    ("letters", "message"),
    [("Klingon", "unknown script 'Klingon'"), (["a", "б"], "not of one script"), (["ab"], "single letters"),
     ([], "single letters"), (["1"], "not of one script")],
)  # fmt: skip
def test_alphabets_that_are_none(letters, message):
    with pytest.raises(InputError, match=message):
        alphabet(letters)


def test_a_character_level_model_has_words_of_one_letter(character_level):
    """It was refused for that, with the advice to choose another alphabet."""
    frame = vocabulary(character_level)
    assert frame["kind"].value_counts().to_dict() == {"single_letter": 52, "other": 44}
    assert (
        "".join(frame.loc[frame["kind"] == "single_letter", "word"]) == string.ascii_uppercase + string.ascii_lowercase
    )
    with pytest.raises(
        InputError, match=r"is a word of two letters or more of 'ascii', 52 are single letters: .* longer"
    ):
        character_content(character_level, probe="ridge")
