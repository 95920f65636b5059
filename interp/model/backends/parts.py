"""The parts of a Hugging Face causal language model, found under the names of any architecture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import ModelError
from interp.model.backends.base import Facts
from interp.model.backends.effective import effective_weight
from interp.model.backends.names import (
    ATTENTION_OUTPUT_NORMS,
    ATTENTIONS,
    BRANCH_SCALES,
    D_MLP,
    D_MODEL,
    DOWN_PROJECTIONS,
    LOGIT_SCALES,
    MLP_NORMS,
    MLP_OUTPUT_NORMS,
    MLPS,
    MULTIPLIED_LOGITS,
    N_HEADS,
    N_LAYERS,
    OUT_PROJECTIONS,
    PARALLEL,
    PROJECTIONS_IN,
    SOFT_CAPS,
)
from interp.model.backends.structure import context_length, first
from interp.model.sites import Site, SiteName
from interp.model.sites.site import residual_site
from interp.model.weights import matrix_shape


def facts_of(model: Any, name: str) -> Facts:
    """Read a model's shape from its config and modules."""
    config = model.config.get_text_config()
    layers = layer_list(model)
    return Facts(
        name=name,
        architecture=type(model).__name__,
        n_layers=len(layers[1]),
        n_heads=int(first(config, N_HEADS, 1)),
        d_model=int(first(config, D_MODEL, matrix_shape(model.get_input_embeddings())[1])),
        d_mlp=d_mlp(model),
        d_vocab=matrix_shape(model.get_output_embeddings())[0],
        d_embedding=matrix_shape(model.get_input_embeddings())[0],
        n_ctx=context_length(config),
    )


def layer_list(model: Any) -> tuple[str, nn.ModuleList]:
    """Return the dotted path of the model's list of blocks, and the list."""
    config = model.config.get_text_config()
    n_layers = first(config, N_LAYERS, None)
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return path, module
    raise ModelError(f"{type(model).__name__} has no list of {n_layers} blocks; interp cannot record it.")


def beside_blocks(model: Any, known: tuple[str, ...]) -> str | None:
    """Return the dotted path of the module of one of these names beside the list of blocks, or None.

    A final norm of an unknown name is not found here; `interp.model.verification` refuses such a model.
    """
    parent_path = layer_list(model)[0].rpartition(".")[0]
    parent = model.get_submodule(parent_path)
    name = next((name for name in known if _is_module(parent, name)), None)
    return f"{parent_path}.{name}" if name and parent_path else name


def projected(weight: Tensor, model: Any, known: tuple[str, ...]) -> Tensor:
    """Return the vectors of an embedding or unembedding [d_vocab, d] in the residual stream, [d_vocab, d_model].

    Args:
        weight: of the embedding or unembedding.
        model: a Hugging Face model.
        known: names of the projection between the embedding's width and the residual stream's, if there is one.
    """
    path = beside_blocks(model, known)
    if path is None:
        return weight
    matrix = effective_weight(model.get_submodule(path), f"the projection {path!r}")
    return weight @ (matrix.T if known is PROJECTIONS_IN else matrix)


def head_path(model: Any) -> str:
    """Return the dotted path of the unembedding."""
    head = model.get_output_embeddings()
    return next(path for path, module in model.named_modules() if module is head)


def mid_reader(model: Any) -> str:
    """Return the name of the module in each block whose input is the residual between attention and MLP.

    Raises:
        ModelError: there is no such residual.
    """
    config, block = model.config.get_text_config(), layer_list(model)[1][0]
    has = {name for name, _ in block.named_children()}
    # OLMo-2 normalises the outputs of attention and MLP, not their inputs: its MLP reads the residual itself.
    reads_residual = "post_feedforward_layernorm" in has and "pre_feedforward_layernorm" not in has
    known = ("mlp",) if reads_residual else MLP_NORMS
    found = next((name for name in known if name in has), None)
    if found is None or any(getattr(config, flag, False) for flag in PARALLEL):
        raise ModelError(
            f"{type(model).__name__} has no residual between attention and MLP (its parts run in parallel); "
            "pass sublayers=False."
        )
    return found


