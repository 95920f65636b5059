"""Measure how steering changes the next-token distribution: replay all doses of a batch side by side, and read out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias, cast

import torch
from torch import Tensor

from interp.authoring import Subject
from interp.model.head import Head
from interp.model.readout import Readout
from interp.model.sites import editing, recording
from interp.model.tape import Tape
from probes.neurons.steering._doses import Dose, edits_of, written
from probes.neurons.steering._push_effect import predicted_of_pushes, replayed_pushes
from probes.neurons.steering._pushes import Push, are_pushes

Clean: TypeAlias = Mapping[int, tuple[Tensor, Tensor]]
"""Clean activations and MLP output of each edited block."""


@dataclass(frozen=True)
class Effect:
    """Changes from the unsteered model, float32 [places, doses, rows], on the CPU.

    Attributes:
        log_prob: change of the log-probability of the concept's tokens together, nats.
        logit: change of their mean logit.
        predicted: the same by the direct path to first order, at the output alone; NaN at other places, and if the
            model normalises the MLP output.
        kl: KL(unsteered || steered), nats.
        loss: change of the actual next token's loss, nats; NaN where the text ends.
    """

    log_prob: Tensor
    logit: Tensor
    predicted: Tensor
    kl: Tensor
    loss: Tensor


@dataclass(frozen=True)
class EffectRows:
    """The positions of a batch that are edited, and those that are read.

    Attributes:
        edited: bool [batch, pos].
        row, pos: what is read, int64 [rows] each.
        following: the token after each, int64 [rows]; -1 where the text ends.
    """

    edited: Tensor
    row: Tensor
    pos: Tensor
    following: Tensor


def effect_of(
    subject: Subject,
    ids: Tensor,
    doses: Sequence[Dose] | Sequence[Push],
    rows: EffectRows,
    concept: Tensor,
    layers: Sequence[int],
) -> Effect:
    """Run every dose on a batch and compare it with the unsteered model.

    One clean forward pass is recorded. All doses run together, and only through the blocks after the first edited one:
    there a dose changes the output by value vectors alone. If the MLP output passes through more, such as a norm, the
    edited block runs too. Pushes along a direction change the residual stream itself.

    Args:
        subject: the model.
        ids: int64 [batch, pos].
        doses: with neurons in the same blocks, or pushes at the same layers.
        rows: where to edit and read.
        concept: tokens that measure the concept, int64 [t].
        layers: residuals to read, ascending, the last of them the model's output.
    """
    blocks = [] if are_pushes(doses) else list(doses[0].by_layer)
    read = subject.reader(entropy=False)
    riders = max(1, subject.batch_tokens() // ids.numel())

    def program(tape: Tape) -> list[dict[str, Tensor]]:
        # Taken before replays overwrite it; the clean pass has filled every place.
        clean: Clean = dict(zip(blocks, zip(seen[::2], seen[1::2], strict=True), strict=True))  # type: ignore[arg-type]
        at = rows.row.to(tape.last.device), rows.pos.to(tape.last.device)
        edited = rows.edited.to(tape.last.device)
        if are_pushes(doses):
            finals = replayed_pushes(tape, doses, edited, at, layers, riders)
        else:
            finals = _replayed(subject, tape, cast("Sequence[Dose]", doses), clean, edited, at, layers, riders)
        found = []
        for place, layer in enumerate(layers):
            base = tape.residual(layer)[at]
            states = [base, *(states[place] for states in finals)]
            measured = _measured(tape.head, states, read(tape, states, base), concept, rows.following)
            if layer == tape.n_layers:
                slope = _slope(tape.head, base, concept)
                measured["predicted"] = (
                    predicted_of_pushes(tape, doses, edited, at, slope)
                    if are_pushes(doses)
                    else _predicted(subject, cast("Sequence[Dose]", doses), clean, rows, at, slope)
                )
            found.append({name: value.cpu() for name, value in measured.items()})
        return found

    sites = [subject.site(name, layer) for layer in blocks for name in ("neurons", "mlp_out")]
    with recording(sites) as seen:
        found = subject.run(ids, program)
    nothing = torch.full_like(found[0]["kl"], torch.nan)
    return Effect(
        **{
            name: torch.stack([place.get(name, nothing) for place in found])
            for name in ("log_prob", "logit", "predicted", "kl", "loss")
        }
    )


def _replayed(
    subject: Subject,
    tape: Tape,
    doses: Sequence[Dose],
    clean: Clean,
    edited: Tensor,
    at: tuple[Tensor, Tensor],
    layers: Sequence[int],
    riders: int,
) -> list[list[Tensor]]:
    """Return the residuals of each dose at each layer, [rows, d_model]."""
    first = min(doses[0].by_layer, default=tape.n_layers)
    n_batch = len(edited)
    added = _added_behind(subject, tape, first, doses, clean, edited) if clean else None
    start_at = first if added is None else first + 1
    states: list[list[Tensor]] = []
    for start in range(0, len(doses), riders):
        some = slice(start, min(start + riders, len(doses)))
        n = some.stop - some.start
        residual = tape.residual(start_at).repeat(n, 1, 1)
        residual = residual if added is None else residual + torch.cat(added[some])
        kept: list[tuple[Tensor, ...]] = []
        with _dosed(subject, [dose for dose in doses[some] for _ in range(n_batch)], start_at, edited.repeat(n, 1)):
            for layer in range(tape.n_layers + 1):
                if layer in layers:
                    here = tape.residual(layer).repeat(n, 1, 1) if layer <= first else residual
                    kept.append(here.view(n, n_batch, *here.shape[1:])[:, *at].unbind())
                if start_at <= layer < tape.n_layers:
                    residual = tape.run_block(layer, residual)
        states += [list(of) for of in zip(*kept, strict=True)]
    return states


@contextmanager
def _dosed(subject: Subject, doses: Sequence[Dose], start: int, edited: Tensor) -> Iterator[None]:
    """Edit each row by its dose, in the blocks from `start` on."""
    left = [
        replace(dose, by_layer={layer: of for layer, of in dose.by_layer.items() if layer >= start}) for dose in doses
    ]
    with ExitStack() as active:
        for site, edit in edits_of(subject, left, partial(_same, edited)):
            active.enter_context(editing(site, edit))
        yield


def _added_behind(
    subject: Subject, tape: Tape, first: int, doses: Sequence[Dose], clean: Clean, edited: Tensor
) -> list[Tensor] | None:
    """Return what each dose adds to the first edited block's output, [batch, pos, d_model]; None if that is not all.

    The shortcut is valid if the block's output changes by exactly the added vectors; it is checked on the largest dose.
    """
    vectors = subject.value_vectors(first)
    activations = clean[first][0].reshape(*edited.shape, -1)
    added = [written(dose, first, activations, edited, vectors) for dose in doses]
    largest = max(range(len(doses)), key=lambda index: float(added[index].abs().max()))
    only_here = replace(doses[largest], by_layer={first: doses[largest].by_layer[first]})
    with _dosed(subject, [only_here] * len(edited), first, edited):
        ran = tape.run_block(first, tape.residual(first))
    # A few roundings of float32 sums over the neurons. In half precision the check fails, and the block is run.
    close = (ran - tape.residual(first + 1) - added[largest]).abs().max() <= 1e-5 * ran.abs().max()
    return added if close else None


def _same(edited: Tensor, value: Tensor) -> Tensor:
    return edited


def _measured(
    head: Head, states: Sequence[Tensor], readout: Readout, concept: Tensor, following: Tensor
) -> dict[str, Tensor]:
    """Measure how all states differ from the first, [doses, rows] each."""
    device = states[0].device
    n_rows = len(following)
    after = following.clamp(min=0).to(device)[:, None]
    ids = torch.cat([concept.to(device).expand(n_rows, -1), after], dim=1)
    log_prob, logit, loss = [], [], []
    for state, top, top_log_prob in zip(states, readout.top_id, readout.top_log_prob, strict=True):
        logits = head.logits_of(state, torch.cat([ids, top.to(device)], dim=1))
        # The normaliser follows from the most probable token, whose logit and log-probability are both known.
        log_total = logits[:, -1] - top_log_prob[:, 0].to(device)
        log_prob.append(logits[:, : len(concept)].logsumexp(dim=1) - log_total)
        logit.append(logits[:, : len(concept)].mean(dim=1))
        loss.append((log_total - logits[:, -2]).where(following.to(device) >= 0, torch.nan))
    changes = {"log_prob": log_prob, "logit": logit, "loss": loss}
    return {name: torch.stack(of[1:]) - of[0] for name, of in changes.items()} | {"kl": readout.kl[1:].to(device)}


def _slope(head: Head, base: Tensor, concept: Tensor) -> Tensor:
    """Compute the gradient of the concept's mean logit with respect to the residual, [rows, d_model]."""
    with torch.enable_grad():
        state = base.detach().requires_grad_()
        logits = head.logits_of(state, concept.to(base.device).expand(len(base), -1))
        (slope,) = torch.autograd.grad(logits.mean(dim=1).sum(), state)
    return slope.float()


def _predicted(
    subject: Subject, doses: Sequence[Dose], clean: Clean, rows: EffectRows, at: tuple[Tensor, Tensor], slope: Tensor
) -> Tensor:
    """Predict the change of each dose by the direct path, [doses, rows]; NaN if the MLP output is normalised."""
    total = torch.zeros(len(doses), len(slope), device=slope.device)
    edited = rows.edited.to(slope.device)[at][None]
    for layer, passed in clean.items():
        activations, mlp_out = (value.reshape(*rows.edited.shape, -1)[at].float() for value in passed)
        vectors = subject.value_vectors(layer).float()
        if not _adds_value_vectors(activations, mlp_out, vectors):
            return torch.full_like(total, torch.nan)
        for index, dose in enumerate(doses):
            total[index] += (written(dose, layer, activations[None], edited, vectors)[0] * slope).sum(dim=1)
    return total


def _adds_value_vectors(activations: Tensor, written: Tensor, vectors: Tensor, n_rows: int = 4) -> bool:
    """Check that the MLP output is its activations times its value vectors, plus a bias, without a norm."""
    products = activations[:n_rows] @ vectors
    bias = written[:n_rows] - products
    return bool((bias - bias[:1]).norm() <= 0.05 * products.norm())
