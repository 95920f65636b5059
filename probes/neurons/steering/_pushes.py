"""Change the residual stream along a direction while a model runs: add it, set its coordinate, or scale that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError, Subject, Tokens, content_order, select_positions
from interp.model.sites import Edit, Site
from interp.model.tape import Tape

_CANDIDATES = 16  # tokens drawn, of which the first two that differ make a difference


@dataclass(frozen=True, eq=False)
class Push:
    """An edit along vectors v: the coordinate m = h · v / |v|² of a residual h becomes keep · m + put.

    Attributes:
        by_layer: v, float32 [d_model] for each layer of the residual stream, 1..L.
        keep: a factor.
        put: a number for each layer.
        along: vectors to write along in place of v, which is still what m is read by, [d_model] for each layer.
    """

    by_layer: Mapping[int, Tensor]
    keep: float
    put: Mapping[int, float]
    along: Mapping[int, Tensor] | None = None

    def nothing(self) -> Push:
        """Return a push of the same layers that leaves everything unchanged."""
        return replace(self, keep=1.0, put=dict.fromkeys(self.put, 0.0))

    def added(self, layer: int) -> Tensor:
        """Return the vector that is written along, [d_model]."""
        return (self.along or self.by_layer)[layer]


@dataclass(frozen=True)
class Coordinates:
    """The coordinates along a direction, over the tokens of some texts at one layer.

    Attributes:
        mean: of the coordinate m.
        sd: of it.
        difference: of the states of two random tokens, [d_model].
    """

    mean: float
    sd: float
    difference: Tensor


def are_pushes(doses: Sequence[object]) -> TypeGuard[Sequence[Push]]:
    """Return whether doses are pushes, and not doses of neurons."""
    return isinstance(doses[0], Push)


def shift(pushes: Sequence[Push], layer: int, residual: Tensor) -> Tensor:
    """Compute what each row's push, or the only one, adds to residuals [rows, pos, d_model], of the same shape.

    Where every push keeps the coordinate, it is not read, and the vectors are added as they are.
    """

    def here(values: Tensor) -> Tensor:
        return values.to(device=residual.device, dtype=torch.float32)

    put = here(torch.tensor([push.put[layer] for push in pushes]))[:, None]
    along = here(torch.stack([push.added(layer) for push in pushes]))
    change = put.expand(len(pushes), residual.shape[1])
    if any(push.keep != 1.0 for push in pushes):
        keep = here(torch.tensor([push.keep for push in pushes]))[:, None]
        read = here(torch.stack([push.by_layer[layer] for push in pushes]))
        read = read / read.square().sum(dim=1, keepdim=True)
        change = (keep - 1) * torch.matmul(residual.float(), read[:, :, None])[..., 0] + put
    return (change[..., None] * along[:, None]).to(residual.dtype)


def pushed(pushes: Sequence[Push], layer: int, residual: Tensor, edited: Tensor) -> Tensor:
    """Return residuals [rows, pos, d_model] after their pushes, where `edited`, bool [rows, pos], is True."""
    return torch.where(edited[..., None], residual + shift(pushes, layer, residual), residual)


def edits_of_pushes(
    subject: Subject, pushes: Sequence[Push], where: Callable[[Tensor], Tensor]
) -> list[tuple[Site, Edit]]:
    """Return the edits that give each row of a batch its push, or all rows the only one."""
    edits: list[tuple[Site, Edit]] = []
    for layer in pushes[0].by_layer:

        def edit(value: Tensor, layer: int = layer) -> Tensor:
            return pushed(pushes, layer, value, where(value))

        edits.append((subject.site("resid_post", layer - 1), edit))
    return edits


def coordinates(subject: Subject, tokens: Tokens, by_layer: Mapping[int, Tensor], seed: int) -> dict[int, Coordinates]:
    """Measure directions' coordinates over texts, without position 0, and draw the difference of two random tokens.

    Which tokens are drawn hangs on the contents of the texts and the seed, and not on their order.

    Raises:
        InputError: the texts have no second token, or all tokens have the same state.
    """
    layers, lengths = list(by_layer), np.array([len(ids) - 1 for ids in tokens.ids])
    n_tokens = int(lengths.sum())
    if not n_tokens:
        raise InputError("no text has more than one token, and position 0 is left out; give longer texts.")
    by_content = content_order(tokens.ids, seed)
    drawn = np.random.default_rng(seed).permutation(n_tokens)[:_CANDIDATES]
    starts = np.empty_like(lengths)
    starts[by_content] = np.cumsum(lengths[by_content]) - lengths[by_content]
    slot = np.full(n_tokens, -1)
    slot[drawn] = np.arange(len(drawn))
    sums = torch.zeros(len(layers), 2, dtype=torch.float64)
    kept = torch.empty(len(layers), len(drawn), subject.d_model)
    read = {layer: (v / v.square().sum()).double() for layer, v in by_layer.items()}
    for batch in tokens.batches(subject.batch_tokens()):
        row, pos = select_positions(batch, None)
        row, pos = row[pos > 0], pos[pos > 0]
        own = torch.from_numpy(slot[starts[batch.prompts[row].numpy()] + pos.numpy() - 1])

        def program(tape: Tape, row: Tensor = row, pos: Tensor = pos, own: Tensor = own) -> tuple[Tensor, Tensor]:
            at = row.to(tape.last.device), pos.to(tape.last.device)
            states = [tape.residual(layer)[at] for layer in layers]
            found = [state.double() @ read[layer].to(state.device) for layer, state in zip(layers, states, strict=True)]
            moments = torch.stack([torch.stack([m.sum(), m.square().sum()]) for m in found])
            return moments.cpu(), torch.stack([state[(own >= 0).to(state.device)] for state in states]).float().cpu()

        moments, states = subject.run(batch.ids, program)
        sums += moments
        kept[:, own[own >= 0]] = states
    found = {}
    for index, layer in enumerate(layers):
        mean, square = (sums[index] / n_tokens).tolist()
        others = (kept[index] - kept[index, 0]).norm(dim=1).nonzero()[:, 0]
        if not len(others):
            raise InputError(
                f"all tokens of the texts have the same state at layer {layer}, so that there is no difference to "
                "match; give more texts, or leave out the control 'norm_matched'."
            )
        found[layer] = Coordinates(mean, max(square - mean**2, 0.0) ** 0.5, kept[index, others[0]] - kept[index, 0])
    return found
