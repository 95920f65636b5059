"""Predict what comes next after a text that may end inside a token (Phan et al., arXiv 2410.09303).

A cover of a text is a canonical token sequence whose bytes begin with the text and of which only the last token reaches
or passes its end. The probability of a text is the sum over its covers; that of each next byte likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from interp.tokenization import Lattice
from probes.tokenization._contexts import Answer, Context, Contexts
from probes.tokenization._prompts import Prompt

N_OUTCOMES = 257
END_OF_TEXT = 256
"""The outcome that no byte follows: the end-of-text token, or another that spells no text."""
_ALL, _REST = 256, 1e-6
"""Up to so many tokens all are asked for whether they may follow; of more, those that hold all but this share."""


@dataclass(frozen=True)
class Distribution:
    """Probabilities of what comes next after a text.

    Attributes:
        prob: float64 [257]: of each next byte and, last, of the text's end.
        lost: the share of continuations that are not canonical, which is left out; 0 for methods that know none.
        noncanonical: their share after the text's own encoding.
        n_covers: how many token sequences were counted.
        share_canonical: the share of the text's probability that its own encoding holds.
    """

    prob: np.ndarray
    lost: float = 0.0
    noncanonical: float = 0.0
    n_covers: int = 1
    share_canonical: float = 1.0


class Cut:
    """A prompt that ends at a byte place, and the distributions of what comes next.

    Create it with the contexts that will be read; the distributions are there when they were.
    """

    def __init__(self, lattice: Lattice, prompt: Prompt, place: int, contexts: Contexts) -> None:
        self.prompt, self.place = prompt, place
        self._lattice, self._contexts = lattice, contexts
        self._first = first_bytes(lattice)
        text = prompt.text[: place + prompt.added]
        ends = lattice.prefixes(text)
        self.encoding, given = ends[0], prompt.given(ends[0])
        self.ends = [one for one in ends if one[: len(given)] == given]
        splits = list(splits_of(lattice, text, given))
        self._base = _shared([*self.ends, *(left for left, _, _ in splits)])
        self._steps: dict[Context, Answer[float]] = {}
        for left in {*self.ends, *(left for left, _, _ in splits)}:
            for n in range(len(self._base), len(left)):
                self._step(left[: n + 1])
        self._passing = [
            (left, contexts.ask(prompt.before + left, partial(_passing, lattice, left, ids, width)))
            for left, ids, width in splits
        ]
        self._after = {
            left: contexts.ask(prompt.before + left, partial(_after, lattice, left, self._first)) for left in self.ends
        }
        self._own = contexts.ask(prompt.before + self.encoding, partial(_by_first_byte, self._first))
        self._healing = None
        if len(self.encoding) > len(given):
            whole = lattice.vocabulary.spelt[self.encoding[-1]] or b""
            left = self.encoding[:-1]
            self._healing = contexts.ask(prompt.before + left, partial(_extending, lattice, whole))

    @property
    def at_boundary(self) -> bool:
        """True if the encoding of the prompt up to the cut is the beginning of that of the whole prompt."""
        return self.prompt.ids[: len(self.encoding)] == self.encoding

    def exact(self) -> Distribution:
        """Return what comes next by all covers, summed to 1."""
        prob, n_covers, lost = np.zeros(N_OUTCOMES), 0, 0.0
        for left, answer in self._passing:
            masses, n = answer.value
            prob[:END_OF_TEXT] += self._weight(left) * masses
            n_covers += n
        for left, after in self._after.items():
            masses, noncanonical = after.value
            prob += self._weight(left) * masses
            lost += self._weight(left) * noncanonical
            n_covers += 1
        total = prob.sum() + lost
        own = self._weight(self.encoding) / total
        noncanonical = self._after[self.encoding].value[1]
        # Sums in another order: shares can pass their bounds by a rounding.
        return Distribution(prob / prob.sum(), max(0.0, lost / total), max(0.0, noncanonical), n_covers, min(1.0, own))

    def log_prob_of_text(self) -> float:
        """Return the logarithm of the text's probability behind what all its covers share, nats."""
        passing = sum(self._weight(left) * answer.value[0].sum() for left, answer in self._passing)
        return float(np.log(passing + sum(map(self._weight, self.ends))))

    def naive(self) -> Distribution:
        """Return what comes next after the text's own encoding, as is usually computed."""
        return Distribution(self._own.value)

    def healed(self) -> Distribution | None:
        """Return what comes next if the last token is taken back, and only tokens that begin with it may follow.

        None if nothing precedes that token.
        """
        if self._healing is None:
            return None
        longer, same = self._healing.value
        prob = np.append(longer, 0.0) + same * self._own.value
        return Distribution(prob / prob.sum())

    def aligned(self) -> Distribution | None:
        """Return what comes next if the last word is taken back, and only tokens that agree with it may follow.

        Each step is renormalised over tokens with which a canonical way to write the text goes on. So these ways are
        not weighed by how probable they are, which is all that distinguishes it from `exact`. None if nothing precedes.
        """
        start = len(self.encoding) - self._lattice.n_in_last_word(self.encoding)
        if not self.prompt.before and start < 1:
            return None
        first = self.encoding[: max(start, len(self._base))]
        passing = {left: answer.value[0] for left, answer in self._passing}
        nodes = {left[:n] for left in {*passing, *self.ends} for n in range(len(first), len(left) + 1)}
        nodes = {left for left in nodes if left[: len(first)] == first}
        reached = dict.fromkeys(nodes, 0.0) | {first: 1.0}
        prob = np.zeros(N_OUTCOMES)
        for left in sorted(nodes, key=len):
            longer = {one: float(np.exp(self._steps[one].value)) for one in nodes - {first} if one[:-1] == left}
            ending = self._after[left].value[0] if left in self._after else np.zeros(N_OUTCOMES)
            masses = passing.get(left, np.zeros(END_OF_TEXT))
            total = masses.sum() + ending.sum() + sum(longer.values())
            if total > 0:
                prob += reached[left] / total * (np.append(masses, 0.0) + ending)
                for one, mass in longer.items():
                    reached[one] += reached[left] * mass / total
        return Distribution(prob / prob.sum())

    def _step(self, left: Context) -> None:
        if left not in self._steps:
            context, last = self.prompt.before + left[:-1], left[-1]
            self._steps[left] = self._contexts.ask(context, lambda row: float(row[last]))

    def _weight(self, left: Context) -> float:
        """Return the probability of a sequence behind what all share."""
        steps = (self._steps[left[: n + 1]].value for n in range(len(self._base), len(left)))
        return float(np.exp(sum(steps)))


