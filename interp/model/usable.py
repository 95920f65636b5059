"""Choose the tokens that a sample or a list may hold: those that the frame of `token_health` calls usable."""

from __future__ import annotations

import hashlib
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from interp.checks import checked
from interp.errors import InputError
from interp.model.subject import Subject

Usable: TypeAlias = pd.DataFrame | None
"""A frame with a row per token of the model and the columns `token_id`, `token` and `usable`; None for all tokens."""

_COLUMNS = ("token_id", "token", "usable")


@checked
def usable_tokens(usable: Usable, subject: Subject) -> np.ndarray | None:
    """Return which tokens may be drawn or listed, bool [d_vocab]; None for all of them.

    Args:
        usable: the frame of `token_health`, of this model or of another one with the same vocabulary.
        subject: the model.

    Raises:
        InputError: the frame lacks a column, is of another vocabulary, or leaves no token.

    >>> import interp
    >>> from probes import token_health
    >>> subject = interp.load("reference")
    >>> health = token_health(subject, ["Once upon a time"])
    >>> bool(usable_tokens(health, subject).sum() == health["usable"].sum())
    True
    """
    if usable is None:
        return None
    missing = [name for name in _COLUMNS if name not in usable.columns]
    if missing:
        raise InputError(f"usable= has no column {missing[0]!r}; pass the frame of token_health.")
    flags = usable["usable"]
    if not pd.api.types.is_bool_dtype(flags.dtype) or flags.isna().any():
        raise InputError(f"the column 'usable' of usable= is {flags.dtype}; give True or False in every row.")
    table = usable.sort_values("token_id")
    same = np.array_equal(table["token_id"].to_numpy(), np.arange(subject.d_vocab)) and np.array_equal(
        table["token"].to_numpy(dtype=object), np.array(subject.token_strings.tolist(), dtype=object)
    )
    if not same:
        raise InputError(
            f"usable= has {len(usable)} rows that are not the {subject.d_vocab} tokens of {subject.name!r}, each once; "
            "pass the frame of token_health of this model."
        )
    allowed: np.ndarray = table["usable"].to_numpy(dtype=bool, copy=True)
    if not allowed.any():
        raise InputError("usable= calls no token usable; there is nothing to draw or to list.")
    return allowed


@checked
def usable_facts(usable: Usable, subject: Subject) -> dict[str, Any]:
    """Return the entry `usable` of a run's parameters: which tokens, by a hash, and of which run; None for all tokens.

    Raises:
        InputError: see `usable_tokens`.
    """
    allowed = usable_tokens(usable, subject)
    if usable is None or allowed is None:
        return {"usable": None}
    runs = sorted(usable["run_id"].unique().tolist()) if "run_id" in usable.columns else []
    digest = hashlib.sha256(np.packbits(allowed).tobytes()).hexdigest()[:16]
    return {"usable": {"runs": runs, "n_tokens": int(allowed.sum()), "sha256": digest}}
