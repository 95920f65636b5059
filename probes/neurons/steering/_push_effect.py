"""Replay pushes along a direction side by side, from the first pushed layer on, and predict their direct effect."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from interp.model.tape import Tape
from probes.neurons.steering._pushes import Push, pushed, shift


def replayed_pushes(
    tape: Tape,
    pushes: Sequence[Push],
    edited: Tensor,
    at: tuple[Tensor, Tensor],
    layers: Sequence[int],
    riders: int,
) -> list[list[Tensor]]:
    """Return the residuals of each push at each layer, [rows, d_model].

    Args:
        tape: of the clean pass.
        pushes: at the same layers.
        edited: positions to push, bool [batch, pos].
        at: the rows and positions to read.
        layers: to read, none of them before the first pushed one.
        riders: pushes that run side by side.
    """
    states: list[list[Tensor]] = []
    first = min(pushes[0].by_layer)
    for start in range(0, len(pushes), riders):
        some = pushes[start : start + riders]
        each = [push for push in some for _ in range(len(edited))]
        where = edited.repeat(len(some), 1)
        residual = tape.residual(first).repeat(len(some), 1, 1)
        kept: list[tuple[Tensor, ...]] = []
        for layer in range(first, tape.n_layers + 1):
            if layer in pushes[0].by_layer:
                residual = pushed(each, layer, residual, where)
            if layer in layers:
                kept.append(residual.view(len(some), len(edited), *residual.shape[1:])[:, *at].unbind())
            if layer < tape.n_layers:
                residual = tape.run_block(layer, residual)
        states += [list(of) for of in zip(*kept, strict=True)]
    return states


def predicted_of_pushes(
    tape: Tape, pushes: Sequence[Push], edited: Tensor, at: tuple[Tensor, Tensor], slope: Tensor
) -> Tensor:
    """Predict the change that each push makes by the direct path to first order, [pushes, rows].

    Args:
        tape: of the clean pass.
        pushes: at the same layers.
        edited: positions to push, bool [batch, pos].
        at: the rows and positions to read.
        slope: gradient of what is predicted with respect to the last residual, [rows, d_model].
    """
    total = torch.zeros(len(pushes), len(slope), device=slope.device)
    reached = edited.to(slope.device)[at]
    for layer in pushes[0].by_layer:
        states = tape.residual(layer)[at].float()[None]
        for index, push in enumerate(pushes):
            total[index] += (shift([push], layer, states)[0] * slope).sum(dim=1) * reached
    return total
