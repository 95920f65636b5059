"""Check token ids that a user gives."""

from __future__ import annotations

from collections.abc import Sequence

from interp.authoring import InputError, Subject


def require_known(subject: Subject, ids: Sequence[int]) -> None:
    """Refuse an id that the model cannot read.

    Raises:
        InputError: there is one; the message names the first.
    """
    n_ids = subject.backend.facts.n_ids
    outside = [index for index in ids if not 0 <= index < n_ids]
    if outside:
        raise InputError(f"token id {outside[0]} is outside the vocabulary of {n_ids}; ids run from 0 to {n_ids - 1}.")
