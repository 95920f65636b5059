"""The tokens that spell the parts of another token."""

from __future__ import annotations

from interp.errors import InputError
from interp.tokenization.lattice import Lattice


class Pieces:
    """Tokens by their bytes, one for each string of bytes: the one that the tokenizer writes, where several have it.

    Args:
        lattice: of the tokenizer.
    """

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice
        self._of: dict[bytes, int | None] = {}
        self._splits: dict[int, list[tuple[int, int]]] = {}
        self._finest: dict[int, tuple[int, ...]] = {}

    def of(self, whole: bytes) -> int | None:
        """Return the token of some bytes; None if there is none."""
        if whole not in self._of:
            ids = self.lattice.vocabulary.exactly(whole)
            self._of[whole] = self._own(whole, ids) if len(ids) > 1 else next(iter(ids), None)
        return self._of[whole]

    def splits(self, index: int) -> list[tuple[int, int]]:
        """Return the pairs of tokens that spell a token, the shortest first piece first.

        >>> from interp import load
        >>> lattice = Lattice(load("reference").tokenizer, 8192)
        >>> pairs = Pieces(lattice).splits(*lattice.read(" upon"))
        >>> [tuple(lattice.vocabulary.join([one]).decode() for one in pair) for pair in pairs]
        [(' ', 'upon'), (' u', 'pon'), (' up', 'on')]
        """
        if index not in self._splits:
            whole = self.lattice.vocabulary.join([index])
            pairs = [(self.of(whole[:n]), self.of(whole[n:])) for n in range(1, len(whole))]
            self._splits[index] = [(one, two) for one, two in pairs if one is not None and two is not None]
        return self._splits[index]

    def finest(self, index: int) -> tuple[int, ...]:
        """Return the most tokens that spell a token: its single bytes, where they all have tokens."""
        if index not in self._finest:
            whole = self.lattice.vocabulary.join([index])
            best: list[tuple[int, ...] | None] = [()]  # of each beginning, the most tokens
            for stop in range(1, len(whole) + 1):
                ways = [
                    (*left, piece)
                    for start, left in enumerate(best)
                    if left is not None and (piece := self.of(whole[start:stop])) is not None
                ]
                best.append(max(ways, key=len, default=None))
            self._finest[index] = best[-1] or (index,)
        return self._finest[index]

    def _own(self, whole: bytes, ids: list[int]) -> int:
        try:
            written = self.lattice.encode(whole)
        except InputError:  # a part of a character
            return ids[-1]
        return written[0] if len(written) == 1 else ids[-1]
