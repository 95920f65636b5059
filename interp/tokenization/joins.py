"""Tell which tokens a tokenizer would write behind others, by its merges and words instead of asking it one by one.

A byte-pair tokenizer cuts a text into words, and its merges make the tokens of each. So of two tokens that it writes
alone, the second is written behind the first where a word ends between them, or where no merge joins them. Whether a
word ends there is asked once for all tokens of the same kinds of characters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from interp.tokenization.characters import decoded
from interp.tokenization.merges import End, Merges
from interp.tokenization.vocabulary import Vocabulary

UNKNOWN, YES, NO = 0, 1, 2
"""The answers about a token."""
_ALONE, _OTHER = 1, 2
_LOOK = 3  # characters of a token that stand in its kind one by one: of the later ones, alike neighbours count once
_APOSTROPHES = "'\u2019"  # behind which the letters decide where a word ends: 's, 'll
_COMPOSING = {"Prepend", "NFC", "NFD", "NFKC", "NFKD"}  # normalizers that leave ASCII behind a token as it is
# What patterns of words name besides letters of their own: classes, escapes, options, ranges, and 's, 't, 're, ...
_UNNAMED = re.compile(
    r"\\[pP]\{\^?\w+\}|\\.|\(\?[a-z]+|[aA]-[zZ]|(?<![a-zA-Z])(?:s|t|re|ve|m|ll|d|[sdmt]{4})(?![a-zA-Z])", re.I
)
_MOST_ENDS = 12
_TRIALS, _BEHIND, _MOST_ALONE = 100, 16, 128


class Joins:
    """The pairs of a tokenizer's tokens.

    Args:
        tokenizer: a Hugging Face tokenizer of the library `tokenizers`.
        merges: its merges.
        vocabulary: the bytes of its tokens.
        anchor: see `find_anchor`.
        encode: gives the ids of texts inside a text.
        names_letters: whether the rules that cut words name letters of ASCII, so that these are not all alike.
    """

    def __init__(
        self,
        tokenizer: Any,
        merges: Merges,
        vocabulary: Vocabulary,
        anchor: str,
        encode: Callable[[Sequence[str]], list[list[int] | None]],
        *,
        names_letters: bool,
    ) -> None:
        self._core, self._merges, self._vocabulary = tokenizer.backend_tokenizer, merges, vocabulary
        self._anchor, self._encode = anchor, encode
        n = len(vocabulary.spelt)
        self._names_letters = names_letters
        self._seen = np.zeros(n, dtype=np.uint8)
        self._first = np.full((n, _MOST_ENDS, 4), -1, dtype=np.int32)
        self._ends: dict[int, tuple[list[End], list[End]]] = {}
        self._kinds: dict[str, int] = {}
        self._kind = np.zeros((2, n), dtype=np.int64)
        self._added = set(tokenizer.added_tokens_decoder)
        self._begun = _begun(token.content for token in tokenizer.added_tokens_decoder.values())

    @classmethod
    def of(cls, tokenizer: Any, vocabulary: Vocabulary, anchor: str, encode: Any) -> Joins | None:
        """Return the pairs of a tokenizer; None if its merges and words cannot be seen."""
        core = getattr(tokenizer, "backend_tokenizer", None)
        if core is None:
            return None
        parts = json.loads(core.to_str())
        merges = Merges.of(parts["model"])
        if merges is None or not _composes(parts["normalizer"]):
            return None
        if parts["normalizer"] is not None:
            added = [one.content for one in tokenizer.added_tokens_decoder.values() if one.normalized]
            if any(core.normalizer.normalize_str(one) != one for one in added):  # it looks for another text
                return None
        return cls(tokenizer, merges, vocabulary, anchor, encode, names_letters=_names_letters(parts["pre_tokenizer"]))

    def behind(self, left: Sequence[int], ids: np.ndarray) -> np.ndarray:
        """Tell which tokens the tokenizer would write behind some, uint8 [n]; `UNKNOWN` of those that it must be asked.

        Args:
            left: tokens that it writes behind one another, at least one.
            ids: those that may follow, int64 [n].
        """
        found = np.full(len(ids), UNKNOWN, dtype=np.uint8)
        self._look_at(np.append(ids, left))
        parts = [self._text(index) for index in left]
        if self._seen[left[0]] != _ALONE or not all(parts) or not all(index in self._ends for index in left):
            return found
        before = "".join(parts)
        told = np.flatnonzero(self._seen[ids] == _ALONE)
        told = told[~np.isin(ids[told], self._added_across(before))]
        divided, undivided = self._words(left, parts, ids[told])
        found[told[divided]] = YES
        told = told[undivided]
        surely, perhaps = self._merges.joined(self._ends[left[-1]][1], self._first[ids[told]])
        found[told] = np.where(surely, NO, np.where(perhaps, UNKNOWN, YES))
        return found

    def agrees(self, written: Callable[[Sequence[tuple[tuple[int, ...], bytes]]], np.ndarray]) -> bool:
        """Return whether the tokenizer gives the same answers, by trials of pieces of tokens and of random ones.

        Args:
            written: tells of token sequences, each with its bytes, whether the tokenizer writes them.
        """
        generator, order, vocabulary = np.random.default_rng(0), self._vocabulary.order, self._vocabulary
        trials: list[tuple[int, list[int]]] = [
            (one, []) for one in order[vocabulary.lengths[order] == 1][:_MOST_ALONE].tolist()
        ]
        for whole in generator.choice(order, _TRIALS).tolist():
            spelt = vocabulary.spelt[whole] or b""
            cut = int(generator.integers(1, max(2, len(spelt))))
            trials += [(left, vocabulary.exactly(spelt[cut:])) for left in vocabulary.exactly(spelt[:cut])]
        for left, rights in trials:
            ids = np.array([*rights, *generator.choice(order, _BEHIND)], dtype=np.int64)
            told = self.behind([left], ids)
            asked = [((left, one), vocabulary.join((left, one))) for one in ids[told != UNKNOWN].tolist()]
            if (written(asked) != (told[told != UNKNOWN] == YES)).any():
                return False
        return True

    def _look_at(self, ids: np.ndarray) -> None:
        """Find of new tokens what their merges are, and whether the tokenizer writes them alone."""
        new = np.unique(ids[self._seen[ids] == 0]).tolist()
        texts = [self._plain(index) for index in new]
        encoded = iter(self._encode([text for text in texts if text]))
        for index, text in zip(new, texts, strict=True):
            self._seen[index] = _OTHER
            is_alone = bool(text) and next(encoded) == [index]
            string = self._core.id_to_token(index)
            ends = None if string is None or index in self._added else self._merges.ends(string)
            if ends is None or len(ends[0]) > _MOST_ENDS:
                continue
            self._ends[index] = ends
            self._first[index, : len(ends[0])] = np.minimum(np.array(ends[0]), np.iinfo(np.int32).max)
            if not is_alone:
                continue
            self._seen[index] = _ALONE
            for verbatim in (False, True):
                kind = kind_of(text, verbatim=verbatim or self._names_letters)
                self._kind[int(verbatim), index] = self._kinds.setdefault(kind, len(self._kinds))

    def _text(self, index: int) -> str:
        """Return the text of a token; "" if its bytes are none by themselves."""
        return decoded(self._vocabulary.spelt[index]) or ""

    def _plain(self, index: int) -> str:
        """Return the text of a token that is told here; "" of one whose text may be written otherwise where it ends."""
        text = self._text(index)
        return "" if text[-1:].isspace() or text[-1:].isdigit() else text

    def _added_across(self, before: str) -> np.ndarray:
        """Return the ids with which a token that was added to the tokenizer would go on, which it reads first."""
        starts = (before[at:] for at in range(len(before)))
        rests = [rest for start in starts for rest in self._begun.get(start, ())]
        return np.concatenate([np.zeros(0, dtype=np.int64), *map(self._vocabulary.starts, rests)])

    def _words(self, left: Sequence[int], parts: Sequence[str], ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of tokens that begin a word behind others, and of those in one word with them, int64."""
        before = "".join(parts)
        verbatim = any(one in before[-_LOOK:] for one in _APOSTROPHES)
        kinds, first, kind = np.unique(self._kind[int(verbatim), ids], return_index=True, return_inverse=True)
        stops = ["".join(parts[:n]) for n in range(1, len(parts) + 1)]
        apart = [
            not self._merges.joined(self._ends[one][1], self._first[[other]])[1][0] for one, other in pairwise(left)
        ]
        answers = [self._begins_word(stops, apart, self._text(ids[at])) for at in first.tolist()]
        each = np.array(answers, dtype=np.uint8)[kind] if len(kinds) else np.zeros(0, dtype=np.uint8)
        return np.flatnonzero(each == YES), np.flatnonzero(each == NO)

    def _begins_word(self, stops: Sequence[str], apart: Sequence[bool], after: str) -> int:
        """Return whether a text begins a word behind others; `UNKNOWN` if words end inside tokens, or join them.

        Args:
            stops: the text up to the end of each token before.
            apart: whether no merge joins each of these tokens with the next, if both are in one word.
            after: the text.
        """
        texts = [self._anchor, *(self._anchor + one for one in stops), self._anchor + stops[-1] + after]
        if self._core.normalizer is not None:
            texts = [self._core.normalizer.normalize_str(one) for one in texts]
            alone = self._core.normalizer.normalize_str(self._anchor + after)
            if not alone.startswith(texts[0]) or texts[-1] != texts[-2] + alone[len(texts[0]) :]:
                return UNKNOWN
        start, *ends = map(len, texts[:-1])
        words = [] if self._core.pre_tokenizer is None else self._core.pre_tokenizer.pre_tokenize_str(texts[-1])
        inside = {stop for _, (_, stop) in words if start < stop < len(texts[-1])}
        if inside - set(ends) or not all(end in inside or one for end, one in zip(ends[:-1], apart, strict=True)):
            return UNKNOWN
        return YES if ends[-1] in inside else NO


