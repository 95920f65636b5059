"""Choose the occurrences of tokens that a bank keeps: each context once, and few of each token."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Occurrences:
    """Places in texts, in the order of texts and positions.

    Attributes:
        text: index of the text, int64 [n].
        pos: position in it, int64 [n].
        token_id: the token there, int64 [n].
        key: hash of all tokens up to and with it, and of the seed, int64 [n]; equal contexts have equal keys.
    """

    text: np.ndarray
    pos: np.ndarray
    token_id: np.ndarray
    key: np.ndarray

    def __len__(self) -> int:
        return len(self.key)

    def at(self, index: np.ndarray) -> Occurrences:
        """Return some of them."""
        return Occurrences(self.text[index], self.pos[index], self.token_id[index], self.key[index])

    def few(self, max_per_token: int) -> np.ndarray:
        """Return the indices, ascending, of one occurrence of every context and at most so many of every token.

        Those of a token with the smallest keys stay, which is a random choice that depends on contexts and the seed
        only: neither on the order of texts nor, if it is made again of the choices of several banks, on their division.
        """
        once = np.unique(self.key, return_index=True)[1]
        order = once[np.lexsort((self.key[once], self.token_id[once]))]
        token = self.token_id[order]
        first = np.flatnonzero(np.r_[True, token[1:] != token[:-1]])
        place = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)]))
        return np.sort(order[place < max_per_token])


def occurrences(texts: Sequence[Tensor], *, skip: int, seed: int) -> Occurrences:
    """Return every place from position `skip` on, of texts as token ids."""
    salt = hashlib.blake2b(str(seed).encode(), digest_size=hashlib.blake2b.SALT_SIZE).digest()
    digests: list[bytes] = []
    for ids in texts:
        hashing = hashlib.blake2b(digest_size=8, salt=salt)
        for pos, one in enumerate(ids.numpy().astype("<i8")):
            hashing.update(one.tobytes())
            if pos >= skip:
                digests.append(hashing.digest())
    lengths = [max(len(ids) - skip, 0) for ids in texts]
    return Occurrences(
        np.repeat(np.arange(len(texts)), lengths),
        np.concatenate([np.arange(skip, skip + n) for n in lengths] or [np.arange(0)]),
        np.concatenate([ids[skip:].numpy() for ids in texts] or [np.arange(0)]).astype(np.int64),
        np.frombuffer(b"".join(digests), dtype="<i8"),
    )


def next_ids(places: Occurrences, texts: Sequence[Tensor]) -> np.ndarray:
    """Return the token after each place, int64 [n]; -1 at the end of a text."""
    lengths = np.array([len(ids) for ids in texts])
    flat, starts = np.concatenate([ids.numpy() for ids in texts]), np.cumsum(lengths) - lengths
    inside = places.pos + 1 < lengths[places.text]
    after = starts[places.text] + np.where(inside, places.pos + 1, 0)
    following: np.ndarray = np.where(inside, flat[after], -1).astype(np.int64)
    return following
