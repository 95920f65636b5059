"""Which tokens are words of which alphabet, by every kind of tokenizer, and which rows are untrained."""

from __future__ import annotations

import string

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import interp
from interp.errors import InputError
from probes import character_content, vocabulary
from probes.vocab._words import alphabet, outlying_norms, word_in

ASCII = alphabet("ascii")


def subject_with(core: Tokenizer, n_rows: int, **special: str) -> interp.Subject:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
    config = GPT2Config(vocab_size=n_rows, n_positions=8, n_embd=8, n_layer=1, n_head=1)
    return interp.load(GPT2LMHeadModel(config).eval(), tokenizer=tokenizer)


def byte_level(pieces: list[str]) -> Tokenizer:
    alphabet_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({piece: place for place, piece in enumerate([*alphabet_, *pieces])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return core


def sentencepiece(pieces: list[str]) -> Tokenizer:
    """As Llama 2 marks spaces: a first space is stripped when a token is decoded alone."""
    core = Tokenizer(models.Unigram([("<unk>", 0.0), *((piece, -1.0) for piece in pieces)], unk_id=0))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return core


def word_piece(pieces: list[str]) -> Tokenizer:
    core = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    return core


TOKENIZERS = {
    "byte-level": (byte_level(["Ġthe", "the", "3D", "Ġdon't", "ðŁĺĢ", "Ġa"]), {}),
    "sentencepiece": (sentencepiece(["▁the", "the", "3D", "▁don't", "😀", "▁a"]), {"unk_token": "<unk>"}),
    "wordpiece": (word_piece(["[UNK]", "the", "##the", "3D", "don't", "😀", "a"]), {"unk_token": "[UNK]"}),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokens_of_every_kind_of_tokenizer_read_as_their_words(kind):
    """`Ġthe`, `▁the` and `##the` are the word "the"; `3D`, `don't`, an emoji and a single letter are not words."""
    core, special = TOKENIZERS[kind]
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


def test_an_added_special_token_that_looks_like_a_word_is_not_one():
    core = byte_level(["the"])
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


def test_outlying_norms():
    norms = np.array([1.0, 1.1, 0.9, 1.05, 0.95, 0.0, 30.0, 0.01])
    assert outlying_norms(norms, norms > 0.5).tolist() == [False] * 5 + [True] * 3


def test_glitch_tokens_are_flagged():
    core = byte_level(["Ġthe", "Ġcat", "Ġdog", "Ġbird"])
    subject = subject_with(core, core.get_vocab_size())
    model = GPT2LMHeadModel(GPT2Config(vocab_size=core.get_vocab_size(), n_positions=8, n_embd=8, n_layer=1, n_head=1))
    model.transformer.wte.weight.data[core.token_to_id("Ġcat")] = 0.0
    frame = vocabulary(interp.load(model.eval(), tokenizer=subject.tokenizer))
    assert frame.loc[frame["glitch"] & (frame["kind"] == "word"), "word"].tolist() == ["cat"]


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
