"""Lay out what is asked of a batch of prompts: a row for each corrupt run of a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from interp.authoring import Batch, ChosenPositions, select_positions
from interp.model.sites import Site
from probes.patching._metric import Metric
from probes.patching._pairs import Corrupt
from probes.patching._sites import Place
from probes.patching._states import Key


@dataclass(frozen=True)
class Asked:
    """A description of what is patched, and how it is measured.

    Attributes:
        places: the sites of blocks.
        sites: those inside blocks.
        heads: to patch one by one; None for all.
        positions: of each prompt; "all" for all together, None for all in turn.
        metric: to compare by.
        denoise: whether clean activations go into the corrupt run.
        controls: "none" and the controls.
        corrupt: the corrupt side.
        target, against: a token of each prompt, int64 [prompts]; -1 if it is still to be found.
        seed: of the controls.
    """

    places: Sequence[Place]
    sites: Mapping[Key, Site]
    heads: Sequence[int] | None
    positions: ChosenPositions | Literal["all"] | None
    metric: Metric
    denoise: bool
    controls: Sequence[str]
    corrupt: Corrupt
    target: Tensor
    against: Tensor
    seed: int

    def with_controls(self, *controls: str) -> Asked:
        """Return the same with other controls."""
        return replace(self, controls=controls)


@dataclass(frozen=True)
class Rows:
    """A batch in which each prompt has a row for each of its corrupt runs.

    Attributes:
        batch: the clean prompts.
        prompts: index of the prompt of each row, int64 [rows].
        ids: clean token ids, int64 [rows, pos].
        corrupt_ids: those of the corrupt prompts; None where they have none.
        lengths: int64 [rows].
        pos: the positions of each slot, int64 [slots, rows]; -1 where a prompt has fewer; no slots for all together.
    """

    batch: Batch
    prompts: Tensor
    ids: Tensor
    corrupt_ids: Tensor | None
    lengths: Tensor
    pos: Tensor

    @property
    def at(self) -> tuple[Tensor, Tensor]:
        """The last position of every row, where the next token is read."""
        return torch.arange(len(self.ids)), self.lengths - 1

    def without_padding(self) -> list[Tensor]:
        """Return the clean token ids of each row."""
        return [ids[:n] for ids, n in zip(self.ids, self.lengths.tolist(), strict=True)]


def rows_of(asked: Asked, batch: Batch) -> Rows:
    """Lay a batch out, a row for each corrupt run."""
    corrupt, n_batch = asked.corrupt, len(batch.ids)
    of = torch.arange(n_batch).repeat_interleave(corrupt.draws)
    prompts, lengths, ids = batch.prompts[of], batch.lengths[of], batch.ids[of]
    partners = None
    if corrupt.partners:
        draw = torch.arange(corrupt.draws).repeat(n_batch)
        partners = padded([corrupt.partners[index] for index in (prompts * corrupt.draws + draw).tolist()], ids)
    if isinstance(asked.positions, str):
        return Rows(batch, prompts, ids, partners, lengths, torch.empty(0, len(ids), dtype=torch.int64))
    row, pos = select_positions(batch, asked.positions)
    counts = torch.bincount(row, minlength=n_batch)
    slot = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
    table = torch.full((int(counts.max()), n_batch), -1)
    table[slot, row] = pos
    return Rows(batch, prompts, ids, partners, lengths, table[:, of])


def padded(rows: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return token ids as rows of the shape of others, padded or cut."""
    found = torch.zeros_like(like)
    for place, ids in enumerate(rows):
        given = ids[: found.shape[1]]
        found[place, : len(given)] = given
    return found
