"""Trials of a model's sites: what is wrong with them in each block, found by running the blocks of a tape.

They hold nothing of the model here, so that they can be sent to a model on another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from interp.errors import ModelError
from interp.model.sites.hooks import recording
from interp.model.sites.identities import Identity, off
from interp.model.sites.site import Site, SiteName
from interp.model.tape import Tape

NamedSite: TypeAlias = Callable[[SiteName, int], Site]
"""(name, block) -> the site; raises ModelError where the block shows none of that name."""

BRANCHES: tuple[SiteName, ...] = ("attn_out", "mlp_out")


@dataclass(frozen=True)
class AllSites:
    """The sites of all blocks, found beforehand: each a site, or the sentence that refuses it."""

    found: Mapping[tuple[SiteName, int], Site | str]

    @classmethod
    def of(cls, site: NamedSite, names: Sequence[SiteName], n_layers: int) -> AllSites:
        """Ask for all sites of all blocks."""
        found: dict[tuple[SiteName, int], Site | str] = {}
        for name in names:
            for layer in range(n_layers):
                try:
                    found[name, layer] = site(name, layer)
                except ModelError as error:
                    found[name, layer] = str(error)
        return cls(found)

    def __call__(self, name: SiteName, layer: int) -> Site:
        """See `NamedSite`."""
        found = self.found[name, layer]
        if isinstance(found, str):
            raise ModelError(found)
        return found


def shown(site: NamedSite, name: SiteName, layer: int) -> Site | None:
    """Return a site; None if the block shows none of that name."""
    try:
        return site(name, layer)
    except ModelError:
        return None


def faults_of(identity: Identity, site: NamedSite, tape: Tape) -> list[str]:
    """Return where an identity does not hold: what is wrong in each block, an empty string where nothing is."""
    found = []
    for layer in range(tape.n_layers):
        try:
            found.append(identity(tape, layer, lambda one, at=layer: site(one, at)))  # type: ignore[misc]
        except ModelError as error:  # the block lacks a site that the identity needs, or nothing passes through it
            found.append(str(error).removesuffix("."))
        except RuntimeError:  # a tensor has another shape than the site's
            found.append("its tensors have other shapes")
    return found


def faults_of_sums(site: NamedSite, blocks: Sequence[str], tape: Tape) -> list[str]:
    """Return where a block is not its input plus its branches.

    Args:
        site: the sites.
        blocks: the name of each block.
        tape: whose blocks are run.
    """
    found = []
    for layer, block in enumerate(blocks):
        entered = tape.residual(layer)
        left, parts = _parts(site, tape, layer)
        difference = off(left, entered, *parts.values())
        found.append(
            f"{block} is not its input + attn_out + mlp_out: it is off by {difference:.2g} where it "
            f"adds {float((left - entered).abs().amax()):.2g}, so neither can be read or changed there"
            if difference
            else ""
        )
    return found


def faults_between(site: NamedSite, blocks: Sequence[str], tape: Tape) -> list[str]:
    """Return where the residual that a tape has between attention and MLP is not input plus `attn_out`."""
    found = []
    for layer, mid in enumerate(tape.mids):
        entered = tape.residual(layer)
        left, parts = _parts(site, tape, layer)
        differences = [off(mid, entered, parts["attn_out"])] if "attn_out" in parts else []
        differences += [off(left, mid, parts["mlp_out"])] if "mlp_out" in parts else []
        found.append(
            ""
            if differences and not min(differences)
            else f"{blocks[layer]} has no residual between attention and MLP that is its input + attn_out; "
            "pass sublayers=False."
        )
    return found


def _parts(site: NamedSite, tape: Tape, layer: int) -> tuple[Tensor, dict[SiteName, Tensor]]:
    """Return the output of a block, and its branches, those that it shows."""
    sites = {name: one for name in BRANCHES if (one := shown(site, name, layer)) is not None}
    left, seen = tape.residual(layer + 1), []
    try:
        with recording(list(sites.values())) as seen:
            left = tape.run_block(layer, tape.residual(layer))
    except ModelError:  # nothing passes through a site: the sum will show it
        pass
    return left, {name: value for name, value in zip(sites, seen, strict=True) if value is not None}
