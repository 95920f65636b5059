"""First-order estimates of all patches of a batch, from one backward pass or a few along the path between both runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from interp.authoring import Subject
from interp.model.sites import editing
from interp.model.tape import Tape
from probes.patching._batch import Sides
from probes.patching._keys import by_position, change_of, seen_part
from probes.patching._layout import Asked, Rows
from probes.patching._metric import Chosen, Metric, tokens_of_rows
from probes.patching._states import Key, States
from probes.patching._variants import Variant

Method: TypeAlias = Literal["gradient", "path"]
"""The gradient in the run that is patched, or its mean along the path of embeddings to the other run."""

Estimates: TypeAlias = Mapping[Key, Tensor]
"""The estimated effect of each position of each row, float32 [rows, pos] or, with heads, [rows, pos, head]."""


def points_of(method: Method, steps: int) -> list[float]:
    """Return the places on the path at which gradients are taken: 0 is the run that is patched, 1 the other.

    >>> points_of("gradient", 4), points_of("path", 2)
    ([0.0], [0.25, 0.75])
    """
    return [0.0] if method == "gradient" else [(step + 0.5) / steps for step in range(steps)]


def estimates_of(
    subject: Subject, asked: Asked, rows: Rows, sides: Sides, methods: Sequence[Method], steps: int
) -> dict[tuple[Method, str], Estimates]:
    """Estimate the effect of every patch, by method and control: "none", or "random" for a gradient as long.

    The change of a place times the gradient of the metric there: the effect, to first order.
    """
    keys = list(dict.fromkeys(place.key for place in asked.places))
    given = Chosen(asked.target[rows.prompts], asked.against[rows.prompts])
    at, draws = rows.at, asked.corrupt.draws

    def program(tape: Tape) -> dict[tuple[Method, str], Estimates]:
        base, source = sides.base(tape), sides.source
        here = (at[0].to(tape.last.device), at[1].to(tape.last.device))
        ends = [states.residuals[-1][here] for states in (base, source)]
        clean, corrupt = ends[::-1] if asked.denoise else ends
        chosen = tokens_of_rows(tape, clean, corrupt, given, draws)
        measure = partial(_metric, tape, asked.metric, clean, chosen)
        found: dict[tuple[Method, str], Estimates] = {}
        for method in methods:
            slopes = _mean_gradients(tape, asked, base, source, keys, points_of(method, steps), here, measure)
            for control in asked.controls:
                found[method, control] = {
                    key: _estimate(sides, slope, key, control, base.at(key), source.at(key))
                    for key, slope in slopes.items()
                }
        return found

    return subject.run(sides.base_ids, program)


def _mean_gradients(
    tape: Tape,
    asked: Asked,
    base: States,
    source: States,
    keys: Sequence[Key],
    points: Sequence[float],
    here: tuple[Tensor, Tensor],
    measure: Callable[[Tensor], Tensor],
) -> dict[Key, Tensor]:
    """Average the gradient of the metric at every place over points of the path between both runs' embeddings."""
    start, change = base.residuals[0], source.residuals[0] - base.residuals[0]
    total: dict[Key, Tensor] = {}
    for point in points:
        seen: dict[Key, Tensor] = {}
        with torch.enable_grad(), ExitStack() as active:
            residuals = [(start + point * change).detach().requires_grad_()]
            for key, site in asked.sites.items():
                active.enter_context(editing(site, partial(_kept, seen, key)))
            for layer in range(tape.n_layers):
                residuals.append(tape.run_block(layer, residuals[-1]))
            places = [residuals[key[1]] if key[0] == "residual" else seen[key] for key in keys]
            gradients = torch.autograd.grad(measure(residuals[-1][here]).sum(), places)
        for key, gradient in zip(keys, gradients, strict=True):
            mean = gradient.float() / len(points)
            total[key] = total[key] + mean if key in total else mean
    return {key: by_position(key[0], slope).reshape(base.at(key).shape) for key, slope in total.items()}


def _kept(seen: dict[Key, Tensor], key: Key, value: Tensor) -> Tensor:
    seen[key] = value
    return value


def _metric(tape: Tape, metric: Metric, clean: Tensor, chosen: Chosen, state: Tensor) -> Tensor:
    """Return the metric of final residuals [rows, d_model] with its graph, [rows]."""
    if metric == "logit_diff":
        logits = tape.head.logits_of(state, torch.stack(chosen, dim=1))
        return logits[:, 0] - logits[:, 1]
    log_probs = tape.head(state).float().log_softmax(dim=-1)
    if metric == "log_prob":
        return log_probs.gather(1, chosen.target[:, None])[:, 0]
    reference = tape.head(clean).float().log_softmax(dim=-1).detach()
    return -(reference.exp() * (reference - log_probs)).sum(dim=-1)


def _estimate(sides: Sides, slope: Tensor, key: Key, control: str, base: Tensor, source: Tensor) -> Tensor:
    """Return the change times the gradient, or times a random vector of its norm at every position."""
    slope = seen_part(key[0], slope, base, source)
    if control != "none":
        slope = sides.directions(base, source, key) * slope.norm(dim=-1, keepdim=True)
    return (change_of(base, source) * slope).sum(dim=-1).cpu()


def of_variants(found: Estimates, variants: Sequence[Variant], rows: Rows, draws: int) -> np.ndarray:
    """Return the estimate of every variant, averaged over a prompt's draws, float64 [batch, variants]."""
    n_rows, length = len(rows.ids), rows.ids.shape[1]
    real = torch.arange(length) < rows.lengths[:, None]
    every = torch.arange(n_rows)
    parts = []
    for one in variants:
        value = found[one.key]
        if value.ndim == 3:
            value = value.sum(dim=-1) if one.head is None else value[..., one.head]
        if one.slot is None:
            parts.append(torch.where(real, value, 0.0).sum(dim=1))
        else:
            parts.append(value[every, rows.pos[one.slot].clamp(min=0)])
    return torch.stack(parts, dim=1).double().view(-1, draws, len(variants)).mean(dim=1).numpy()
