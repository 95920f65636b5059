"""Divide the tokens of a prompt into named groups: words, sentences, chat turns, or spans that a user names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import numpy as np

from interp.authoring import InputError, Subject, UnknownName, whole_numbers
from probes.attribution._checks import special_positions

Span: TypeAlias = str | Sequence[int]
"""A text, which means every place where it stands as whole words, or positions (first, behind the last)."""

Groups: TypeAlias = str | Sequence[str] | Mapping[str, Span] | Sequence[Mapping[str, Span]]
"""Groups of tokens: "word", "sentence" or "turn"; texts, or spans by name; or such spans for each prompt."""

KINDS = ("word", "sentence", "turn")
STRUCTURE = ("template", "special", "start")
"""The names of groups that hold no text of the user's: they are never removed."""

_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s+[^\s\"'“‘(\[a-z]|\s+[\"'“‘(\[]+[^a-z])|[。！？]+[」』”]*|\n+")
_ROLE = re.compile(r"\s*(system|developer|user|assistant|model|tool)\s*(\n\s*|$)")


@dataclass(frozen=True, eq=False)
class Division:
    """A division of a prompt's tokens.

    Attributes:
        label: number of each token's group, ascending, int64 [pos].
        names: of each group: what it is, or a user's own name.
    """

    label: np.ndarray
    names: tuple[str, ...]


def divide(subject: Subject, prompts: Mapping[int, np.ndarray], groups: Groups, what: str) -> dict[int, Division]:
    """Divide every prompt into groups, in which each token is once.

    Args:
        subject: the model, whose tokenizer knows special tokens.
        prompts: token ids by `prompt_id`, int64 [pos] each.
        groups: see `Groups`. Tokens outside all spans are each a group named "rest". Special tokens and an ordinary
            token at position 0, where attention collects, are groups of their own ("special", "start") beside sentences
            and turns; words and a user's spans are not cut. A template's words around a turn are named "template".
        what: the argument's name, for the error message.

    Raises:
        UnknownName: there is no such kind of group.
        InputError: a span is not in a prompt or overlaps another one, or a prompt has no chat turns.
    """
    if isinstance(groups, str):
        if groups not in KINDS:
            raise UnknownName(what, groups, KINDS if what == "groups" else ("token", *KINDS))
        division = {"word": _by_word, "sentence": _by_sentence, "turn": _by_turn}[groups]
        return {number: division(subject, ids, f"prompt {number}") for number, ids in prompts.items()}
    spans = _spans_of(groups, len(prompts), what)
    return {
        number: _by_span(subject, ids, one, f"prompt {number}", what)
        for (number, ids), one in zip(prompts.items(), spans, strict=True)
    }


def words(strings: Sequence[str]) -> np.ndarray:
    """Number each token's word, int64 [pos]: a token joins the previous one if letters or digits meet between them.

    >>> words([" un", "likely", ",", " she"]).tolist()
    [0, 0, 1, 2]
    """
    joins = [
        before[-1:].isalnum() and token[:1].isalnum()
        for before, token in zip(["", *strings[:-1]], strings, strict=True)
    ]
    return np.cumsum(~np.array(joins)) - 1


def sentences(strings: Sequence[str]) -> np.ndarray:
    """Number each token's sentence, int64 [pos].

    A sentence ends with a full stop, question or exclamation mark before a space and no small letter, or with a line:
    an abbreviation before a name ends one too.

    >>> sentences(["It", " rains", ".", " Why", "?", " 3", ".", "5", " mm", " e", ".", "g", ".", " today"]).tolist()
    [0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """
    text = "".join(strings)
    ends = np.array([match.end() for match in _SENTENCE_END.finditer(text) if text[: match.end()].strip()], dtype=int)
    lengths = np.array([len(one) for one in strings])
    stripped = np.array([len(one) - len(one.lstrip()) for one in strings])
    begins = np.cumsum(lengths) - lengths + np.minimum(stripped, np.maximum(lengths - 1, 0))
    label = np.searchsorted(ends, begins, side="right")
    return np.unique(label, return_inverse=True)[1]


def _by_word(subject: Subject, ids: np.ndarray, holder: str) -> Division:
    label = words(_strings(subject, ids))
    return Division(label, ("word",) * (int(label[-1]) + 1))


def _by_sentence(subject: Subject, ids: np.ndarray, holder: str) -> Division:
    label = sentences(_strings(subject, ids))
    return _numbered([("sentence", int(one)) for one in label], subject, ids)


