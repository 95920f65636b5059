"""Argument checks shared by the attribution methods, and the positions that they leave as they are."""

from __future__ import annotations

import numpy as np

from interp.authoring import InputError, Subject, start_of_text, whole_numbers


def special_positions(subject: Subject, ids: np.ndarray, *, first: bool) -> np.ndarray:
    """Return the positions of special tokens and of the start of the text, bool [pos].

    Args:
        subject: the model.
        ids: token ids, int64 [pos].
        first: position 0 is one of them whatever its token, because models let their attention rest there.
    """
    tokenizer = subject.tokenizer
    special = np.isin(ids, [*getattr(tokenizer, "all_special_ids", ())])
    start = start_of_text(tokenizer)
    if ids[: len(start)].tolist() == start:
        special[: len(start)] = True
    special[:1] |= first
    return special


def free_positions(subject: Subject, ids: np.ndarray, *, protect_bos: bool) -> np.ndarray:
    """Return the positions that may be replaced, bool [pos]: all, or all but special tokens and the start of the text.

    Another token at position 0 does not move an attention sink, so an ordinary token there may be replaced.
    """
    return ~special_positions(subject, ids, first=False) if protect_bos else np.ones(len(ids), dtype=bool)


def check_counts(**counts: int) -> None:
    """Raise InputError if a count is not a whole number of at least 1."""
    for name, count in counts.items():
        if whole_numbers(count, name)[0] < 1:
            raise InputError(f"{name}={count}; give at least 1.")
