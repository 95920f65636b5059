"""The sites that can be patched, and which of them the architecture shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from interp.authoring import InputError, Layers, Subject, UnknownName, layers_of, whole_numbers
from interp.model.sites import Site, SiteName
from probes.patching._states import RESIDUALS, Key, key_of

SiteNames: TypeAlias = str | Sequence[str]
"""A site, or several."""

INSIDE = ("resid_mid", "attn_out", "mlp_out", "norm1", "norm2", "neurons_pre", "neurons", "router")
WITH_HEADS = ("q", "k", "v", "scores", "pattern", "z", "head_out")


@dataclass(frozen=True)
class Place:
    """A site of a block."""

    site: str
    layer: int

    @property
    def key(self) -> Key:
        """See `probes.patching._states.Key`."""
        return key_of(self.site, self.layer)


def places_of(subject: Subject, sites: SiteNames, layers: Layers) -> list[Place]:
    """Return the places to patch, site by site.

    Raises:
        UnknownName: there is no such site.
        InputError: there is no such block, no site was named, or it is of no block.
    """
    named = list(dict.fromkeys([sites] if isinstance(sites, str) else sites))
    known = (*RESIDUALS, *INSIDE, *WITH_HEADS)
    if not named:
        raise InputError(f"sites is empty; name at least one of {', '.join(known)}.")
    for name in named:
        if name == "embed":
            raise InputError(
                "embed is of no block: patch resid_pre with layers=0, which differs between runs as it does."
            )
        if name not in known:
            raise UnknownName("site", name, known)
    blocks = layers_of(layers, subject.n_layers - 1, subject.name)
    return [Place(name, layer) for name in named for layer in blocks]


def sites_of(subject: Subject, places: Sequence[Place]) -> dict[Key, Site]:
    """Return the sites inside blocks, those between blocks being on every tape.

    Raises:
        ModelError: the architecture does not show one.
    """
    inside = [place for place in places if place.site not in RESIDUALS]
    return {place.key: subject.site(cast(SiteName, place.site), place.layer) for place in inside}


def heads_of(subject: Subject, places: Sequence[Place], heads: Layers) -> list[int] | None:
    """Return the heads to patch one by one; None for all of a site.

    Raises:
        InputError: there is no such head, or no site has heads.
    """
    if heads is None or isinstance(heads, str):
        return None
    if not any(place.site in WITH_HEADS for place in places):
        raise InputError(f"heads={heads!r}: none of these sites has heads; leave it out.")
    found = set()
    for head in whole_numbers(heads, "heads"):
        if not -subject.n_heads <= head < subject.n_heads:
            raise InputError(f"head {head} is not in {subject.name!r}: heads run from 0 to {subject.n_heads - 1} here.")
        found.add(head % subject.n_heads)
    return sorted(found)
