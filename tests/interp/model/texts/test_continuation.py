"""The tokens of a continuation after a text and of a word inside one, for tokenizers of every kind."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from interp.errors import InputError
from interp.model.texts.continuation import continuation_of_ids, single_token, tokens_after, word_tokens
from interp.model.texts.strings import TokenStrings
from interp.planted import word_tokenizer
from interp.tokenization.asking import text_ids

CORPUS = ["the time of the cat", "a time, (the cat) sat", 'at a "time" there sat the cats; the time came', "catime"] * 5
ALPHABET = [*'abcdefghijklmnopqrstuvwxyz(),;"', "\n"]


def of(core: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def metaspace(prepend: str) -> PreTrainedTokenizerFast:
    """SentencePiece's pieces; `prepend` says whether texts get a space before them, as Llama's ("first") do."""
    words = ["▁", "▁the", "▁time", "▁cat", "▁a", "ime", "s"]
    scores = [*((word, -1.0 - rank / 10) for rank, word in enumerate(words)), *((one, -5.0) for one in ALPHABET)]
    core = Tokenizer(models.Unigram([("<unk>", -20.0), ("<s>", -20.0), *dict(scores).items()], unk_id=0))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    core.decoder = decoders.Metaspace(prepend_scheme=prepend)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return of(core, bos_token="<s>", unk_token="<unk>")


def metaspace_bpe() -> PreTrainedTokenizerFast:
    """Llama 2's: spaces are marked by normalising, with one before every text, and nothing is split beforehand."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    marked = ["▁" + text.replace(" ", "▁") for text in CORPUS]
    trainer = trainers.BpeTrainer(
        vocab_size=60, special_tokens=["<unk>"], initial_alphabet=ALPHABET, show_progress=False
    )
    core.train_from_iterator(marked, trainer)
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return of(core, unk_token="<unk>")


def byte_level(*, add_prefix_space: bool) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    )
    return of(core)


def across_spaces() -> PreTrainedTokenizerFast:
    """A BPE that joins words: "a time" has a token of its own, so that " time" has none after "a"."""
    vocab = {
        one: index for index, one in enumerate(["▁", "a", "t", "i", "m", "e", "ti", "me", "time", "▁time", "a▁time"])
    }
    merges = [("t", "i"), ("m", "e"), ("ti", "me"), ("▁", "time"), ("a", "▁time")]
    core = Tokenizer(models.BPE(vocab, merges))  # without an unknown token: other characters vanish
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.decoder = decoders.Metaspace(prepend_scheme="first")
    return of(core)


def characters() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE({one: index for index, one in enumerate([" ", *ALPHABET])}, []))
    core.decoder = decoders.Fuse()
    return of(core)


