"""A tokenizer's tokens over bytes: which sequences it would write, and which tokens may follow them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from interp.errors import InputError, shown
from interp.tokenization.anchor import find_anchor
from interp.tokenization.asking import many_ids, text_ids
from interp.tokenization.characters import completions, decoded, goes_on, letters_after_space, n_of_tail
from interp.tokenization.joins import NO, UNKNOWN, YES, Joins
from interp.tokenization.spelling import token_bytes
from interp.tokenization.vocabulary import Vocabulary

_MOST_MEMO = 1 << 28  # bytes of answers that are kept
_TRIALS = 1000
_MANY = 64  # unknown tokens that are worth reading the merges, once as many as the vocabulary has were asked for


class Lattice:
    """The tokens of a tokenizer over bytes.

    A token sequence is canonical if the tokenizer itself writes it: for its own text, or as the beginning of a longer
    one. The second differs where a tokenizer looks ahead (after two line breaks GPT-2's waits for a letter), and where
    the text ends inside a character. So every beginning of a canonical sequence is canonical.

    Attributes:
        vocabulary: the bytes of the tokens.
        by_pairs: whether the last token before a place decides what may follow, which was tested; else the last two
            words do.

    Args:
        tokenizer: a Hugging Face tokenizer.
        d_vocab: number of ids.

    >>> from interp import load
    >>> lattice = Lattice(load("reference").tokenizer, 8192)
    >>> ids = lattice.read("Once upon a time")
    >>> lattice.canonical(ids), lattice.canonical(lattice.starts(b"O")[:1].tolist() + lattice.read("nce"))
    (True, False)
    """

    def __init__(self, tokenizer: Any, d_vocab: int) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = Vocabulary(token_bytes(tokenizer, d_vocab))
        self._anchor, self._anchor_ids = find_anchor(tokenizer, self.vocabulary)
        self._strings = [decoded(one) for one in self.vocabulary.spelt]
        self._memo: dict[tuple[int, ...], np.ndarray] = {}
        self._n_asked = 0
        self._tails: dict[bytes, list[bytes]] = {}
        self._after_space = letters_after_space(self.vocabulary.starts)
        core = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
        self.by_pairs = True
        # Words of the vocabulary that no merges make: the last token does not tell them from the merges' own.
        self.by_pairs = not getattr(core, "ignore_merges", False) and self._pairs_decide(_TRIALS)

    @cached_property
    def _joins(self) -> Joins | None:
        """Tell most pairs without asking; None where trials show that it does not."""
        found = Joins.of(self.tokenizer, self.vocabulary, self._anchor, self._encoded) if self.by_pairs else None
        return found if found is not None and found.agrees(self._written) else None

    @property
    def adds_space(self) -> bool:
        """True if the tokenizer puts a space before a text."""
        return bool(self._anchor)

    def read(self, text: str) -> list[int]:
        """Return the tokenizer's own ids of a text, which may begin with a space that it adds.

        Raises:
            InputError: the ids do not spell the text; the message names the first byte that is lost.
        """
        ids = text_ids([text], self.tokenizer)[0]
        n = next((at for at, index in enumerate(ids) if self._spelt([index]) is None), len(ids))
        name = self.tokenizer.convert_ids_to_tokens(ids[n]) if n < len(ids) else ""
        if name and name in text:
            raise InputError(f"text {shown(text)} holds {name!r}, which stands for no bytes; leave it out.")
        given, kept = text.encode(errors="surrogatepass"), self.vocabulary.join(ids[:n])
        if n == len(ids) and kept in (given, b" " + given):
            return ids
        if kept[:1] == b" " != given[:1]:
            kept = kept[1:]
        place = next((at for at, pair in enumerate(zip(given, kept, strict=False)) if pair[0] != pair[1]), len(kept))
        place = min(place, len(given) - 1)
        raise InputError(
            f"the model's tokenizer loses byte 0x{given[place]:02X} at place {place} of {shown(text)}; leave that "
            "character out."
        )

    def encode(self, text: bytes) -> list[int]:
        """Return the ids that the tokenizer gives to bytes inside a text.

        Raises:
            InputError: they are not UTF-8, or the ids do not spell them.
        """
        whole = decoded(text)
        if whole is None:
            raise InputError(f"{text[:60]!r} is not UTF-8, which a tokenizer reads; cut texts between characters.")
        found = self._encoded([whole])[0]
        if found is None or self._spelt(found) != text:
            self.read(whole)  # mostly says which byte is lost
            raise InputError(f"the model's tokenizer does not give {shown(whole)} back inside a text; leave it out.")
        return found

    def canonical(self, ids: Sequence[int]) -> bool:
        """Return whether the tokenizer itself writes these tokens inside a text.

        Raises:
            InputError: an id stands for no text.
        """
        return bool(self._written([(tuple(ids), self.vocabulary.join(ids))])[0])

    def noncanonical_pairs(self, ids: Sequence[int]) -> int:
        """Count the tokens of a sequence that the tokenizer would not write after the one before, alone.

        Tokens of white space, of digits and inside a character are asked for with what stands before them.
        """
        asked = []
        for n in range(1, len(ids)):
            start = self._start(ids[:n])
            asked.append((tuple(ids[start : n + 1]), self.vocabulary.join(ids[start : n + 1])))
        return int((~self._written(asked)).sum())

    def starts(self, prefix: bytes) -> np.ndarray:
        """Return the ids of tokens whose bytes begin with a prefix, in the order of their bytes, int64 [n]."""
        return self.vocabulary.starts(prefix)

    def prefixes(self, text: bytes) -> list[tuple[int, ...]]:
        """Return the canonical sequences that spell exactly these bytes: mostly one, its own encoding, first.

        There are more where the tokenizer looks ahead, or where the bytes end inside a character.
        """
        found: dict[tuple[int, ...], None] = {}
        for form in self._forms(text):
            ids = self._encoded([form.decode()])[0]
            if ids is None or any(self.vocabulary.spelt[index] is None for index in ids):
                continue
            stops = np.cumsum(self.vocabulary.lengths[ids])
            place = int(np.searchsorted(stops, len(text)))
            kept = tuple(ids[: place + 1]) if len(text) else ()
            if self._spelt(kept) == text:
                found[kept] = None
        return list(found)

    def follow(self, left: Sequence[int], candidates: np.ndarray) -> np.ndarray:
        """Tell which tokens may follow a canonical sequence so that it stays canonical, bool [n].

        Answers are kept, so that the next time costs one look-up in an array.

        Args:
            left: ids of a canonical sequence.
            candidates: ids that have bytes, int64 [n].
        """
        context = self._context(left)
        row = self._memo.get(context)
        if row is None:
            while self._memo and (len(self._memo) + 1) * len(self.vocabulary.spelt) > _MOST_MEMO:
                del self._memo[next(iter(self._memo))]
            row = self._memo[context] = np.zeros(len(self.vocabulary.spelt), dtype=np.uint8)
        unknown = candidates[row[candidates] == UNKNOWN]
        self._n_asked += len(unknown)
        is_worth_it = len(unknown) >= _MANY and self._n_asked > len(row)
        if is_worth_it and context and self._joins is not None:
            row[unknown] = self._joins.behind(context, unknown)
            unknown = unknown[row[unknown] == UNKNOWN]
        if len(unknown):
            head = self.vocabulary.join(context)
            asked = [((*context, index), head + (self.vocabulary.spelt[index] or b"")) for index in unknown.tolist()]
            row[unknown] = np.where(self._written(asked), YES, NO)
        return row[candidates] == YES

    def n_in_last_word(self, ids: Sequence[int]) -> int:
        """Return how many of these tokens stand in the last word, as the tokenizer divides texts before it cuts them.

        All of them, if it does not divide texts.

        Args:
            ids: an encoding of a text, see `encode`.
        """
        core = getattr(self.tokenizer, "backend_tokenizer", None)
        text = self._anchor + self.vocabulary.join(ids).decode(errors="ignore")
        words = core.encode(text, add_special_tokens=False).word_ids if core is not None else []
        words = words[len(self._anchor_ids) :][: len(ids)]
        return next((n for n, word in enumerate(reversed(words)) if word != words[-1]), len(ids))

    def _context(self, left: Sequence[int]) -> tuple[int, ...]:
        """Return the last tokens of a sequence, which decide what may follow it."""
        spelt = self.vocabulary.spelt
        start = max(0, len(left) - 1)
        if not self.by_pairs:  # back to where the last word but one begins
            begins = [at for at, index in enumerate(left) if (spelt[index] or b"")[:1].isspace()]
            start = begins[-2] if len(begins) > 1 else 0
        return tuple(left[self._start(left, start) :])

    def _start(self, left: Sequence[int], start: int = -1) -> int:
        """Return the token from which on a sequence can be asked for alone, at a place or before it."""
        start = max(0, len(left) - 1) if start < 0 else start
        # A tokenizer that looks ahead does so over white space and digits, and bytes inside a character are no text.
        while start > 0 and goes_on(self.vocabulary.spelt[left[start]] or b""):
            start -= 1
        return start

    def _written(self, asked: Sequence[tuple[tuple[int, ...], bytes]]) -> np.ndarray:
        """Tell of token sequences, each with its bytes, whether the tokenizer writes them, bool [n]."""
        forms = [(place, form) for place, (_, whole) in enumerate(asked) for form in self._forms(whole)]
        found = np.zeros(len(asked), dtype=bool)
        for (place, form), ids in zip(forms, self._encoded([form.decode() for _, form in forms]), strict=True):
            wanted, whole = asked[place]
            if ids is not None and tuple(ids[: len(wanted)]) == wanted:
                # The whole must survive: a tokenizer may drop what comes after, or before.
                found[place] |= (form is whole and len(ids) == len(wanted)) or self._spelt(ids) == form
        return found

    def _forms(self, text: bytes) -> list[bytes]:
        """Return texts that begin with these bytes, by which one sees whether the tokenizer would write them so."""
        if decoded(text) is None:
            n = n_of_tail(text)
            begun = n and decoded(text[:-n]) is not None
            return [text + rest for rest in self._completions(text[-n:])] if begun else []
        if text[-1:].isspace():
            return [text, *(text + one for one in self._after_space)]
        return [text, text + b"0", text + b"00"] if text[-1:].isdigit() else [text]

    def _completions(self, tail: bytes) -> list[bytes]:
        """Return a few of the ways to complete a character: one of each kind, by tokens and by letters."""
        if tail not in self._tails:
            kinds: dict[Any, bytes] = {}
            rests = completions(tail)
            characters = [(tail + rest).decode() for rest in rests]
            for rest, character, ids in zip(rests, characters, self._encoded(characters), strict=True):
                if ids is not None and self._spelt(ids) == character.encode():
                    lengths = tuple(self.vocabulary.lengths[ids].tolist())
                    kinds.setdefault((lengths, character.isalpha(), character.isnumeric()), rest)
            self._tails[tail] = list(kinds.values())
        return self._tails[tail]

    def _encoded(self, texts: Sequence[str]) -> list[list[int] | None]:
        """Return the ids of texts inside a text; None where the tokenizer joins them with what stands before."""
        n = len(self._anchor_ids)
        found = many_ids([self._anchor + text for text in texts], self.tokenizer)
        return [ids[n:] if ids is not None and ids[:n] == self._anchor_ids else None for ids in found]

    def _spelt(self, ids: Sequence[int]) -> bytes | None:
        parts = [self.vocabulary.spelt[index] if index < len(self.vocabulary.spelt) else None for index in ids]
        return None if None in parts else b"".join(part or b"" for part in parts)

    def _pairs_decide(self, n: int) -> bool:
        """Return whether the last token tells what may follow as the whole text does, by trials.

        Half of them are of random tokens, half of the pieces of a longer token, which may be joined again.
        """
        generator = np.random.default_rng(0)
        order = self.vocabulary.order
        trials = [[int(one) for one in generator.choice(order, 3)] for _ in range(n)]
        for index in generator.choice(order, n).tolist():
            trials.append(_in_three(self.vocabulary, index, generator))
        trials = [one for one in trials if len(one) == 3]
        texts = [self._strings_of(one[:2]) for one in trials]
        lefts = self._encoded(texts)
        kept = [
            (left, trial[2])
            for left, trial, text in zip(lefts, trials, texts, strict=True)
            if left and text and self._spelt(left) == text.encode()
        ]
        by_all = self._written([((*left, last), self.vocabulary.join([*left, last])) for left, last in kept])
        asked = [(*self._context(left), last) for left, last in kept]
        by_last = self._written([(ids, self.vocabulary.join(ids)) for ids in asked])
        return bool((by_all == by_last).all())

    def _strings_of(self, ids: Sequence[int]) -> str:
        return "".join(self._strings[index] or "" for index in ids)


def _in_three(vocabulary: Vocabulary, index: int, generator: np.random.Generator) -> list[int]:
    """Return three tokens that spell another; fewer if none were found."""
    whole = vocabulary.spelt[index] or b""
    if len(whole) < 3:
        return []
    first, second = sorted(generator.choice(np.arange(1, len(whole)), 2, replace=False).tolist())
    pieces = [vocabulary.exactly(one) for one in (whole[:first], whole[first:second], whole[second:])]
    return [ids[0] for ids in pieces if ids]
