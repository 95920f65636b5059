"""The same text in other tokens: sequences that spell what a tokenizer's own spell, and how the two lie on each other.

Two sequences are compared where both have a token's end, their common cuts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from interp.errors import UnknownName
from interp.tokenization.encodings import sample_encoding
from interp.tokenization.pieces import Pieces


@dataclass(frozen=True)
class Variant:
    """A text in other tokens, laid on the tokenizer's own.

    Attributes:
        ids: its tokens.
        ends: the byte place of the original text where each token ends, int64 [n]; -1 for one that ends inside a change
            of the text.
        scheme: what was done.
        same_bytes: whether it spells the same text.
    """

    ids: tuple[int, ...]
    ends: np.ndarray
    scheme: str
    same_bytes: bool = True

    @property
    def spans(self) -> np.ndarray:
        """The first byte of the original that each token covers, and one past its last, int64 [n, 2]."""
        return np.stack([np.concatenate([[0], self.ends[:-1]]), self.ends], axis=1)


def _split_one(pieces: Pieces, ids: Sequence[int], generator: np.random.Generator, p: float) -> list[int]:
    places = [at for at, index in enumerate(ids) if pieces.splits(index)]
    return _split(pieces, ids, int(generator.choice(places)), generator) if places else list(ids)


def _split_last(pieces: Pieces, ids: Sequence[int], generator: np.random.Generator, p: float) -> list[int]:
    places = [at for at, index in enumerate(ids) if pieces.splits(index)]
    return _split(pieces, ids, places[-1], generator) if places else list(ids)


def _stochastic(pieces: Pieces, ids: Sequence[int], generator: np.random.Generator, p: float) -> list[int]:
    found = list(ids)
    for _ in range(int(p * len(ids))):
        at = int(generator.integers(len(found)))
        if pieces.splits(found[at]):  # else the draw is wasted
            found = _split(pieces, found, at, generator)
    return found


def _bytes(pieces: Pieces, ids: Sequence[int], generator: np.random.Generator, p: float) -> list[int]:
    return [piece for index in ids for piece in pieces.finest(index)]


def _uniform(pieces: Pieces, ids: Sequence[int], generator: np.random.Generator, p: float) -> list[int]:
    vocabulary = pieces.lattice.vocabulary
    return sample_encoding(vocabulary, vocabulary.join(ids), generator)


Scheme = Callable[[Pieces, Sequence[int], np.random.Generator, float], list[int]]
SAME_BYTES: dict[str, Scheme] = {
    "split_one": _split_one,
    "split_last": _split_last,
    "stochastic": _stochastic,
    "bytes": _bytes,
    "uniform": _uniform,
}
"""Schemes that leave the text as it is: one token, drawn or the last that can be, becomes two (`split_one`,
`split_last`); StochasTok, which draws a share p of the tokens' number (`stochastic`); a token for each byte; and a draw
among all sequences that spell the text."""
FIXED = frozenset({"bytes"})
"""Schemes that give the same sequence at every draw."""


def recut(
    pieces: Pieces, ids: Sequence[int], scheme: str, generator: np.random.Generator, *, p: float = 0.1
) -> Variant:
    """Return the text of a token sequence in other tokens.

    Args:
        pieces: of the tokenizer.
        ids: tokens that have bytes.
        scheme: a name in `SAME_BYTES`.
        generator: of the draws.
        p: draws for each token, of "stochastic" alone.

    Raises:
        UnknownName: there is no such scheme.
        InputError: an id stands for no text.

    >>> from interp import load
    >>> from interp.tokenization import Lattice
    >>> lattice = Lattice(load("reference").tokenizer, 8192)
    >>> variant = recut(Pieces(lattice), lattice.read("Once upon"), "bytes", np.random.default_rng(0))
    >>> len(variant.ids), lattice.vocabulary.join(variant.ids), variant.ends.tolist()
    (9, b'Once upon', [1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    if scheme not in SAME_BYTES:
        raise UnknownName("scheme", scheme, SAME_BYTES)
    pieces.lattice.vocabulary.join(ids)  # refuses ids without bytes
    found = SAME_BYTES[scheme](pieces, ids, generator, p)
    return Variant(tuple(found), ends_of(pieces, found), scheme)


def ends_of(pieces: Pieces, ids: Sequence[int]) -> np.ndarray:
    """Return the byte place where each token of a sequence ends, int64 [n]."""
    return np.cumsum(pieces.lattice.vocabulary.lengths[list(ids)])


def common_cuts(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of two sequences that end at the same place, as indices in each, int64 [n] both.

    >>> common_cuts(np.array([2, 5, 9]), np.array([1, 2, -1, 9]))
    (array([0, 2]), array([1, 3]))
    """
    _, first, second = np.intersect1d(one, np.where(other < 0, -2, other), return_indices=True)
    return first, second


def changed(ids: Sequence[int], ends: np.ndarray, variant: Variant) -> np.ndarray:
    """Return which tokens of the original a variant does not have at the same place, as indices, int64 [n]."""
    kept = {(*span, index) for span, index in zip(variant.spans.tolist(), variant.ids, strict=True)}
    starts = np.concatenate([[0], ends[:-1]]).tolist()
    own = zip(starts, ends.tolist(), ids, strict=True)
    return np.array([at for at, one in enumerate(own) if one not in kept], dtype=np.int64)


def replaced(
    pieces: Pieces,
    ids: Sequence[int],
    places: Sequence[int],
    generator: np.random.Generator,
    allowed: np.ndarray | None = None,
) -> tuple[int, ...]:
    """Return a sequence with other tokens at some places, each drawn among all that have bytes: a control of cuts.

    With `allowed`, bool [d_vocab], other tokens are not drawn.
    """
    found, pool = list(ids), np.asarray(pieces.lattice.vocabulary.order)
    pool = pool if allowed is None else pool[allowed[pool]]
    for at in places:
        while found[at] == ids[at] and len(pool) > 1:
            found[at] = int(generator.choice(pool))
    return tuple(found)


def _split(pieces: Pieces, ids: Sequence[int], at: int, generator: np.random.Generator) -> list[int]:
    pairs = pieces.splits(ids[at])
    return [*ids[:at], *pairs[int(generator.integers(len(pairs)))], *ids[at + 1 :]]
