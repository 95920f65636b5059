"""The tokens of a continuation after a text, and of a word inside a text.

They depend on what stands before. Alone, a text is the start of a document: SentencePiece puts a space before it, so
that "time" gives the token "▁time" and " time" a lone "▁" first; a byte-level tokenizer with `add_prefix_space` gives
the same token for both. So nothing is tokenised alone here: the ids of a continuation are those by which the ids of the
whole text exceed the ids of the text before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from torch import Tensor

from interp.checks import checked
from interp.errors import InputError
from interp.tokenization.asking import text_ids

# What may stand before a word. Punctuation joins neither words nor spaces; letters and digits leave punctuation alone.
_BEFORE = ("(", '"', "\n", ",", "a", "e", "n", "x", "Q", "7")


@checked
def tokens_after(text: str, continuation: str, tokenizer: Any) -> list[int]:
    """Return the ids of a continuation after a text, without special tokens.

    Args:
        text: what stands before; "" is the start of a document.
        continuation: what follows, with its space if it begins with a new word. A tokenizer of whole words needs none.
        tokenizer: a Hugging Face tokenizer.

    Raises:
        InputError: the tokenizer joins the end of the text with the beginning of the continuation, cannot read them, or
            has no tokens for the continuation.

    >>> from interp import load
    >>> tokenizer = load("reference").tokenizer
    >>> tokenizer.convert_ids_to_tokens(tokens_after("Once upon a", " time", tokenizer))
    ['Ġtime']
    """
    if text and not text[-1:].isspace() and not continuation[:1].isspace() and _is_word_level(continuation, tokenizer):
        continuation = f" {continuation}"
    return _after(text, continuation, tokenizer)


def _after(text: str, continuation: str, tokenizer: Any) -> list[int]:
    before = text_ids([text], tokenizer)[0]
    try:
        whole = text_ids([text + continuation], tokenizer)[0]
    except InputError as error:
        raise InputError(f"{str(error).rstrip('.')}; {_boundary(text, continuation)}") from error
    if whole[: len(before)] != before:
        raise InputError(
            f"the model's tokenizer joins the end of {_end(text)!r} and the beginning of {continuation!r}; "
            + _boundary(text, continuation)
        )
    if len(whole) == len(before):
        raise InputError(f"{continuation!r} has no tokens of its own after {_end(text)!r}; give a text that has.")
    return whole[len(before) :]


def _boundary(text: str, continuation: str) -> str:
    """Return the mend for a text and a continuation that do not come apart."""
    if text[-1:].isspace():
        return "move the space from the end of the text to the beginning of the continuation."
    if continuation[:1].isspace():
        return "choose another word, or give token ids."
    return "begin the continuation with a space if it is a new word."


@checked
def continuation_of_ids(ids: Tensor, continuation: str, tokenizer: Any) -> list[int]:
    """Return the ids of a continuation after token ids [pos]: `tokens_after` their text.

    If their text has other ids (the user's own, or a text cut inside a character), it cannot be continued: then those
    that the continuation has inside a text, see `word_tokens`.

    Raises:
        InputError: as `tokens_after`.
    """
    text = _text_of(ids.tolist(), tokenizer)
    return word_tokens(continuation, tokenizer) if text is None else tokens_after(text, continuation, tokenizer)


@checked
def word_tokens(word: str, tokenizer: Any) -> list[int]:
    """Return the ids of a word inside a text, with a space before it exactly if `word` begins with one.

    They are its `tokens_after` a character to which the tokenizer does not join it, the fewest of several.

    Raises:
        InputError: the tokenizer cannot read the word, or joins it to everything.

    >>> from interp import load
    >>> tokenizer = load("reference").tokenizer
    >>> [tokenizer.convert_ids_to_tokens(word_tokens(word, tokenizer)) for word in (" time", "time")]
    [['Ġtime'], ['time']]
    """
    if not word:
        return []
    fewest: list[int] = []
    for ids in _inside(word, tokenizer):
        if not fewest or len(ids) < len(fewest):
            fewest = ids
        if len(fewest) == 1:
            break
    if not fewest:
        alone = text_ids([word], tokenizer)[0]
        fewest = alone if _is_word_level(word, tokenizer) else []
    # Some tokenizers drop what they do not know: of " Ω" they leave the space.
    if not fewest or (word.strip() and not tokenizer.decode(fewest).strip()):
        raise InputError(f"the model's tokenizer has no tokens for {word!r} inside a text; give token ids.")
    return fewest


@checked
def single_token(text: str, tokenizer: Any) -> int:
    """Return the id of a text that is exactly one token inside a text: " time" with its space, "time" without one.

    Raises:
        InputError: the text is not one token; the message lists its tokens.
    """
    if tokenizer is None:
        raise InputError(f"this model came without a tokenizer: give {text!r} as a token id.")
    if not isinstance(text, str):
        raise InputError(f"a token is a text or an integer id, not {text!r}.")
    ids = word_tokens(text, tokenizer)
    if len(ids) != 1:
        shown = [tokenizer.decode([index]) for index in ids]
        near = _near(text, tokenizer)
        raise InputError(f"{text!r} is {len(ids)} tokens {shown}, not one; choose a single token or pass an id.{near}")
    if ids[0] == tokenizer.unk_token_id and text.strip() != tokenizer.unk_token:
        raise InputError(f"{text!r} is unknown to the model's tokenizer; choose another token, or pass an id.")
    return int(ids[0])


def _near(text: str, tokenizer: Any) -> str:
    """Return a hint for a text that is not one token: many forget the space before a word."""
    if not text[:1].strip():
        return ""
    with suppress(InputError):
        if len(word_tokens(f" {text}", tokenizer)) == 1:
            return f" Most words begin with a space: {' ' + text!r} is one token."
    return " Most words begin with a space."


def _is_word_level(word: str, tokenizer: Any) -> bool:
    """Return whether the tokenizer knows whole words: a word reads alike with and without a space, and only so."""
    with suppress(InputError):  # a word that it cannot read
        alone, spaced = text_ids([word, f" {word}"], tokenizer)
        return alone == spaced and not any(_inside(word, tokenizer)) and bool(tokenizer.decode(alone).strip())
    return False


def _inside(word: str, tokenizer: Any) -> Iterator[list[int]]:
    """Yield the ids of a word after each character that the tokenizer reads and does not join with it."""
    for before in _BEFORE:
        with suppress(InputError):
            if text_ids([before], tokenizer)[0]:  # else the word would be the start of a document
                yield _after(before, word, tokenizer)


def _text_of(ids: list[int], tokenizer: Any) -> str | None:
    """Return the text whose ids these are, behind special tokens; None if there is none."""
    special = set(tokenizer.all_special_ids)
    start = next((place for place, index in enumerate(ids) if index not in special), len(ids))
    text = tokenizer.decode(ids[start:], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    with suppress(InputError):
        if text_ids([text], tokenizer)[0] == ids[start:]:
            return str(text)
    return None


def _end(text: str) -> str:
    """Return the last words of a text, to be shown."""
    return text if len(text) <= 40 else "…" + text[-40:]
