"""Alphabets, the tokens that are words of them, and special tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from interp.authoring import InputError, Subject, UnknownName
from interp.tokenization.scripts import SCRIPTS

if TYPE_CHECKING:
    import regex

Letters: TypeAlias = str | Sequence[str]
"""The name of an alphabet, "ascii" or a Unicode script such as "Cyrillic", or a list of letters of one alphabet."""

_ASCII = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Alphabet:
    """Letters and the words made of them.

    Attributes:
        letters: the letters to ask about; None for every letter that occurs in enough tokens.
        word: the pattern of a whole word.
    """

    letters: tuple[str, ...] | None
    word: re.Pattern[str] | regex.Pattern[str]


def alphabet(letters: Letters) -> Alphabet:
    """Return the alphabet that `letters` names or belongs to.

    Raises:
        InputError: there is no such script, or the letters are of several alphabets.

    >>> bool(alphabet("Greek").word.fullmatch("λόγος")), bool(alphabet("ascii").word.fullmatch("don't"))
    (True, False)
    """
    if isinstance(letters, str):
        if letters == "ascii":
            return Alphabet(tuple(_ASCII), re.compile("[A-Za-z]+"))
        return Alphabet(None, _word_of_script(letters))
    given = tuple(dict.fromkeys(letters))
    if not given or not all(isinstance(letter, str) and len(letter) == 1 for letter in given):
        raise InputError(
            f"letters={letters!r}: give 'ascii', a script such as 'Cyrillic', or a list of single letters."
        )
    if all(letter.isascii() and letter.isalpha() for letter in given):
        return Alphabet(given, re.compile("[A-Za-z]+"))
    for script in SCRIPTS:
        word = _word_of_script(script)
        if all(word.fullmatch(letter) for letter in given):
            return Alphabet(given, word)
    raise InputError(f"the letters {list(given)} are not of one script; ask about one script at a time.")


def _word_of_script(script: str) -> regex.Pattern[str]:
    import regex  # slow to import

    try:
        # Script extensions add the marks that several scripts share; the general categories leave out punctuation.
        return regex.compile(rf"[\p{{Script_Extensions={script}}}&&[\p{{L}}\p{{M}}]]+", regex.VERSION1)
    except regex.error:
        raise UnknownName("script", script, ("ascii", *SCRIPTS), "To name letters, pass them as a list.") from None


def word_in(text: str, word: re.Pattern[str] | regex.Pattern[str]) -> str | None:
    """Return the word a token consists of, without one space before or behind; None if it is anything else.

    >>> pattern = alphabet("ascii").word
    >>> [word_in(text, pattern) for text in (" the", "the ", "3D", " don't", " ")]
    ['the', 'the', None, None, None]
    """
    bare = unicodedata.normalize("NFC", text.removeprefix(" ").removesuffix(" "))
    return bare if word.fullmatch(bare) else None


def kinds_of_tokens(subject: Subject, word: re.Pattern[str] | regex.Pattern[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the kind of each row of the vocabulary, and its word.

    Returns:
        kind, object [d_vocab]: "word"; "single_letter"; "other", a string that is not a word of the alphabet;
        "special"; "unused", a row for which the tokenizer has no token. And the word, object [d_vocab], "" if none.

    Raises:
        InputError: the model came without a tokenizer.
    """
    tokenizer = subject.tokenizer
    if tokenizer is None:
        raise InputError(f"{subject.name!r} came without a tokenizer: its tokens have no letters; pass tokenizer=.")
    special = special_ids(tokenizer)
    known = set(tokenizer.get_vocab().values())
    kind = np.full(subject.d_vocab, "unused", dtype=object)
    words = np.full(subject.d_vocab, "", dtype=object)
    for index, text in enumerate(subject.token_strings):
        if index in special:
            kind[index] = "special"
        elif index in known:
            found = word_in(text, word)
            words[index] = found or ""
            kind[index] = "other" if found is None else "word" if len(found) > 1 else "single_letter"
    return kind, words


def special_ids(tokenizer: Any) -> set[int]:
    """Return the ids of tokens that are not text: start, end, padding and all others that the tokenizer marks so."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return set(tokenizer.all_special_ids) | {index for index, token in added.items() if token.special}
