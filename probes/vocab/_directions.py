"""Measure how near each row of the unembedding is to those of tokens known to be untrained (Land & Bartolo, 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import InputError, Subject, UnknownName, whole_numbers
from interp.model.weights import require_one_vocabulary
from probes.vocab._categories import categories, with_a_role

Rows: TypeAlias = Literal["auto", "unused", "special", "centroid"]
Reference: TypeAlias = Rows | Sequence[int]
"""Rows known to be untrained: their kind, or token ids."""

SUSPECTED = 0.02
"""Share of the ordinary tokens that are candidates; the published one."""
_FEWEST = 3  # rows of a reference: the mean of fewer is mostly their noise
_NEAREST = 20  # rows around the centroid
_CHUNK = 4096  # rows at a time in float64
_DIGITS = 6  # closer values are equal: rounding must not decide which of two equal rows is suspected


def reference_rows(subject: Subject, table: pd.DataFrame, reference: Reference) -> tuple[np.ndarray, str]:
    """Return the rows that stand for untrained tokens, and how they were chosen.

    Args:
        subject: the model.
        table: of `categories`.
        reference: "unused": rows without a token, bytes that no text holds, and tokens kept for later use; "special":
            special tokens that are not start, end, padding or the like; "centroid": the rows nearest to the mean of
            all; "auto": the first of these that there are three of.

    Raises:
        InputError: there are too few, or ids outside the vocabulary.
    """
    if not isinstance(reference, str):
        if not len(reference):
            raise InputError(f"reference={reference!r}: name at least one row, or pass 'auto'.")
        ids = np.unique(whole_numbers(reference, "reference"))
        if ids.min() < 0 or ids.max() >= len(table):
            raise InputError(f"reference holds ids from {ids.min()} to {ids.max()}; the vocabulary has {len(table)}.")
        return ids, "given"
    if reference not in get_args(Rows):
        raise UnknownName("reference", reference, get_args(Rows))
    unused = (table["category"] == "row_only") | (table["byte_kind"] == "never") | table["reserved"]
    special = (table["category"] == "special") & ~table.index.isin(with_a_role(subject.tokenizer))
    for kind, chosen in (("unused", unused), ("special", special)):
        ids = np.flatnonzero(chosen)
        if reference == kind and not len(ids):
            raise InputError(f"{subject.name!r} has no tokens for reference={kind!r}; pass 'auto' or ids.")
        if reference == kind or (reference == "auto" and len(ids) >= _FEWEST):
            return ids, kind
    rows = subject.W_U.T
    mean = _mean(rows)
    distances = torch.cat([(part.double() - mean).norm(dim=1) for part in torch.split(rows, _CHUNK)])
    return torch.argsort(distances, stable=True)[
        : min(_NEAREST, len(rows) // 2)
    ].sort().values.cpu().numpy(), "centroid"


def directions(rows: Tensor, reference: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return 1 - cos(row - mean, reference - mean) of each row [V, d], where mean is that of all rows: float64 [V].

    0 is the direction of the reference rows' own mean. A row that is the mean has no direction: 1.

    Raises:
        InputError: the reference rows' mean is that of all rows.

    >>> directions(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), [0]).tolist()
    [0.0, 2.0, 1.0, 1.0]
    """
    mean = _mean(rows)
    towards = rows[torch.as_tensor(np.asarray(reference), device=rows.device)].double().mean(dim=0) - mean
    if not float(towards.norm()) > 1e-9 * float(rows[:_CHUNK].double().norm(dim=1).mean()):
        raise InputError(f"the mean of the {len(reference)} reference rows is that of all rows: name fewer of them.")
    found = []
    for part in torch.split(rows, _CHUNK):
        centred = part.double() - mean
        norms = centred.norm(dim=1)
        found.append(torch.where(norms > 0, centred @ (towards / towards.norm()) / norms, 0.0))
    return (1 - torch.cat(found)).clamp(0, 2).cpu().numpy()


def at_or_below(values: np.ndarray, ordinary: np.ndarray) -> np.ndarray:
    """Return the share of the ordinary tokens [V] whose value is no larger, for each value [V]; equal values share it.

    >>> at_or_below(np.array([1.0, 2.0, 2.0, 9.0]), np.array([True, True, True, False])).round(2).tolist()
    [0.33, 1.0, 1.0, 1.0]
    """
    values = np.round(values, _DIGITS)
    among = np.sort(values[ordinary])
    return np.searchsorted(among, values, side="right") / len(among)


def ordinary_tokens(subject: Subject, table: pd.DataFrame) -> np.ndarray:
    """Return which tokens a text can hold, bool [V].

    Raises:
        InputError: there are none.
    """
    ordinary: np.ndarray = (table["category"] == "ok").to_numpy()
    if not ordinary.any():
        raise InputError(f"{subject.name!r} has no token that its tokenizer reads; pass the model's own tokenizer.")
    return ordinary


class Suspects(NamedTuple):
    """The tokens of a model.

    Attributes:
        candidate: which are suspected by their direction, bool [V].
        ordinary: which a text can hold, bool [V].
        direction: see `directions`, float64 [V].
        table: of `categories`.
    """

    candidate: np.ndarray
    ordinary: np.ndarray
    direction: np.ndarray
    table: pd.DataFrame


def suspects(subject: Subject) -> Suspects:
    """Find which tokens are suspected by their direction, with the best reference that the model has.

    Raises:
        InputError: the model came without a tokenizer.
        ModelError: the model embeds other tokens than it predicts.
    """
    require_one_vocabulary(subject, "token_health")
    table = categories(subject)
    ordinary = ordinary_tokens(subject, table)
    found = directions(subject.W_U.T, reference_rows(subject, table, "auto")[0])
    return Suspects(ordinary & (at_or_below(found, ordinary) <= SUSPECTED), ordinary, found, table)


def _mean(rows: Tensor) -> Tensor:
    return torch.stack([part.double().sum(dim=0) for part in torch.split(rows, _CHUNK)]).sum(dim=0) / len(rows)
