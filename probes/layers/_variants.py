"""Interventions on whole blocks, as runs that start from the tape."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from interp.authoring import Subject, UnknownName
from interp.model.schedules import Plan, Root, run_of
from interp.model.sites import Site, SiteName, editing
from interp.model.tape import Tape

CONTROL = "resampled"

_PARTS: dict[str, SiteName] = {"delete_attn": "attn_out", "delete_mlp": "mlp_out"}
_NAMES = ("delete", "swap", "repeat", *_PARTS, "delete_run(2)")


@dataclass(frozen=True)
class Variant:
    """A modified run of the model.

    Attributes:
        intervention: name of the intervention.
        layer: the (first) block it changes.
        control: "none", or the name of the control.
        root: the residual it starts from, see `interp.model.schedules.Root`.
        blocks: the blocks that run from there, in order.
    """

    intervention: str
    layer: int
    control: str
    root: Root
    blocks: tuple[int, ...]


def variants(interventions: Sequence[str], n_layers: int, *, resampled: bool) -> list[Variant]:
    """List every intervention at every block and, if `resampled`, the control at every block.

    Raises:
        UnknownName: there is no such intervention.
    """
    found = [variant for name in interventions for variant in _of(name, n_layers)]
    if resampled:
        for layer in range(n_layers):
            tail = tuple(range(layer + 1, n_layers))
            found.append(Variant("resample", layer, CONTROL, ("resample", layer), tail))
    return found


def plan_of(chosen: Sequence[Variant]) -> Plan:
    """Return the plan that runs all these variants."""
    return Plan(tuple((variant.root, variant.blocks) for variant in chosen))


def sites_to_silence(subject: Subject, chosen: Sequence[Variant]) -> dict[Root, Site]:
    """Return the output site of the attention or MLP that each variant deletes, for variants that delete one."""
    return {
        variant.root: subject.site(_PARTS[variant.intervention], variant.layer)
        for variant in chosen
        if variant.intervention in _PARTS
    }


def starts_of(
    tape: Tape, chosen: Sequence[Variant], silenced: Mapping[Root, Site], contributions: Sequence[Tensor]
) -> dict[Root, Callable[[], Tensor]]:
    """Return functions for the residual after each edited block, [batch, pos, d_model], which a variant starts from.

    Args:
        tape: of the intact pass.
        chosen: the variants.
        silenced: see `sites_to_silence`.
        contributions: of each block on the donor prompts, [batch, pos, d_model] each; for the control.
    """

    def resampled(layer: int) -> Tensor:
        return tape.residual(layer) + contributions[layer]

    def without(layer: int, site: Site) -> Tensor:
        with editing(site, torch.zeros_like):
            return tape.run_block(layer, tape.residual(layer))

    found: dict[Root, Callable[[], Tensor]] = {}
    for variant in chosen:
        if variant.control == CONTROL:
            found[variant.root] = partial(resampled, variant.layer)
        elif variant.root in silenced:
            found[variant.root] = partial(without, variant.layer, silenced[variant.root])
    return found


def written_by_blocks(tape: Tape) -> list[Tensor]:
    """Return each block's contribution to the residual stream, [batch, pos, d_model] each."""
    return [tape.residual(layer + 1) - tape.residual(layer) for layer in range(tape.n_layers)]


def _of(name: str, n_layers: int) -> list[Variant]:
    every = tuple(range(n_layers))
    if name in _PARTS:
        return [Variant(name, layer, "none", (name, layer), every[layer + 1 :]) for layer in every]
    run = re.fullmatch(r"delete_run\((\d+)\)", name)
    if run and 1 <= int(run[1]) <= n_layers:
        length = int(run[1])
        orders = [every[:layer] + every[layer + length :] for layer in range(n_layers - length + 1)]
    elif name == "delete":
        orders = [every[:layer] + every[layer + 1 :] for layer in every]
    elif name == "swap":
        orders = [(*every[:layer], layer + 1, layer, *every[layer + 2 :]) for layer in every[:-1]]
    elif name == "repeat":
        orders = [every[: layer + 1] + every[layer:] for layer in every]
    else:
        raise UnknownName("intervention", name, _NAMES, f"delete_run(k) takes k from 1 to {n_layers} here.")
    return [Variant(name, layer, "none", *run_of(order)) for layer, order in enumerate(orders)]
