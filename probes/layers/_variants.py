"""What can be done to whole blocks, as runs that start from the tape."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
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
    """One way of running the model otherwise.

    Attributes:
        intervention: its name.
        layer: the (first) block it is done to.
        control: "none", or the name of the control it is.
        root: where it starts, see `interp.model.schedules.Root`.
        blocks: what runs from there.
    """

    intervention: str
    layer: int
    control: str
    root: Root
    blocks: tuple[int, ...]


def variants(interventions: Sequence[str], n_layers: int, *, resampled: bool) -> list[Variant]:
    """Every intervention at every block, and the control at every block.

    Raises:
        UnknownName: an intervention of another name.
    """
    found = [variant for name in interventions for variant in _of(name, n_layers)]
    if resampled:
        for layer in range(n_layers):
            tail = tuple(range(layer + 1, n_layers))
            found.append(Variant("resample", layer, CONTROL, ("resample", layer), tail))
    return found


def plan_of(chosen: Sequence[Variant]) -> Plan:
    """The plan that runs them all."""
    return Plan(tuple((variant.root, variant.blocks) for variant in chosen))


def sites_to_silence(subject: Subject, chosen: Sequence[Variant]) -> dict[Root, Site]:
    """Where attention or MLP writes, for each variant that deletes one of them."""
    return {
        variant.root: subject.site(_PARTS[variant.intervention], variant.layer)
        for variant in chosen
        if variant.intervention in _PARTS
    }


def starts_of(
    tape: Tape, chosen: Sequence[Variant], silenced: Mapping[Root, Site], contributions: Sequence[Tensor]
) -> dict[Root, Tensor]:
    """The residual behind each edited block, [batch, pos, d_model], from which a variant goes on.

    Args:
        tape: of the intact pass.
        chosen: the variants.
        silenced: see `sites_to_silence`.
        contributions: what each block wrote on the donor prompts, [batch, pos, d_model] each; for the control.
    """
    found: dict[Root, Tensor] = {}
    for variant in chosen:
        residual = tape.residual(variant.layer)
        if variant.control == CONTROL:
            found[variant.root] = residual + contributions[variant.layer]
        elif variant.root in silenced:
            with editing(silenced[variant.root], torch.zeros_like):
                found[variant.root] = tape.run_block(variant.layer, residual)
    return found


def written_by_blocks(tape: Tape) -> list[Tensor]:
    """What each block adds to the residual stream, [batch, pos, d_model] each."""
    return [tape.residual(layer + 1) - tape.residual(layer) for layer in range(tape.n_layers)]


def donors(lengths: Sequence[int], seed: int) -> np.ndarray:
    """For each prompt another one, at random among those at least as long; for the longest, the longest other one.

    Depends on the prompts and the seed, not on how they are batched.

    Returns:
        Indices, int64 [n_prompts].
    """
    generator = np.random.default_rng(seed)
    by_length = np.argsort(-np.asarray(lengths), kind="stable")
    n_as_long = np.searchsorted(-np.asarray(lengths)[by_length], -np.asarray(lengths), side="right")
    place = np.empty(len(lengths), dtype=np.int64)
    place[by_length] = np.arange(len(lengths))
    # A draw among the others: itself, which is one of those as long, is stepped over. None is left to the very longest.
    drawn = generator.integers(0, np.maximum(n_as_long - 1, 1))
    return by_length[drawn + (drawn >= place)]


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