def splits_of(lattice: Lattice, text: bytes, given: Context):  # type: ignore[no-untyped-def]
    """Yield canonical beginnings of a text, the tokens that may pass its end behind each, and the bytes in between."""
    vocabulary = lattice.vocabulary
    first = max(len(vocabulary.join(given)), len(text) - vocabulary.longest)
    for place in range(first, len(text)):
        ids = vocabulary.starts(text[place:])
        if not len(ids):
            continue
        for left in lattice.prefixes(text[:place]):
            if left[: len(given)] == given and (len(ids) > _ALL or lattice.follow(left, ids).any()):
                yield left, ids, len(text) - place


def first_bytes(lattice: Lattice) -> np.ndarray:
    """Return the first byte of every id, int64 [d_vocab]; -1 for those that spell no text."""
    return lattice.vocabulary.byte_at(np.arange(len(lattice.vocabulary.spelt)), 0)


def allowed(lattice: Lattice, left: Context, ids: np.ndarray, prob: np.ndarray) -> np.ndarray:
    """Tell which tokens may follow, bool [n]; of very many, those that hold nearly no probability are not asked for."""
    if len(ids) <= _ALL:
        return lattice.follow(left, ids)
    order = np.argsort(-prob)
    n = int(np.searchsorted(np.cumsum(prob[order]), (1 - _REST) * prob.sum())) + 1
    kept = np.ones(len(ids), dtype=bool)
    kept[order[:n]] = lattice.follow(left, ids[order[:n]])
    return kept


def _passing(lattice: Lattice, left: Context, ids: np.ndarray, width: int, row: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the probability by next byte of tokens that pass the end of the text, and their number."""
    nexts = lattice.vocabulary.byte_at(ids, width)
    ids, nexts = ids[nexts >= 0], nexts[nexts >= 0]
    prob = np.exp(row[ids])
    kept = allowed(lattice, left, ids, prob)
    return np.bincount(nexts[kept], prob[kept], minlength=END_OF_TEXT), int(kept.sum())


def _after(lattice: Lattice, left: Context, first: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the probability of each outcome after an encoding of the text, and of what is not canonical."""
    ids = lattice.vocabulary.order
    prob = np.exp(row[ids])
    kept = allowed(lattice, left, ids, prob)
    by_byte = np.bincount(first[ids[kept]], prob[kept], minlength=END_OF_TEXT)
    return np.append(by_byte, np.exp(row[first < 0]).sum()), float(prob[~kept].sum())


def _by_first_byte(first: np.ndarray, row: np.ndarray) -> np.ndarray:
    prob = np.exp(row)
    by_byte = np.bincount(first[first >= 0], prob[first >= 0], minlength=END_OF_TEXT)
    return np.append(by_byte, prob[first < 0].sum())


def _extending(lattice: Lattice, whole: bytes, row: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the probability by next byte of tokens that begin with a token and are longer, and of its own bytes."""
    ids = lattice.starts(whole)
    nexts, prob = lattice.vocabulary.byte_at(ids, len(whole)), np.exp(row[ids])
    longer = nexts >= 0
    return np.bincount(nexts[longer], prob[longer], minlength=END_OF_TEXT), float(prob[~longer].sum())


def _shared(several: list[Context]) -> Context:
    """Return the ids with which all begin."""
    least, most = min(several), max(several)
    n = next((at for at, pair in enumerate(zip(least, most, strict=False)) if pair[0] != pair[1]), len(least))
    return least[: min(n, len(most))]
