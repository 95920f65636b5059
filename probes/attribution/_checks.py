"""Argument checks shared by the attribution methods."""

from __future__ import annotations

import numpy as np

from interp.authoring import InputError, Subject, start_of_text, whole_numbers


def free_positions(subject: Subject, ids: np.ndarray, *, protect_bos: bool) -> np.ndarray:
    """Return the positions that may be replaced, bool [pos]: all, or all but the start of the text."""
    free = np.ones(len(ids), dtype=bool)
    start = start_of_text(subject.tokenizer)
    if protect_bos and ids[: len(start)].tolist() == start:
        free[: len(start)] = False
    return free


def check_counts(**counts: int) -> None:
    """Raise InputError if a count is not a whole number of at least 1."""
    for name, count in counts.items():
        if whole_numbers(count, name)[0] < 1:
            raise InputError(f"{name}={count}; give at least 1.")
