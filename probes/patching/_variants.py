"""Patched runs as variants of one tape: each begins where it differs from the base run, and all ride in one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.model.schedules import Plan, Root
from interp.model.sites import Site, editing
from interp.model.tape import Tape
from probes.patching._keys import by_position
from probes.patching._states import Key, States


@dataclass(frozen=True)
class Variant:
    """One patched run.

    Attributes:
        key: the place that is patched.
        head: the head; None for all, or where a place has none.
        slot: which of each prompt's chosen positions; None for all positions together.
        control: "none", "other" or "random": what is put there.
    """

    key: Key
    head: int | None
    slot: int | None
    control: str

    @property
    def first_block(self) -> int:
        """The first block that runs wholly on the patched residual; a patch inside a block leaves it in that block."""
        site, layer = self.key
        return layer if site == "residual" else layer + 1


NewValues = Callable[[str, Key], Tensor]
"""(control, place) -> what is put there, [batch, pos, ...]."""


def plan_of(variants: Sequence[Variant], n_layers: int) -> Plan:
    """Return the plan of all variants: each runs the blocks behind its patch.

    >>> last = Variant(("residual", 2), None, None, "none")
    >>> plan_of([Variant(("mlp_out", 0), None, None, "none"), last], 2).n_block_runs
    1
    """
    return Plan(tuple((one, tuple(range(one.first_block, n_layers))) for one in variants))


def n_block_runs(variants: Sequence[Variant], n_layers: int) -> int:
    """Count the block runs that no way of patching can avoid: those behind each patch, and its own if it is inside."""
    inside = sum(one.key[0] not in ADDED_TO_OUTPUT for one in variants)
    return plan_of(variants, n_layers).n_block_runs + inside


ADDED_TO_OUTPUT = ("residual", "mlp_out")
"""Places whose change is the change of a residual between blocks, so that no block runs to find that."""


@dataclass(frozen=True)
class Patches:
    """All patches of a batch on its base run.

    Attributes:
        tape: its blocks run on any residual of the batch.
        base: the run that is patched.
        new: what is put where.
        pos: the positions of each slot, int64 [slots, batch].
        sites: the places inside blocks.
        at_once: the most runs in one call of a block.
    """

    tape: Tape
    base: States
    new: NewValues
    pos: Tensor
    sites: Mapping[Key, Site]
    at_once: int

    def changing(self, variants: Sequence[Variant]) -> list[int]:
        """Return which variants change anything: where two prompts begin alike, their runs are equal to the bit."""
        differs: dict[tuple[str, Key], Tensor] = {}
        found = []
        for index, one in enumerate(variants):
            of = one.control, one.key
            if of not in differs:
                differs[of] = (self.new(*of) != self.base.at(one.key)).any(dim=-1).cpu()
            moved = differs[of]
            if moved.ndim == 3:
                moved = moved.any(dim=-1) if one.head is None else moved[..., one.head]
            if one.slot is not None:
                here = self.pos[one.slot]
                moved = moved[torch.arange(len(here)), here.clamp(min=0)] & (here >= 0)
            if bool(moved.any()):
                found.append(index)
        return found

    def run(self, variants: Sequence[Variant], keep: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Run all variants, and return what `keep` makes of each final residual [batch, pos, d_model].

        Variants of the same place begin together, when the first of them is due.
        """
        alike: dict[Key, list[Variant]] = {}
        for one in dict.fromkeys(variants):
            alike.setdefault(one.key, []).append(one)
        begun: dict[Root, Tensor] = {}

        def begin(root: Root) -> Tensor:
            if root not in begun:
                assert isinstance(root, Variant)
                together = alike.pop(root.key)
                begun.update(zip(together, self._begun(root.key, together), strict=True))
            return begun.pop(root)

        made = plan_of(variants, self.tape.n_layers)
        return made.execute(begin, self.tape.run_block, self.at_once, keep)

    def _begun(self, key: Key, variants: Sequence[Variant]) -> list[Tensor]:
        """Return the residual from which each variant of a place goes on, [batch, pos, d_model] each."""
        value, like = self.base.at(key), self.base.residuals[0]
        # Each run of a part holds the site's values several times over: fewer of a wide one, such as `head_out`.
        n = max(1, int(self.at_once * min(1, 4 * like.numel() / value.numel())))
        parts = [variants[start : start + n] for start in range(0, len(variants), n)]
        return [one for part in parts for one in self._changed(key, part).chunk(len(part))]

    def _changed(self, key: Key, variants: Sequence[Variant]) -> Tensor:
        site, layer = key
        old = self.base.at(key) if site in ADDED_TO_OUTPUT else None
        mask = torch.cat([self._mask(key, one) for one in variants])
        new = torch.cat([self.new(one.control, key) for one in variants])
        n = len(variants)
        if site == "residual":
            assert old is not None
            return torch.where(mask, new, old.repeat(n, 1, 1))
        if site == "mlp_out":
            assert old is not None
            # What the block adds with it is known: the difference is the residual's, and 0 where nothing changes.
            change = torch.where(mask, new - old.repeat(n, 1, 1), 0.0)
            return self.base.residuals[layer + 1].repeat(n, 1, 1) + change

        def put(value: Tensor) -> Tensor:
            here = by_position(site, value)
            return by_position(site, torch.where(mask, new, here.reshape(new.shape)).reshape(here.shape))

        with editing(self.sites[key], put):
            return self.tape.run_block(layer, self.base.residuals[layer].repeat(n, 1, 1))

    def _mask(self, key: Key, variant: Variant) -> Tensor:
        """Return where a variant changes a place, bool [batch, pos, 1] or, with heads, [batch, pos, head, 1]."""
        value = self.new("none", key)
        n_batch, n_pos = value.shape[:2]
        if variant.slot is None:
            mask = torch.ones(n_batch, n_pos, dtype=torch.bool, device=value.device)
        else:
            here = self.pos[variant.slot].to(value.device)
            mask = torch.arange(n_pos, device=value.device) == here[:, None]
        if value.ndim == 3:
            return mask[..., None]
        heads = torch.arange(value.shape[2], device=value.device)
        one = heads >= 0 if variant.head is None else heads == variant.head
        return (mask[..., None] & one)[..., None]
