"""The sites of a Hugging Face model, found under the names of any architecture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import ModelError
from interp.model.backends.effective import effective_weight, is_ordinary
from interp.model.backends.matrices import attention_matrices
from interp.model.backends.names import (
    ATTENTION_NORMS,
    ATTENTION_OUTPUT_NORMS,
    FUSED_GATES,
    MATRICES,
    MLP_NORMS,
    MLP_OUTPUT_NORMS,
    MLPS,
    N_HEADS,
    OUT_PROJECTIONS,
    PROJECTIONS_IN,
    ROUTERS,
    Z_NORMS,
)
from interp.model.backends.parts import (
    attention_of,
    beside_blocks,
    branch_scale,
    down_projection,
    found_down_projection,
    is_mixture,
    is_module,
    layer_list,
    named,
)
from interp.model.backends.structure import first
from interp.model.sites.site import Site, SiteName, residual_site, softmax_site
from interp.model.sites.views import FirstHalf, HeadOutputs, Heads, StoredWeight
from interp.model.weights import WeightMatrix, is_transposed, matrix_shape


def site(model: Any, name: SiteName, layer: int) -> Site:
    """Return the site of a value in a Hugging Face model, see `interp.model.sites`.

    Raises:
        ModelError: the architecture does not expose it under a known name.
    """
    if name == "embed":
        return Site("the token embedding", _embedding_output(model))
    block = layer_list(model)[1][layer]
    if name.startswith("resid"):
        return residual_site(name, layer, block, lambda: site(model, "attn_out", layer))
    module, end = None, "output"
    if name == "neurons":
        module, end = down_projection(block), "input"
    elif name == "attn_out":
        module = _attention_output(block)
    elif name == "mlp_out":
        module = _mlp_output(block)
    elif name in ("norm1", "norm2"):
        known, children = ATTENTION_NORMS if name == "norm1" else MLP_NORMS, dict(block.named_children())
        module = next((children[one] for one in known if one in children), None)
    elif name == "router":
        return router_site(block, layer, block, f"block {layer} of a {type(model).__name__}")
    elif name == "neurons_pre":
        return _neurons_pre(model, layer, block)
    else:
        return _attention_site(model, name, layer, block)
    if module is None:
        raise _not_shown(model, name, layer)
    scale = branch_scale(block) if name in ("attn_out", "mlp_out") else 1.0
    return Site(f"{name} of block {layer}", module, end, 0, block, scale)  # type: ignore[arg-type]


def router_site(scope: nn.Module, layer: int, block: nn.Module, where: str) -> Site:
    """Return the site of the logits of a router, found inside a Hugging Face module.

    Raises:
        ModelError: there is none under a known name.
    """
    mixture = next((getattr(scope, one) for one in MLPS if is_module(scope, one)), scope)
    router = next((getattr(mixture, one) for one in ROUTERS if is_module(mixture, one)), None)
    if router is None or not is_mixture(mixture):
        raise ModelError(f"{where} shows no router under a known name.")
    return Site(f"router of block {layer}", router, "linear", block=block)


def _neurons_pre(model: Any, layer: int, block: nn.Module) -> Site:
    if is_mixture(block):
        where = f"block {layer} of a {type(model).__name__}"
        raise ModelError(f"{where} is a mixture of experts: no single MLP, so no neurons_pre.")
    attention = attention_of(block)
    inside = set() if attention is None else set(attention.modules())
    found = {path.rpartition(".")[2]: one for path, one in block.named_modules() if one not in inside}
    label = f"neurons_pre of block {layer}"
    for known, view in ((MATRICES["mlp_gate"], None), (FUSED_GATES, FirstHalf()), (MATRICES["mlp_in"], None)):
        module = next((found[one] for one in known if one in found), None)
        if module is not None:
            return Site(label, module, block=block, view=view)
    raise _not_shown(model, "neurons_pre", layer)


def _attention_site(model: Any, name: SiteName, layer: int, block: nn.Module) -> Site:
    attention = attention_of(block)
    projection = None if attention is None else named(attention, OUT_PROJECTIONS)
    if attention is None or projection is None:
        raise _not_shown(model, name, layer)
    label, n_heads = f"{name} of block {layer}", int(first(model.config.get_text_config(), N_HEADS, 1))
    if name in ("scores", "pattern"):
        return softmax_site(name, layer, attention, block, sinks=hasattr(attention, "sinks"))
    if name == "z":
        module = named(attention, Z_NORMS) or projection
        return Site(label, module, "input", block=block, view=Heads(n_heads))
    if name == "head_out":
        scale = branch_scale(block)
        if is_ordinary(projection):
            weight: Tensor | StoredWeight = StoredWeight(projection, is_transposed(projection), scale)
        else:
            weight = effective_weight(projection, f"the attention of block {layer}") * scale
        view = HeadOutputs(weight, n_heads)
        return Site(label, projection, block=block, scale=scale, view=view, beside=projection)
    matrix = next((one for one in attention_matrices(model, layer) if one.component == name), None)
    if matrix is None:
        raise _not_shown(model, name, layer)
    places = _places(matrix)
    heads = Heads(n_heads, places=places)
    if name != "q":  # keys and values may be fewer
        heads = Heads(size=matrix_shape(projection)[1] // n_heads, places=places)
    return Site(label, matrix.module, block=block, view=heads)


def _places(matrix: WeightMatrix) -> Tensor | None:
    """Return which outputs of a module are those of a matrix in it; None if all are, in order."""
    n_out, n_in = matrix_shape(matrix.module)
    numbers = torch.arange(n_out)
    transposed = is_transposed(matrix.module)
    places = matrix.view(numbers.expand(n_in, n_out) if transposed else numbers[:, None].expand(n_out, n_in))
    places = places[..., 0].flatten()
    return None if torch.equal(places, numbers) else places


def _not_shown(model: Any, name: SiteName, layer: int) -> ModelError:
    return ModelError(f"block {layer} of a {type(model).__name__} shows no {name} under a known name.")


def _embedding_output(model: Any) -> nn.Module:
    path = beside_blocks(model, PROJECTIONS_IN)
    module: nn.Module = model.get_input_embeddings() if path is None else model.get_submodule(path)
    return module


def _attention_output(block: nn.Module) -> nn.Module | None:
    """Return the last module of the attention branch: a norm after it, or the attention's last matrix."""
    children, attention = dict(block.named_children()), attention_of(block)
    if attention is None:
        return None
    # With a norm after the MLP there is one after the attention too; else the name means the norm before the MLP.
    if any(name in children for name in MLP_OUTPUT_NORMS):
        return next((children[name] for name in ATTENTION_OUTPUT_NORMS if name in children), None)
    return named(attention, OUT_PROJECTIONS) or attention


def _mlp_output(block: nn.Module) -> nn.Module | None:
    """Return the last module of the MLP branch: a norm after it, the mixture's module, or the MLP's last matrix."""
    children = dict(block.named_children())
    norm = next((children[name] for name in MLP_OUTPUT_NORMS if name in children), None)
    if norm is not None:
        return norm
    if is_mixture(block):
        return next((children[name] for name in MLPS if name in children), None)
    return found_down_projection(block)