def _composes(normalizer: dict[str, Any] | None) -> bool:
    """Return whether a normalizer changes a text only where characters outside ASCII, or those that it names, meet."""
    if normalizer is None:
        return True
    if normalizer["type"] == "Sequence":
        return all(map(_composes, normalizer["normalizers"]))
    if normalizer["type"] == "Replace":  # of spaces, mostly
        named = normalizer["pattern"].get("String", "a")
        return not any(one.isalnum() for one in named)
    return normalizer["type"] in _COMPOSING


def _names_letters(rules: Any) -> bool:
    """Return whether rules that cut words name letters of ASCII themselves, beyond those of 's and the like."""
    if isinstance(rules, dict):
        named = [rules[name] for name in ("Regex", "String", "delimiter") if isinstance(rules.get(name), str)]
        return any(map(_names_letters, rules.values())) or any(
            re.search("[a-zA-Z]", _UNNAMED.sub("", one)) for one in named
        )
    return isinstance(rules, list) and any(map(_names_letters, rules))


def _begun(contents: Iterable[str]) -> dict[str, list[bytes]]:
    """Return the rests of texts by their beginnings."""
    found: dict[str, list[bytes]] = {}
    for content in contents:
        for stop in range(1, len(content)):
            found.setdefault(content[:stop], []).append(content[stop:].encode())
    return found


def kind_of(text: str, *, verbatim: bool) -> str:
    """Return a text's kind: texts of one kind are cut into words alike, and begin one behind others alike.

    Letters of ASCII are "a" or "A", unless they stand behind an apostrophe. From the fourth character on, alike
    neighbours count once.

    Args:
        text: of a token.
        verbatim: keep every letter.

    >>> kind_of("Lisbon's", verbatim=False), kind_of("caf\u00e9", verbatim=False), kind_of("HTTP", verbatim=False)
    ("Aaaa's", 'aaa\u00e9', 'AAAA')
    """
    kind = ""
    for place, one in enumerate(text):
        alike = one.isascii() and one.isalpha() and not verbatim
        shown = ("A" if one.isupper() else "a") if alike else one
        if place <= _LOOK or shown != kind[-1]:
            kind += shown
        verbatim = verbatim or one in _APOSTROPHES
    return kind
