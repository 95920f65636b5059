"""The sites of a `TransformerBridge`: at its own hook points where it has them."""

from __future__ import annotations

from typing import Any

from interp.errors import ModelError
from interp.model.backends.base import Facts
from interp.model.sites.site import Site, SiteName, residual_site

_HOOKS: dict[SiteName, str] = {
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "neurons": "mlp.out.hook_in",
    "pattern": "attn.hook_pattern",
}
_UNSCALED: dict[SiteName, str] = {"attn_out": "attn", "mlp_out": "mlp"}


def site(bridge: Any, name: SiteName, layer: int, facts: Facts) -> Site:
    """Return the site of a value, see `interp.model.sites`.

    Raises:
        ModelError: the bridge has no such hook point there.
    """
    if name == "embed":
        embedding = getattr(bridge, "project_in", bridge.embed)
        scaled = getattr(embedding, "_output_contribution_scale", 1.0) != 1.0  # then only its own hooks fire it
        return Site("the token embedding", embedding if scaled else embedding.hook_out)
    block, scale = bridge.blocks[layer], 1.0
    if name.startswith("resid"):
        return residual_site(name, layer, block, lambda: site(bridge, "attn_out", layer, facts))
    hook = bridge.hook_dict.get(f"blocks.{layer}.{_HOOKS[name]}")
    if hook is None:
        raise ModelError(f"block {layer} of {facts.name!r} ({facts.architecture}) shows no {name}.")
    if name in _UNSCALED and hasattr(block, "residual_contribution_scale"):
        # Nothing but TransformerLens's own hooks fires the hook of the product.
        hook, scale = getattr(block, _UNSCALED[name]).hook_out, block.residual_contribution_scale
    return Site(f"{name} of block {layer}", hook, block=block, scale=scale)
