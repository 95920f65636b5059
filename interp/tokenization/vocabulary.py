"""The tokens of a vocabulary in the order of their bytes, where those that begin alike stand together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from interp.errors import InputError

_KEY = 3  # bytes by which the longest token that may stand at a place is looked up


class Vocabulary:
    """The bytes of tokens, and look-ups among them.

    Attributes:
        spelt: the bytes of each id; None for one that stands for no text.
        order: ids that have bytes, in the order of their bytes, int64 [n].
        longest: the most bytes of a token.

    Args:
        spelt: see `token_bytes`.

    Raises:
        InputError: no token has bytes.
    """

    def __init__(self, spelt: Sequence[bytes | None]) -> None:
        self.spelt = list(spelt)
        pairs = sorted((one, index) for index, one in enumerate(self.spelt) if one)
        if not pairs:
            raise InputError(f"none of {len(self.spelt)} tokens has bytes; give those of a tokenizer's text.")
        self._sorted = [one for one, _ in pairs]
        self.order = np.array([index for _, index in pairs], dtype=np.int64)
        self.longest = max(map(len, self._sorted))

    def starts(self, prefix: bytes) -> np.ndarray:
        """Return the ids of tokens whose bytes begin with a prefix, in the order of their bytes, int64 [n].

        >>> Vocabulary([b"a", b"ab", b"b", None, b"abc"]).starts(b"ab").tolist()
        [1, 4]
        """
        return self.order[slice(*self.range(prefix))]

    def range(self, prefix: bytes) -> tuple[int, int]:
        """Return the places in `order` of tokens whose bytes begin with a prefix: the first, and one past the last."""
        low = bisect_left(self._sorted, prefix)
        above = prefix.rstrip(b"\xff")  # the next prefix in order: its last byte one higher, without bytes at the top
        if not above:
            return low, len(self._sorted)
        return low, bisect_left(self._sorted, above[:-1] + bytes([above[-1] + 1]), lo=low)

    def exactly(self, whole: bytes) -> list[int]:
        """Return the ids of tokens that have exactly these bytes."""
        return self._by_bytes.get(whole, [])

    def at(self, text: bytes, place: int) -> Iterator[tuple[int, list[int]]]:
        """Yield where tokens end that a text holds at a place, and the ids of each, the longest first.

        >>> list(Vocabulary([b"a", b"ab", b"b", b"a"]).at(b"cab", 1))
        [(3, [1]), (2, [0, 3])]
        """
        longest = self._longest.get(text[place : place + _KEY], _KEY - 1)
        for stop in range(min(len(text), place + longest), place, -1):
            if ids := self._by_bytes.get(text[place:stop]):
                yield stop, ids

    def join(self, ids: Sequence[int]) -> bytes:
        """Return the bytes of a token sequence.

        Raises:
            InputError: an id is not in the vocabulary, or stands for no text.
        """
        for index in ids:
            if not 0 <= index < len(self.spelt) or self.spelt[index] is None:
                raise InputError(f"id {index} stands for no text; give ids of tokens that have bytes.")
        return b"".join(self.spelt[index] or b"" for index in ids)

    def byte_at(self, ids: np.ndarray, place: int) -> np.ndarray:
        """Return the byte at a place of each token, int64 [n]; -1 where it ends before or has no bytes."""
        flat, starts, lengths = self._flat
        inside = lengths[ids] > place
        found = np.full(len(ids), -1, dtype=np.int64)
        found[inside] = flat[starts[ids[inside]] + place]
        return found

    @property
    def lengths(self) -> np.ndarray:
        """Bytes of each id, int64 [d_vocab]; 0 for one that stands for no text."""
        return self._flat[2]

    @cached_property
    def _flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All bytes behind one another, uint8; where each id's begin; and how many there are."""
        whole = [one or b"" for one in self.spelt]
        lengths = np.array([len(one) for one in whole], dtype=np.int64)
        return np.frombuffer(b"".join(whole), dtype=np.uint8), np.cumsum(lengths) - lengths, lengths

    @cached_property
    def _longest(self) -> dict[bytes, int]:
        """The most bytes of a token by its first ones, of those that have so many."""
        found: dict[bytes, int] = {}
        for one in self._sorted:
            if len(one) >= _KEY:
                found[one[:_KEY]] = max(len(one), found.get(one[:_KEY], 0))
        return found

    @cached_property
    def _by_bytes(self) -> dict[bytes, list[int]]:
        found: dict[bytes, list[int]] = {}
        for one, index in zip(self._sorted, self.order.tolist(), strict=True):
            found.setdefault(one, []).append(index)
        return found
