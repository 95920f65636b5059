"""Small changes of a text, typing errors and permuted letters, and where its places lie in the changed one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_KINDS = ("insert", "delete", "replace", "swap")


@dataclass(frozen=True)
class Edit:
    """A change of a text: the characters from `start` to before `stop` become `new`."""

    start: int
    stop: int
    new: str


def edited(text: str, edits: Sequence[Edit]) -> str:
    """Return a text with edits, which are in order and do not overlap.

    >>> edited("a house", [Edit(2, 4, "oh"), Edit(7, 7, "s")])
    'a ohuses'
    """
    parts, at = [], 0
    for edit in edits:
        parts += [text[at : edit.start], edit.new]
        at = edit.stop
    return "".join([*parts, text[at:]])


def original_places(text: str, edits: Sequence[Edit]) -> np.ndarray:
    """Return for each byte place of the edited text that of the text, int64 [bytes + 1]; -1 inside an edit.

    The end of an edit is that of what it replaced; what is inserted or left out ends nowhere.

    >>> original_places("abc", [Edit(1, 2, "xy")]).tolist(), original_places("ab", [Edit(1, 1, "x")]).tolist()
    ([0, 1, -1, 2, 3], [0, 1, -1, 2])
    """
    found: list[int] = [0]
    at = 0  # bytes of the text so far
    place = 0
    for edit in edits:
        kept = len(text[place : edit.start].encode())
        found += range(at + 1, at + kept + 1)
        at += kept + len(text[edit.start : edit.stop].encode())
        if edit.new:
            found += [-1] * (len(edit.new.encode()) - 1)
            found.append(at if edit.stop > edit.start else -1)
        place = edit.stop
    found += range(at + 1, at + len(text[place:].encode()) + 1)
    return np.array(found, dtype=np.int64)


def typos(text: str, p: float, generator: np.random.Generator) -> list[Edit]:
    """Return typing errors at a share p of a text's letters: one is inserted, left out, replaced or swapped.

    New letters are the text's own.
    """
    letters = [at for at, one in enumerate(text) if one.isalpha()]
    chosen = sorted(generator.choice(letters, int(p * len(letters)), replace=False).tolist()) if letters else []
    taken = set(chosen)
    own = sorted({one.lower() for one in text if one.isalpha()})
    found = []
    for at in chosen:
        kind = _KINDS[int(generator.integers(len(_KINDS)))]
        if kind == "swap" and not (
            text[at + 1 : at + 2].isalpha() and at + 1 not in taken and text[at] != text[at + 1]
        ):
            kind = "replace"
        others = [one for one in own if one != text[at].lower()] or ["x" if text[at].lower() != "x" else "y"]
        letter = others[int(generator.integers(len(others)))]
        if kind == "insert":
            found.append(Edit(at, at, letter))
        elif kind == "delete":
            found.append(Edit(at, at + 1, ""))
        elif kind == "replace":
            found.append(Edit(at, at + 1, letter.upper() if text[at].isupper() else letter))
        else:
            found.append(Edit(at, at + 2, text[at + 1] + text[at]))
    return found


def shuffles(text: str, p: float, generator: np.random.Generator, *, n: int = 3) -> list[Edit]:
    """Return permutations of a share p of the groups of n letters inside a text's words; none for groups of one."""
    groups = [one for one in _groups(text, n) if len(set(text[one[0] : one[1]])) > 1]
    chosen = sorted(generator.choice(len(groups), int(p * len(groups)), replace=False).tolist()) if groups else []
    found = []
    for start, stop in map(groups.__getitem__, chosen):
        old = new = text[start:stop]
        while new == old:
            new = "".join(generator.permutation(list(old)))
        found.append(Edit(start, stop, new))
    return found


def _groups(text: str, n: int) -> Iterator[tuple[int, int]]:
    """Yield the groups of n letters in a text's words, the last of a word with fewer."""
    at = 0
    while at < len(text):
        stop = at
        while stop < len(text) and stop - at < n and text[stop].isalpha():
            stop += 1
        if stop > at:
            yield at, stop
        at = max(stop, at + 1)
