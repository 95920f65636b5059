"""Find what to put before a text so that a tokenizer reads it as it would inside a longer one.

A tokenizer of SentencePiece's kind puts a space before a text: asked for "ing", it answers for " ing", and no token
that continues a word would ever be canonical.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from interp.errors import InputError
from interp.tokenization.asking import text_ids
from interp.tokenization.vocabulary import Vocabulary

# Characters that few tokens hold come first: an anchor must not be joined with what follows.
_CHARACTERS = ("\x01", "\n", "\\", "(", '"', ",", "|", "Q", "7", "a")
_WORDS = 64


def find_anchor(tokenizer: Any, vocabulary: Vocabulary) -> tuple[str, list[int]]:
    """Return a text to put before others and its ids; "" and [] for a tokenizer that adds no space to a text."""
    best: tuple[int, str, list[int]] | None = None
    for text in (*_CHARACTERS, *islice(_words(vocabulary), _WORDS)):
        try:
            ids = text_ids([text], tokenizer)[0]
            spelt = vocabulary.join(ids)
        except InputError:  # it knows no such character, or drops it
            continue
        if spelt == text.encode():
            return "", []
        if spelt != b" " + text.encode():
            continue
        longer = sum(text.encode() in one and one.strip() != text.encode() for one in vocabulary.spelt if one)
        if best is None or longer < best[0]:
            best = longer, text, ids
        if not longer:
            break
    return ("", []) if best is None else best[1:]


def _words(vocabulary: Vocabulary) -> Iterator[str]:
    """Yield words of the vocabulary, for a tokenizer that reads whole words only."""
    for index in vocabulary.order.tolist():
        text = (vocabulary.spelt[index] or b"").decode(errors="ignore").strip()
        if text:
            yield text
