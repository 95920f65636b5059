"""The activations of a run at every site that is patched: residuals between blocks, and values inside blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from interp.authoring import InputError, Subject, Tokens
from interp.model.sites import Site, recording, width_of
from interp.model.tape import Tape
from probes.patching._keys import by_position, with_keys

Key: TypeAlias = tuple[str, int]
"""A place by depth: "residual" and a layer 0..L, or a site inside a block and the block."""

RESIDUALS = {"resid_pre": 0, "resid_post": 1}
"""Sites between blocks, and how many blocks behind the layer of its block each is."""


def key_of(site: str, layer: int) -> Key:
    """Return the place of a site of a block; `resid_post` is what enters the next block.

    >>> key_of("resid_post", 2), key_of("mlp_out", 2)
    (('residual', 3), ('mlp_out', 2))
    """
    return ("residual", layer + RESIDUALS[site]) if site in RESIDUALS else (site, layer)


@dataclass(frozen=True)
class States:
    """The activations of a batch in one run.

    Attributes:
        residuals: at layers 0..L, [batch, pos, d_model] each.
        values: at places inside blocks, [batch, pos, d] or [batch, pos, head, ...] each; `scores` and `pattern` stand
            at the position of their query.
    """

    residuals: Sequence[Tensor]
    values: Mapping[Key, Tensor]

    def at(self, key: Key) -> Tensor:
        """Return the activations at a place, [batch, pos, ...]."""
        site, layer = key
        return self.residuals[layer] if site == "residual" else self.values[key]


def all_residuals(tape: Tape) -> list[Tensor]:
    """Return the residuals at layers 0..L of a tape."""
    return [tape.residual(layer) for layer in range(tape.n_layers + 1)]


def states_of(subject: Subject, ids: Tensor, sites: Mapping[Key, Site]) -> States:
    """Record the states of one forward pass over ids [batch, pos]."""
    with recording(list(sites.values())) as seen:
        residuals = subject.run(ids, all_residuals)
    return States(residuals, _values(sites, seen, tuple(ids.shape)))


def states_from(tape: Tape, entering: Tensor, sites: Mapping[Key, Site]) -> States:
    """Run all blocks of a tape on another residual [batch, pos, d_model], and record the states."""
    residuals = [entering]
    with recording(list(sites.values())) as seen:
        for layer in range(tape.n_layers):
            residuals.append(tape.run_block(layer, residuals[-1]))
    return States(residuals, _values(sites, seen, tuple(entering.shape[:2])))


def _values(sites: Mapping[Key, Site], seen: Iterable[Tensor | None], lead: tuple[int, ...]) -> dict[Key, Tensor]:
    # Some architectures flatten batch and position inside a block.
    return {
        key: by_position(key[0], value) if value.ndim == 4 else value.reshape(*lead, -1)
        for key, value in zip(sites, seen, strict=True)
        if value is not None
    }


def n_residuals(subject: Subject, sites: Iterable[Key], length: int) -> float:
    """Return how large the values of places inside blocks are at a position, in residuals for each block."""
    return sum(width_of(subject, site, length) for site, _ in sites) / subject.d_model / subject.n_layers


def mean_states(subject: Subject, texts: Tokens, sites: Mapping[Key, Site], length: int) -> States:
    """Average the states of texts position by position, over those that reach it: batches of one, [1, length, ...].

    Raises:
        InputError: no text of the set is as long.
    """
    if (longest := max(map(len, texts.ids))) < length:
        raise InputError(
            f"no text of the set reaches position {length - 1}: the longest has {longest} tokens; add one."
        )
    total, counts = None, torch.zeros(length, dtype=torch.float64)
    for batch in texts.batches(subject.batch_tokens(2 + n_residuals(subject, sites, length))):
        ids = batch.ids[:, :length]
        found, real = states_of(subject, ids, sites), torch.arange(ids.shape[1]) < batch.lengths[:, None]
        counts[: ids.shape[1]] += real.sum(dim=0)
        values = {key: with_keys(key[0], value, length) for key, value in found.values.items()}
        found = States(found.residuals, values)
        parts = _map(found, lambda value, real=real: _summed(value, real, length))  # type: ignore[misc]
        total = parts if total is None else _add(total, parts)
    assert total is not None
    dtype = subject.dtype

    def mean(value: Tensor) -> Tensor:
        shape = (1, length, *[1] * (value.ndim - 2))
        return (value / counts.view(shape).to(value.device)).to(dtype)

    return _map(total, mean)


def _summed(value: Tensor, real: Tensor, length: int) -> Tensor:
    """Add up a batch's values at real positions in float64, [1, length, ...]."""
    mask = real.view(*real.shape, *[1] * (value.ndim - 2)).to(value.device)
    total = torch.where(mask, value.double(), 0.0).sum(dim=0, keepdim=True)
    missing = length - total.shape[1]
    return torch.cat([total, total.new_zeros(1, missing, *total.shape[2:])], dim=1) if missing else total


def _map(states: States, function: Callable[[Tensor], Tensor]) -> States:
    values = {key: function(value) for key, value in states.values.items()}
    return States([function(one) for one in states.residuals], values)


def _add(one: States, other: States) -> States:
    values = {key: value + other.values[key] for key, value in one.values.items()}
    return States([a + b for a, b in zip(one.residuals, other.residuals, strict=True)], values)


def repeated(states: States, batch: int, width: int) -> States:
    """Return states of a batch of one for `batch` prompts, cut to `width` positions."""

    def several(value: Tensor) -> Tensor:
        return value[:, :width].expand(batch, *[-1] * (value.ndim - 1))

    values = {key: several(with_keys(key[0], value, width)) for key, value in states.values.items()}
    return States([several(one) for one in states.residuals], values)
