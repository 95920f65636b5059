"""Argument checks shared by the attribution methods."""

from __future__ import annotations

import numpy as np

from interp.authoring import InputError, Subject, whole_numbers


def free_positions(subject: Subject, ids: np.ndarray, *, protect_bos: bool) -> np.ndarray:
    """Return the positions that may be replaced, bool [pos]: all, or all but a start-of-text token at position 0."""
    free = np.ones(len(ids), dtype=bool)
    bos = getattr(subject.tokenizer, "bos_token_id", None)
    free[0] = not (protect_bos and bos is not None and ids[0] == bos)
    return free


def check_counts(**counts: int) -> None:
    """Raise InputError if a count is not a whole number of at least 1."""
    for name, count in counts.items():
        if whole_numbers(count, name)[0] < 1:
            raise InputError(f"{name}={count}; give at least 1.")


def check_seed(seed: int) -> None:
    """Raise InputError if the seed is negative."""
    if whole_numbers(seed, "seed")[0] < 0:
        raise InputError(f"seed={seed}; give 0 or more.")
