"""The merges of byte-pair encoding: would they join two tokens that stand side by side in a word?

Merges make each token from its characters, and what stands at its two ends on the way stands there for a time: from the
merge that makes it to the one that takes it in. Two tokens stay apart if no merge of what stands last in the one with
what stands first in the other comes in the time of both. That is read off two short lists, without encoding anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

NEVER = np.iinfo(np.int64).max
"""The rank of a merge that there is not."""
_PLAIN = {"dropout": None, "continuing_subword_prefix": "", "end_of_word_suffix": "", "ignore_merges": False}


class End(NamedTuple):
    """A token that stands at an end of another while merges make that one.

    A merge of a low rank may become possible late, so a time is the highest rank of all merges up to then.

    Attributes:
        token: its id.
        since: the time of the merge that makes it; -1 for a character.
        rank: of the merge that takes it in; `NEVER` for the whole token.
        until: the time of that merge.
    """

    token: int
    since: int
    rank: int = NEVER
    until: int = NEVER


class Merges:
    """The merges of a tokenizer.

    Args:
        vocab: the id of each token's string.
        pairs: the strings that each merge joins, in the order of their ranks.

    >>> merges = Merges({"a": 0, "b": 1, "ab": 2}, [("a", "b")])
    >>> first, last = merges.ends("ab")
    >>> [end.token for end in first], [end.token for end in last], merges.ends("ba") is None
    ([0, 2], [1, 2], True)
    """

    def __init__(self, vocab: dict[str, int], pairs: Sequence[Sequence[str]]) -> None:
        self._vocab = vocab
        self._made: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, (left, right) in enumerate(pairs):  # of a pair that stands there twice, the last rank counts
            self._made[vocab[left], vocab[right]] = rank, vocab[left + right]
        table = np.array([(*pair, rank) for pair, (rank, _) in self._made.items()], dtype=np.int64).reshape(-1, 3)
        self._left, self._right, self._rank = table[np.argsort(table[:, 0], kind="stable")].T
        self._ranks = np.full(1 + max(vocab.values(), default=0), NEVER)

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> Merges | None:
        """Return the merges of the model in a tokenizer's file; None if it is not plain byte-pair encoding."""
        if model["type"] != "BPE" or any((model[name] or blank) != blank for name, blank in _PLAIN.items()):
            return None
        return cls(model["vocab"], [one.split(" ") if isinstance(one, str) else one for one in model["merges"]])

    def ends(self, string: str) -> tuple[list[End], list[End]] | None:
        """Return what stands first in a token while merges make it, and what stands last; the token itself at the end.

        None if merges do not make it from its characters.

        Args:
            string: the token's, as the vocabulary has it.
        """
        parts = [self._vocab.get(character, -1) for character in string]
        sides: tuple[list[End], list[End]] = [], []
        since, time = [-1, -1], -1
        while len(parts) > 1:
            found = [self._made.get(pair, (NEVER, -1)) for pair in pairwise(parts)]
            rank = min(found)[0]
            if rank == NEVER:
                return None
            at = next(at for at, one in enumerate(found) if one[0] == rank)  # of equal ranks the left one
            time = max(time, rank)
            for side, is_there, token in ((0, at == 0, parts[0]), (1, at == len(parts) - 2, parts[-1])):
                if is_there:
                    sides[side].append(End(token, since[side], rank, time))
                    since[side] = time
            parts[at : at + 2] = [found[at][1]]
        if not parts or parts[0] != self._vocab.get(string):
            return None
        for ends, begun in zip(sides, since, strict=True):
            ends.append(End(parts[0], begun))
        return sides

    def joined(self, last: Sequence[End], first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell which tokens are surely joined with a token before them, and which may be, both bool [n].

        Args:
            last: what stands last in the token before.
            first: what stands first in each of the others, the fields of `End`, -1 where there is none, int64
                [n, n_ends, 4].
        """
        surely = np.zeros(len(first), dtype=bool)
        perhaps = surely.copy()
        tokens, since, rank, until = np.moveaxis(first, -1, 0)
        for one in last:
            some = slice(*np.searchsorted(self._left, [one.token, one.token + 1]))
            self._ranks[self._right[some]] = self._rank[some]
            here = np.where(tokens < 0, NEVER, self._ranks[tokens])
            self._ranks[self._right[some]] = NEVER
            # Surely: both ends stand there at its time, and neither is taken in before. Of equal ranks the left one
            # comes first: a merge inside the one token, this one, one inside the other.
            sure = (here < one.rank) & (here <= rank) & (here >= one.since) & (here >= since)
            surely |= (sure & (here < NEVER)).any(axis=1)
            perhaps |= ((here <= one.until) & (here <= until) & (here < NEVER)).any(axis=1)
        return surely, perhaps
