"""The strings of a vocabulary's tokens as they appear inside a text, made for those that are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

_AT_ONCE = 64  # ids read at a time in search of a plain letter or word; among a vocabulary's first there mostly is one


class TokenStrings:
    """The string of every token as it appears inside a text: leading spaces kept, `<id>` without a string.

    Several ids can share a string (pieces of multi-byte characters all read '�'): only ids are unique. A frame shows a
    few of the ids of a vocabulary, whose strings together take a second or more: a string is made when it is asked for.
    It is read as an array object [d_vocab].

    Args:
        tokenizer: a Hugging Face tokenizer, or None.
        d_vocab: number of ids.
    """

    def __init__(self, tokenizer: Any, d_vocab: int) -> None:
        self._tokenizer = tokenizer
        self._ids = np.arange(d_vocab)
        self._strings = np.full(d_vocab, "", dtype=object)
        self._made = np.zeros(d_vocab, dtype=bool)

    def __getitem__(self, chosen: Any) -> Any:
        """Return the strings that an array object [d_vocab] would: of an id, ids in any shape, a slice or a mask."""
        missing = np.unique(self._ids[chosen])
        missing = missing[~self._made[missing]]
        if len(missing):
            self._strings[missing], self._made[missing] = self._read(missing), True
        return self._strings[chosen]

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all strings, object [d_vocab]."""
        return np.array(self[:], dtype=dtype or object)

    def tolist(self) -> list[str]:
        """Return all strings."""
        strings: list[str] = self[:].tolist()
        return strings

    def _read(self, ids: np.ndarray) -> list[str]:
        strings = {int(index): f"<{index}>" for index in ids}
        known = [index for index in strings if self._tokenizer is not None and self._known[index]]
        if known:
            # Decoded alone, a SentencePiece token loses its leading space; decoded after a plain word it keeps it.
            id_before, before = self._plain
            texts = self._decoded([[*id_before, index] for index in known])
            strings |= dict(zip(known, (text.removeprefix(before) for text in texts), strict=True))
        return list(strings.values())

    def _decoded(self, ids: list[list[int]]) -> list[str]:
        keep: dict[str, Any] = {"clean_up_tokenization_spaces": False, "skip_special_tokens": False}
        texts: list[str] = self._tokenizer.batch_decode(ids, **keep)
        return texts

    @cached_property
    def _known(self) -> np.ndarray:
        """The ids of which the tokenizer has a token, bool [d_vocab]."""
        known = np.zeros(len(self), dtype=bool)
        known[[index for index in self._tokenizer.get_vocab().values() if index < len(known)]] = True
        return known

    @cached_property
    def _plain(self) -> tuple[list[int], str]:
        """The first token that is a plain letter or word, [id], and its string; [] and "" if there is none."""
        known = np.flatnonzero(self._known)
        for start in range(0, len(known), _AT_ONCE):
            ids = known[start : start + _AT_ONCE].tolist()
            for index, text in zip(ids, self._decoded([[one] for one in ids]), strict=True):
                if text.isascii() and text.isalnum():
                    return [index], text
        return [], ""
