"""The sites of a `TransformerBridge`: at its own hook points where it has them."""

from __future__ import annotations

from typing import Any

from interp.errors import ModelError
from interp.model.backends.base import Facts
from interp.model.backends.effective import effective_weight
from interp.model.backends.huggingface_sites import router_site
from interp.model.backends.names import Z_NORMS
from interp.model.backends.parts import named
from interp.model.sites.site import Site, SiteName, residual_site, softmax_site
from interp.model.sites.views import HeadOutputs, Heads
from interp.model.weights import matrix_shape

_HOOKS: dict[SiteName, str] = {
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "neurons": "mlp.out.hook_in",
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
    if name in ("norm1", "norm2", "neurons_pre", "router"):
        return _other_site(name, layer, block, facts)
    if name not in _HOOKS:
        return _attention_site(name, layer, block, facts)
    hook = bridge.hook_dict.get(f"blocks.{layer}.{_HOOKS[name]}")
    if hook is None:
        raise _not_shown(name, layer, facts)
    if name in _UNSCALED and hasattr(block, "residual_contribution_scale"):
        # Nothing but TransformerLens's own hooks fires the hook of the product.
        hook, scale = getattr(block, _UNSCALED[name]).hook_out, block.residual_contribution_scale
    return Site(f"{name} of block {layer}", hook, block=block, scale=scale)


def _other_site(name: SiteName, layer: int, block: Any, facts: Facts) -> Site:
    mlp = getattr(block, "mlp", None)
    if name == "router":
        original = getattr(block, "original_component", block)
        return router_site(original, layer, block, f"block {layer} of {facts.name!r} ({facts.architecture})")
    if name == "neurons_pre":
        module = getattr(mlp, "gate", None) or getattr(mlp, "in", None)
    else:
        module = getattr(block, "ln1" if name == "norm1" else "ln2", None)
    if module is None:
        raise _not_shown(name, layer, facts)
    return Site(f"{name} of block {layer}", module, block=block)


def _attention_site(name: SiteName, layer: int, block: Any, facts: Facts) -> Site:
    attention = getattr(block, "attn", None)
    projection = getattr(attention, "o", None)
    if attention is None or projection is None:
        raise _not_shown(name, layer, facts)
    label, n_heads, original = f"{name} of block {layer}", facts.n_heads, attention.original_component
    if name in ("scores", "pattern"):
        return softmax_site(name, layer, attention, block, sinks=hasattr(original, "sinks"))
    if name == "z":
        return Site(label, named(original, Z_NORMS) or projection, "input", block=block, view=Heads(n_heads))
    if name == "head_out":
        scale = getattr(block, "residual_contribution_scale", 1.0)
        weight = effective_weight(projection.original_component, f"the attention of block {layer}") * scale
        return Site(label, projection, block=block, scale=scale, view=HeadOutputs(weight, n_heads), beside=projection)
    module = getattr(attention, name, None)
    if module is None:
        raise _not_shown(name, layer, facts)
    d_head = matrix_shape(projection.original_component)[1] // n_heads
    return Site(label, module, block=block, view=Heads(n_heads) if name == "q" else Heads(size=d_head))


def _not_shown(name: SiteName, layer: int, facts: Facts) -> ModelError:
    return ModelError(f"block {layer} of {facts.name!r} ({facts.architecture}) shows no {name}.")
