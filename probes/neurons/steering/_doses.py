"""Set neurons to chosen values while a model runs (Häon et al., 2025).

A `Dose` edits some neurons in one row of a batch; a batch of several doses runs them side by side. The
local effect is exact: a neuron that goes from m to m' adds (m' - m) times its value vector to what its MLP writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor

from interp.authoring import InputError, Subject, Tokens, UnknownName
from interp.model.sites import Edit, Site, recording
from probes.neurons.steering._pushes import Push, are_pushes, edits_of_pushes

Mode: TypeAlias = Literal["override", "add", "scale"]
"""The new value of a neuron at m: "override" alpha (the paper's), "add" m + alpha, "scale" m · alpha."""

AlphaUnit: TypeAlias = Literal["raw", "sd"]
"""The unit of alpha: "raw", or "sd", the standard deviation of each neuron on a reference text."""

Positions: TypeAlias = Literal["all", "generated", "last"]
"""Where to edit: at all positions, at generated tokens, or at the prompt's last token and generated ones."""

Where: TypeAlias = Callable[[Tensor], Tensor]
"""(activations [rows, pos, d_mlp]) -> positions to edit, bool [rows or 1, pos]."""


@dataclass(frozen=True, eq=False)
class Dose:
    """An edit of some neurons: an activation m becomes keep · m + put.

    Attributes:
        by_layer: the neurons, int64 [n] per block.
        keep: [n] per block.
        put: [n] per block.
        along: leave the neurons unchanged, and add to the MLP's output a vector along the mean of their value vectors,
            with the norm that the edit's effect would have: the concept as one direction.
        instead: with `along`, unit vectors [d_model] per block that are added in place of the mean's direction.
    """

    by_layer: Mapping[int, Tensor]
    keep: Mapping[int, Tensor]
    put: Mapping[int, Tensor]
    along: bool = False
    instead: Mapping[int, Tensor] | None = None

    def nothing(self) -> Dose:
        """Return a dose that leaves the same neurons unchanged."""
        kept = {layer: torch.ones_like(keep) for layer, keep in self.keep.items()}
        return Dose(self.by_layer, kept, {layer: torch.zeros_like(keep) for layer, keep in self.keep.items()})


@dataclass(frozen=True)
class NeuronMoments:
    """The mean and standard deviation of a block's neurons over the tokens of some texts, float32 [d_mlp] each."""

    mean: Tensor
    sd: Tensor


def check_doses(alphas: Sequence[float], mode: Mode, alpha_unit: AlphaUnit) -> None:
    """Raise InputError if there are no alphas, or for a scale in standard deviations."""
    if mode == "scale" and alpha_unit == "sd":
        raise InputError("mode='scale' multiplies, so alpha has no unit; leave alpha_unit='raw'.")
    if not len(alphas):
        raise InputError(f"alphas are {list(alphas)}; give at least one.")


def doses_of(
    by_layer: Mapping[int, Tensor],
    alphas: Sequence[float],
    *,
    mode: Mode = "override",
    alpha_unit: AlphaUnit = "raw",
    sd: Mapping[int, Tensor] | None = None,
) -> list[Dose]:
    """Make one dose per alpha, for settings that `check_doses` accepts.

    Args:
        by_layer: neurons, int64 [n] per block.
        alphas: see `Mode`.
        mode: see `Mode`.
        alpha_unit: see `AlphaUnit`.
        sd: standard deviations, [n] per block, for alphas in them.
    """
    doses = []
    for alpha in alphas:
        unit = {layer: torch.ones(len(of)) if sd is None else sd[layer].cpu() for layer, of in by_layer.items()}
        put = {layer: (0.0 if mode == "scale" else float(alpha)) * unit[layer] for layer in by_layer}
        kept = {"override": 0.0, "add": 1.0, "scale": float(alpha)}[mode]
        doses.append(Dose(by_layer, {layer: torch.full((len(of),), kept) for layer, of in by_layer.items()}, put))
    return doses


@contextmanager
def steered(
    subject: Subject,
    doses: Sequence[Dose] | Sequence[Push],
    *,
    positions: Positions,
    skip_bos: bool,
    note: Mapping[str, Any],
) -> Iterator[None]:
    """Run every forward pass within the context under one dose, or `generate` under one dose per text.

    Raises:
        UnknownName: there is no such choice of positions.
        InputError: in a pass that does not fit: several doses, or positions="last", outside of `generate`.
    """
    if positions not in get_args(Positions):
        raise UnknownName("positions", positions, get_args(Positions))
    where = _wherever(subject, positions, skip_bos, len(doses))
    with subject.edited(edits_of(subject, doses, where), note):
        yield


def edits_of(subject: Subject, doses: Sequence[Dose] | Sequence[Push], where: Where) -> list[tuple[Site, Edit]]:
    """Return the edits that give each row of a batch its dose, or all rows the only one. Doses have equal sizes."""
    if are_pushes(doses):
        return edits_of_pushes(subject, doses, where)
    doses = cast("Sequence[Dose]", doses)
    edits: list[tuple[Site, Edit]] = []
    for layer in doses[0].by_layer:
        block = _Block(doses, layer, where, subject.value_vectors(layer))
        edits.append((subject.site("neurons", layer), block.on_neurons))
        if block.along.any():
            edits.append((subject.site("mlp_out", layer), block.on_written))
    return edits


class _Block:
    """The doses of one block, stacked to [doses, n]."""

    def __init__(self, doses: Sequence[Dose], layer: int, where: Where, vectors: Tensor) -> None:
        device = vectors.device
        self.where = where
        self.neurons = torch.stack([dose.by_layer[layer] for dose in doses]).to(device)
        self.keep = torch.stack([dose.keep[layer] for dose in doses]).to(vectors)[:, None]
        self.put = torch.stack([dose.put[layer] for dose in doses]).to(vectors)[:, None]
        self.along = torch.tensor([dose.along for dose in doses], device=device)
        self.values = vectors[self.neurons[self.along]]  # [doses along, n, d_model]
        self.directions = torch.nn.functional.normalize(self.values.mean(dim=1), dim=1)  # [doses along, d_model]
        for place, dose in enumerate(dose for dose in doses if dose.along):
            if dose.instead is not None:
                self.directions[place] = dose.instead[layer].to(self.directions)
        self.shift = vectors.new_zeros(0)  # what to add to what the MLP writes, [rows along, pos, d_model]

    def on_neurons(self, value: Tensor) -> Tensor:
        """Edit activations [rows, pos, d_mlp], and keep the shift for the rows that are edited along a direction."""
        where = self.where(value)[..., None]
        at = self.neurons[:, None].expand(-1, value.shape[1], -1).expand(len(value), -1, -1)
        own = value.gather(2, at)
        changed = torch.where(where, self.keep * own + self.put, own)
        if self.along.any():
            along = self.along.expand(len(value))
            self.shift = along_direction(changed[along] - own[along], self.values, self.directions)
            changed = torch.where(along[:, None, None], own, changed)
        return value.scatter(2, at, changed)

    def on_written(self, value: Tensor) -> Tensor:
        """Add the shift to the MLP's output [rows, pos, d_model], in the rows that are edited along a direction."""
        along = self.along.expand(len(value)).nonzero()[:, 0]
        return value.index_add(0, along, self.shift.to(value))


def written(dose: Dose, layer: int, activations: Tensor, edited: Tensor, vectors: Tensor) -> Tensor:
    """Compute what a dose adds to the MLP's output of a block, [batch, pos, d_model].

    Args:
        dose: the edit.
        layer: the block.
        activations: clean activations of its neurons, [batch, pos, d_mlp].
        edited: the positions to edit, bool [batch, pos].
        vectors: value vectors of the block, [d_mlp, d_model].
    """
    neurons = dose.by_layer[layer].to(vectors.device)
    own = activations[..., neurons]
    change = (dose.keep[layer].to(own) * own + dose.put[layer].to(own) - own) * edited[..., None]
    if not dose.along:
        return change @ vectors[neurons]
    values = vectors[neurons][None]
    return along_direction(change, values, None if dose.instead is None else dose.instead[layer].to(values)[None])


def along_direction(change: Tensor, values: Tensor, directions: Tensor | None = None) -> Tensor:
    """Turn a change of neurons into a vector of the same norm along the mean of their value vectors, or another one.

    Its sign is that of the change along the mean, whatever the direction: another one has no say in it.

    Args:
        change: of the activations, [rows, pos, n].
        values: value vectors of the neurons of each row [rows, n, d_model], or of one for all [1, n, d_model].
        directions: unit vectors to write along, [rows, d_model] or [1, d_model]; None is the mean's.

    Returns:
        [rows, pos, d_model].
    """
    written = change @ values.expand(len(change), -1, -1)
    mean = torch.nn.functional.normalize(values.mean(dim=1, keepdim=True), dim=2)
    sense = (written * mean).sum(dim=2, keepdim=True).sign()
    return written.norm(dim=2, keepdim=True) * sense * (mean if directions is None else directions[:, None])


def moments(subject: Subject, tokens: Tokens, layers: Sequence[int]) -> dict[int, NeuronMoments]:
    """Measure the mean and standard deviation of every neuron of some blocks over texts, without position 0.

    Raises:
        InputError: no text has a second token.
    """
    sums = {layer: torch.zeros(2, subject.d_mlp, dtype=torch.float64) for layer in layers}
    n_tokens = 0
    states = 1 + ceil(len(layers) * subject.d_mlp / subject.d_model / subject.n_layers)
    for batch in tokens.batches(subject.batch_tokens(states)):
        place = torch.arange(batch.ids.shape[1])
        counted = (place > 0) & (place < batch.lengths[:, None])
        n_tokens += int(counted.sum())
        with recording([subject.site("neurons", layer) for layer in layers]) as seen:
            subject.run(batch.ids, lambda tape: tape.last[:, -1])
        for layer, value in zip(layers, seen, strict=True):
            assert value is not None  # `recording` raises otherwise
            kept = value.reshape(*batch.ids.shape, -1)[counted.to(value.device)].double()
            sums[layer] += torch.stack([kept.sum(dim=0), kept.square().sum(dim=0)]).cpu()
    if not n_tokens:
        raise InputError("no text has more than one token, and position 0 is left out; give longer texts.")
    found = {}
    for layer, (total, squares) in sums.items():
        mean = total / n_tokens
        found[layer] = NeuronMoments(mean.float(), (squares / n_tokens - mean.square()).clamp(min=0).sqrt().float())
    return found


def _wherever(subject: Subject, positions: Positions, skip_bos: bool, n_doses: int) -> Where:
    """Return a function that selects the positions to edit, for prompts and for generation steps."""

    def where(value: Tensor) -> Tensor:
        now = subject.generating
        if now is None and n_doses > 1:
            raise InputError("several alphas give one to each text of `generate`; other passes order texts by length.")
        if now is None and positions == "last":
            raise InputError("positions='last' needs to know where texts end: use `generate`, or `steer` on texts.")
        if n_doses > 1 and len(value) != n_doses:
            raise InputError(f"{n_doses} alphas were given for {len(value)} texts; give one each.")
        start = 0 if now is None else now.start
        place = torch.arange(start, start + value.shape[1], device=value.device)[None]
        chosen = place >= (1 if skip_bos else 0)
        if positions == "all":
            return chosen
        if now is None:
            return torch.zeros_like(chosen)
        first = now.prompt_lengths.to(value.device)[:, None] - (1 if positions == "last" else 0)
        return chosen & (place >= first)

    return where
