"""The parts of a Hugging Face causal language model, found under the names of any architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import ModelError
from interp.model.backends.base import Facts
from interp.model.backends.effective import effective_weight
from interp.model.backends.names import (
    ATTENTIONS,
    BRANCH_SCALES,
    D_MLP,
    D_MODEL,
    DOWN_PROJECTIONS,
    LOGIT_SCALES,
    MLP_NORMS,
    MLPS,
    MULTIPLIED_LOGITS,
    N_HEADS,
    N_LAYERS,
    PARALLEL,
    PROJECTIONS_IN,
    SOFT_CAPS,
)
from interp.model.backends.structure import context_length, first
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
    name = next((name for name in known if is_module(parent, name)), None)
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


def branch_scale(block: nn.Module) -> float:
    """Return the constant that a block multiplies the outputs of attention and MLP by (Granite); 1 for most."""
    found = (getattr(block, name, None) for name in BRANCH_SCALES)
    return next((value for value in found if isinstance(value, float)), 1.0)


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
    if is_mixture(block):
        raise ModelError(f"a {type(block).__name__} is a mixture of experts: no single MLP, so no neurons.")
    found = found_down_projection(block)
    if found is None:
        raise ModelError(f"{type(block).__name__} has no MLP output projection under a known name.")
    return found


def found_down_projection(block: nn.Module) -> nn.Module | None:
    """Return the last linear map of a block's MLP, or None if it has none under a known name."""
    scope = next((getattr(block, name) for name in MLPS if is_module(block, name)), block)
    paths = ((path, module) for path, module in scope.named_modules() if "attn" not in path)
    return next((module for path, module in paths if path.rpartition(".")[2] in DOWN_PROJECTIONS), None)


def is_mixture(block: nn.Module) -> bool:
    """Tell whether a block holds experts."""
    return any("experts" in path for path, _ in block.named_modules())


def is_module(scope: Any, name: str) -> bool:
    """Tell whether a module has a child of this name."""
    return isinstance(getattr(scope, name, None), nn.Module)


def named(scope: nn.Module, known: tuple[str, ...]) -> nn.Module | None:
    """Return the first module inside another that has one of these names, or None."""
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


def tag_modules(model: Any) -> None:
    """Give all modules the ids that nnsight gives them when it sends them, by which those of sites are found there."""
    for envoy in model.modules():
        envoy._module._persistent_id = f"Module:{envoy.path}"


def through(modules: Sequence[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    """Return a function that applies these one after the other."""

    def whole(residual: Tensor) -> Tensor:
        for module in modules:
            residual = module(residual)
        return residual

    return whole