def _by_turn(subject: Subject, ids: np.ndarray, holder: str) -> Division:
    strings, marks = _strings(subject, ids), _marks(subject, ids)
    if not marks[1:].any():
        raise InputError(f"{holder} has no chat turns, for it holds no special token after its start: give messages.")
    names: list[tuple[str, int]] = [("template", 0)] * len(ids)
    role = ""
    for start, stop in _runs(marks):
        header = _ROLE.match("".join(strings[start:stop]))
        first = start
        if header:
            role, room = header[1], header.end()
            while first < stop and len(strings[first]) <= room:
                room -= len(strings[first])
                first += 1
        inside = [pos for pos in range(first, stop) if strings[pos].strip()]
        if inside:
            names[inside[0] : inside[-1] + 1] = [(role or "turn", start)] * (inside[-1] + 1 - inside[0])
            role = ""
    return _numbered(names, subject, ids, own=False)


def _by_span(subject: Subject, ids: np.ndarray, spans: Mapping[str, Span], holder: str, what: str) -> Division:
    strings = _strings(subject, ids)
    names: list[tuple[str, int]] = [("rest", pos) for pos in range(len(ids))]
    taken: dict[int, str] = {}
    for name, span in spans.items():
        for start, stop in _places(span, strings, holder, what):
            for pos in range(start, stop):
                if pos in taken:
                    raise InputError(
                        f"{what} {taken[pos]!r} and {name!r} overlap at position {pos} of {holder}; make them apart."
                    )
                taken[pos] = name
                names[pos] = (name, start)
    return _numbered(names, subject, ids, own=False)


def _places(span: Span, strings: Sequence[str], holder: str, what: str) -> Iterator[tuple[int, int]]:
    """Yield the positions of a span, from the first to behind the last."""
    if not isinstance(span, str):
        given = whole_numbers(span, what)
        if len(given) != 2:
            raise InputError(f"{what} holds {given}: give a text, or two positions, (first, behind the last).")
        start, stop = (one + len(strings) if one < 0 else one for one in given)
        if not 0 <= start < stop <= len(strings):
            raise InputError(f"{what} {tuple(given)} is not a span of {holder}, which has {len(strings)} tokens.")
        yield start, stop
        return
    ends = np.cumsum([len(one) for one in strings])
    sought = span.strip()
    left, right = (r"(?<!\w)" if sought[:1].isalnum() else ""), (r"(?!\w)" if sought[-1:].isalnum() else "")
    found = list(re.finditer(left + re.escape(sought) + right, "".join(strings))) if sought else []
    if not found:
        raise InputError(
            f"{holder} does not hold {span!r}; give a text of it, two positions, or {what} for each prompt."
        )
    for match in found:
        yield int(np.searchsorted(ends, match.start(), side="right")), int(np.searchsorted(ends, match.end())) + 1


def _spans_of(groups: Groups, n_prompts: int, what: str) -> list[Mapping[str, Span]]:
    if isinstance(groups, Mapping):
        several: list[Mapping[str, Span]] = [groups] * n_prompts
    elif all(isinstance(one, str) for one in groups):
        several = [{str(one): str(one) for one in groups}] * n_prompts
    else:
        several = [one for one in groups if isinstance(one, Mapping)]
        if len(several) != n_prompts:
            raise InputError(
                f"{what} lists {len(several)} sets of spans for {n_prompts} prompts; give one, or one each."
            )
    if not all(several) or not len(groups):
        raise InputError(f"{what}={groups!r} names no span; give at least one, or one of {', '.join(KINDS)}.")
    return several


def _numbered(names: list[tuple[str, int]], subject: Subject, ids: np.ndarray, *, own: bool = True) -> Division:
    """Return a division into runs of equal names; with `own`, special tokens and position 0 are runs of their own."""
    if own:
        marks = _marks(subject, ids)
        for pos in np.flatnonzero(special_positions(subject, ids, first=True)):
            names[pos] = ("special" if marks[pos] else "start", -1 - int(pos))
    elif names[0] == ("template", 0) and not _marks(subject, ids)[0]:
        names[0] = ("start", -1)
    runs = [(key, len(list(run))) for key, run in groupby(names)]
    label = np.repeat(np.arange(len(runs)), [n for _, n in runs])
    return Division(label, tuple(name for (name, _), _ in runs))


def _marks(subject: Subject, ids: np.ndarray) -> np.ndarray:
    """Tell which tokens are special ones of the tokenizer, as those around a chat's turns are, bool [pos]."""
    added = getattr(subject.tokenizer, "added_tokens_decoder", {})
    special = {index for index, token in added.items() if token.special}
    return np.isin(ids, [*special, *getattr(subject.tokenizer, "all_special_ids", ())])


def _runs(marks: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the runs of positions between marks, from the first to behind the last."""
    start = 0
    for marked, run in groupby(marks.tolist()):
        stop = start + len(list(run))
        if not marked:
            yield start, stop
        start = stop


def _strings(subject: Subject, ids: np.ndarray) -> list[str]:
    return [str(one) for one in subject.token_strings[ids]]