def word_piece() -> PreTrainedTokenizerFast:
    vocab = ["[UNK]", "the", "time", "cat", "##s", "##ime", "a", "(", ","]
    core = Tokenizer(models.WordPiece({one: index for index, one in enumerate(vocab)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(cleanup=False)
    return of(core, unk_token="[UNK]")


MAKERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "always": lambda: metaspace("always"),
    "first": lambda: metaspace("first"),
    "never": lambda: metaspace("never"),
    "normalised": metaspace_bpe,
    "bytes": lambda: byte_level(add_prefix_space=False),
    "bytes with a space": lambda: byte_level(add_prefix_space=True),
    "across spaces": across_spaces,
    "characters": characters,
}
EVERY = {name: make() for name, make in MAKERS.items()}
SPACED = [name for name in EVERY if name not in ("characters", "across spaces")]  # " time" is one token of theirs


def strings(ids: list[int], tokenizer: PreTrainedTokenizerFast) -> list[str]:
    return TokenStrings(tokenizer, len(tokenizer))[ids].tolist()


# -- after a text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_text_and_continuation_are_the_whole_or_refused(name):
    tokenizer = EVERY[name]
    done = 0
    for text in ("", "a", "the cat sat ", 'at a "', "the cat,"):
        for continuation in (" time", "time", "s", ",", " the cats"):
            try:
                found = tokens_after(text, continuation, tokenizer)
            except InputError:
                continue
            assert found and text_ids([text], tokenizer)[0] + found == text_ids([text + continuation], tokenizer)[0]
            done += 1
    assert done >= 10


@pytest.mark.parametrize("name", SPACED)
def test_a_new_word_is_its_token_with_the_space_never_the_space_alone(name):
    """Alone, " time" begins with the lone space of SentencePiece: every right answer was a space."""
    tokenizer = EVERY[name]
    assert strings(tokens_after("the cat sat at a", " time", tokenizer), tokenizer) == [" time"]
    assert strings(tokens_after("the cat sat at a", " the cat", tokenizer), tokenizer) == [" the", " cat"]


def test_alone_it_would_be_the_space():
    """The fault that this module is for: the tokens of the word by itself."""
    assert strings(text_ids([" time"], EVERY["normalised"])[0], EVERY["normalised"]) == [" ", " time"]


@pytest.mark.parametrize("name", ["bytes", "normalised"])
def test_a_space_at_the_end_of_a_prompt_is_refused_with_the_mend(name):
    with pytest.raises(InputError, match=r"joins the end of 'sat at a ' and .* 'time'; move the space from the end"):
        tokens_after("sat at a ", "time", EVERY[name])


def test_words_that_the_tokenizer_joins_are_refused():
    with pytest.raises(InputError, match=r"joins the end of 'a' and the beginning of ' time'; choose another word"):
        tokens_after("a", " time", EVERY["across spaces"])
    with pytest.raises(InputError, match=r"joins .* begin the continuation with a space"):
        tokens_after("c", "atime", EVERY["bytes"])
    with pytest.raises(InputError, match="'Z' has no tokens of its own after 'a'"):
        tokens_after("a", "Z", EVERY["across spaces"])


def test_long_texts_are_shown_by_their_end():
    with pytest.raises(InputError, match=r"the end of '….{40}' and") as caught:
        tokens_after("the cat " * 100, "time", EVERY["bytes"])
    assert len(str(caught.value)) < 300


def test_a_tokenizer_of_whole_words_needs_no_space():
    words = word_tokenizer(6)
    assert tokens_after("w0 w1", " w3 w4", words) == tokens_after("w0 w1", "w3 w4", words) == [3, 4]
    assert word_tokens("w3", words) == word_tokens(" w3", words) == [3]
    with pytest.raises(InputError, match=r"cannot read .*; begin the continuation with a space"):
        tokens_after("w0", "zebra", words)


@pytest.mark.parametrize("name", EVERY)
def test_ids_are_continued_as_their_text(name):
    tokenizer = EVERY[name]
    prompt = torch.tensor(tokenizer("the cat sat,")["input_ids"])
    assert continuation_of_ids(prompt, " the cat", tokenizer) == tokens_after("the cat sat,", " the cat", tokenizer)


def test_ids_that_no_text_has_are_continued_as_inside_a_text():
    tokenizer = EVERY["bytes"]
    apart = torch.tensor(tokenizer.convert_tokens_to_ids(["t", "i", "m", "e"]))
    assert text_ids([tokenizer.decode(apart)], tokenizer)[0] != apart.tolist()
    assert continuation_of_ids(apart, " time", tokenizer) == word_tokens(" time", tokenizer)


# -- inside a text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_what_a_frame_shows_can_be_typed_in(name):
    """A token's text is either that token (or one of the same text) or refused; never a token of another text."""
    tokenizer = EVERY[name]
    known = TokenStrings(tokenizer, len(tokenizer))
    found = 0
    for text in known:
        try:
            index = single_token(text, tokenizer)
        except InputError:
            continue
        assert known[index] == text
        found += 1
    assert found > len(known) / 3  # bytes of longer characters have no text of their own


@pytest.mark.parametrize("name", SPACED)
def test_a_word_means_what_it_says(name):
    tokenizer = EVERY[name]
    assert strings([single_token(" time", tokenizer)], tokenizer) == [" time"]
    if name.startswith("bytes"):
        return  # whose vocabulary has "time" too
    with pytest.raises(InputError, match=re.escape("Most words begin with a space: ' time' is one token.")):
        single_token("time", tokenizer)
    assert strings([single_token("s", tokenizer)], tokenizer) == ["s"]


def test_a_letter_is_a_token_of_a_character_level_model():
    tokenizer = EVERY["characters"]
    assert strings(word_tokens(" time", tokenizer), tokenizer) == [" ", "t", "i", "m", "e"]
    assert [single_token(letter, tokenizer) for letter in "aei"] == [1, 5, 9]


def test_word_text_ids():
    tokenizer = word_piece()
    assert word_tokens(" time", tokenizer) == word_tokens("time", tokenizer) == [2]
    assert tokens_after("the", " cats", tokenizer) == [3, 4]


def test_characters_that_vanish_are_refused():
    """This tokenizer drops what it does not know: "Z" gave the lone space."""
    for text in ("Z", " Z"):
        with pytest.raises(InputError, match=f"has no tokens for '{text}' inside a text"):
            single_token(text, EVERY["across spaces"])