def output_transform(config: Any) -> Any:
    """Return the model's transform of its logits after the unembedding: a soft cap, a scale, or the identity."""
    config = config.get_text_config()
    soft_cap = first(config, SOFT_CAPS, None)
    divisor = float(getattr(config, "logits_scaling", None) or 1.0)
    scale = float(first(config, LOGIT_SCALES, None) or 1.0)
    scale *= divisor if config.model_type in MULTIPLIED_LOGITS else 1 / divisor

    def transform(logits: Tensor) -> Tensor:
        if soft_cap is not None:
            logits = torch.tanh(logits / soft_cap) * soft_cap
        return logits * scale if scale != 1.0 else logits

    return transform


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
    module, end, item = None, "output", 0
    if name == "pattern":
        module, item = attention_of(block), 1
    elif name == "neurons":
        module, end = down_projection(block), "input"
    elif name == "attn_out":
        module = _attention_output(block)
    elif name == "mlp_out":
        module = _mlp_output(block)
    if module is None:
        raise ModelError(f"block {layer} of a {type(model).__name__} shows no {name} under a known name.")
    scale = branch_scale(block) if name in ("attn_out", "mlp_out") else 1.0
    return Site(f"{name} of block {layer}", module, end, item, block, scale)  # type: ignore[arg-type]


def _embedding_output(model: Any) -> nn.Module:
    path = beside_blocks(model, PROJECTIONS_IN)
    module: nn.Module = model.get_input_embeddings() if path is None else model.get_submodule(path)
    return module


def branch_scale(block: nn.Module) -> float:
    """Return the constant that a block multiplies the outputs of attention and MLP by (Granite); 1 for most."""
    found = (getattr(block, name, None) for name in BRANCH_SCALES)
    return next((value for value in found if isinstance(value, float)), 1.0)


def _attention_output(block: nn.Module) -> nn.Module | None:
    """Return the last module of the attention branch: a norm after it, or the attention's last matrix."""
    children, attention = dict(block.named_children()), attention_of(block)
    if attention is None:
        return None
    # With a norm after the MLP there is one after the attention too; else the name means the norm before the MLP.
    if any(name in children for name in MLP_OUTPUT_NORMS):
        return next((children[name] for name in ATTENTION_OUTPUT_NORMS if name in children), None)
    return _named(attention, OUT_PROJECTIONS) or attention


def _mlp_output(block: nn.Module) -> nn.Module | None:
    """Return the last module of the MLP branch: a norm after it, the mixture's module, or the MLP's last matrix."""
    children = dict(block.named_children())
    norm = next((children[name] for name in MLP_OUTPUT_NORMS if name in children), None)
    if norm is not None:
        return norm
    if _is_mixture(block):
        return next((children[name] for name in MLPS if name in children), None)
    return _found_down_projection(block)


def attention_of(block: nn.Module) -> nn.Module | None:
    """Return a block's attention module, or None if it has none under a known name."""
    children = dict(block.named_children())
    return next((children[one] for one in ATTENTIONS if one in children), None)


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """Use the attention kernel that returns the attention pattern inside the `with` block."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = before


def down_projection(block: nn.Module) -> Any:
    """Return the last linear map of the block's MLP, whose inputs are its neurons.

    Raises:
        ModelError: the block has no single MLP (a mixture of experts), or an MLP of unknown structure.
    """
    if _is_mixture(block):
        raise ModelError(f"a {type(block).__name__} is a mixture of experts: no single MLP, so no neurons.")
    found = _found_down_projection(block)
    if found is None:
        raise ModelError(f"{type(block).__name__} has no MLP output projection under a known name.")
    return found


def _found_down_projection(block: nn.Module) -> nn.Module | None:
    scope = next((getattr(block, name) for name in MLPS if _is_module(block, name)), block)
    paths = ((path, module) for path, module in scope.named_modules() if "attn" not in path)
    return next((module for path, module in paths if path.rpartition(".")[2] in DOWN_PROJECTIONS), None)


def _is_mixture(block: nn.Module) -> bool:
    return any("experts" in path for path, _ in block.named_modules())


def _is_module(scope: Any, name: str) -> bool:
    return isinstance(getattr(scope, name, None), nn.Module)


def _named(scope: nn.Module, known: tuple[str, ...]) -> nn.Module | None:
    return next((module for path, module in scope.named_modules() if path.rpartition(".")[2] in known), None)


def d_mlp(model: Any) -> int:
    """Return the number of neurons per MLP; for a mixture of experts, per expert by its config."""
    try:
        return matrix_shape(down_projection(layer_list(model)[1][0]))[1]
    except ModelError:
        return int(first(model.config.get_text_config(), D_MLP, 0) or 0)


def part_of(model: Any, path: str) -> Any:
    """Return what a dotted path leads to in a model, or in what stands for it."""
    for name in path.split("."):
        model = getattr(model, name)
    return model
