"""The parts of a Hugging Face causal language model, found under the names of any architecture."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import ModelError
from interp.model.backends.base import Facts
from interp.model.backends.names import (
    ATTENTIONS,
    D_MLP,
    D_MODEL,
    DOWN_PROJECTIONS,
    FINAL_NORMS,
    MLP_NORMS,
    N_CTX,
    N_HEADS,
    N_LAYERS,
    NOT_NUMBERS,
    OUT_PROJECTIONS,
    PARALLEL,
)
from interp.model.sites import Site, SiteName
from interp.model.weights import version


def facts_of(model: Any, name: str) -> Facts:
    """Read a model's shape from its config and modules."""
    config = model.config.get_text_config()
    embedding = model.get_input_embeddings().weight
    layers = layer_list(model)
    return Facts(
        name=name,
        architecture=type(model).__name__,
        n_layers=len(layers[1]),
        n_heads=int(_first(config, N_HEADS, 1)),
        d_model=int(_first(config, D_MODEL, embedding.shape[1])),
        d_mlp=d_mlp(model),
        d_vocab=int(model.get_output_embeddings().weight.shape[0]),
        n_ctx=context_length(config),
    )


def context_length(config: Any) -> int:
    """Return the longest prompt in tokens; a million if positions need no table and the config sets no limit."""
    return int(_first(config.get_text_config(), N_CTX, 1 << 20))


def deciding_config(config: Any) -> dict[str, Any]:
    """Return the non-default config values that can change the outputs."""
    differing: Mapping[str, Any] = config.to_diff_dict()
    return {key: value for key, value in differing.items() if not key.startswith("_") and key not in NOT_NUMBERS}


def shared_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the module tree with the same tensors: changes of its modules do not reach the original."""
    memo = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    try:
        return copy.deepcopy(model, memo)
    except RuntimeError as error:  # a non-leaf tensor outside parameters and buffers, kept between calls
        raise ModelError(f"a {type(model).__name__} keeps state between calls; interp cannot copy it.") from error


def untrained(model: Any, keep_embeddings: bool) -> Any:
    """Return a model of the same class and config with weights initialised from torch's global generator.

    With `keep_embeddings`, token and position embeddings and the unembedding are those of `model`.
    """
    fresh = type(model)._from_config(copy.deepcopy(model.config), dtype=next(model.parameters()).dtype)
    if keep_embeddings:
        copy_embeddings((model, model.get_output_embeddings()), (fresh, fresh.get_output_embeddings()))
    return fresh.to(next(model.parameters()).device).eval()


@torch.no_grad()
def copy_embeddings(source: tuple[nn.Module, nn.Module], target: tuple[nn.Module, nn.Module]) -> None:
    """Copy the weights of all embeddings and the unembedding between models of one class, each (model, unembedding)."""
    parts = [[m for m in model.modules() if isinstance(m, nn.Embedding)] + [head] for model, head in (source, target)]
    for own, other in zip(*parts, strict=True):
        for weight, fresh in zip(own.parameters(), other.parameters(), strict=True):
            fresh.copy_(weight)


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put models in evaluation mode inside the `with` block, and restore each module's own mode after it."""
    training = [module for model in models for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def unembedding_only(ends: Tensor, head: nn.Module) -> Iterator[None]:
    """Unembed only position ends [batch] of each row inside the `with` block: logits are [batch, 1, d_vocab]."""

    def narrowed(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = args[0]
        at = ends.to(hidden.device)
        return hidden[torch.arange(len(at), device=hidden.device), at, None], *args[1:]

    handle = head.register_forward_pre_hook(narrowed)
    try:
        yield
    finally:
        handle.remove()


def forward_hooks(modules: Iterable[nn.Module]) -> Iterator[Callable[..., Any]]:
    """Yield all forward hooks and forward pre-hooks of these modules."""
    for module in modules:
        yield from module._forward_hooks.values()
        yield from module._forward_pre_hooks.values()


def weight_versions(modules: Iterable[nn.Module]) -> list[tuple[int, int]]:
    """Return the identity and the write count of every weight: equal lists mean unchanged weights."""
    weights = (weight for module in modules for weight in module._parameters.values() if weight is not None)
    return [(id(weight), version(weight)) for weight in weights]


def require_causal(config: Any, name: str) -> None:
    """Refuse encoders and encoder-decoders by their config, before any weight is read."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    architectures = list(getattr(config, "architectures", None) or [])
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name!r} is an encoder-decoder ({config.model_type}); interp studies causal language models."
        )
    masked = any("MaskedLM" in architecture for architecture in architectures)
    # BERT and similar models are listed as causal language models too, but they are causal only with is_decoder.
    could_mask = _is_encoder_family(config.model_type) and not getattr(config, "is_decoder", False)
    if masked or could_mask or config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"{name!r} is not a causal language model ({', '.join(architectures) or config.model_type}); "
            "interp studies models that predict the next token, such as GPT-2, Llama or Pythia."
        )


def _is_encoder_family(model_type: str) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def layer_list(model: Any) -> tuple[str, nn.ModuleList]:
    """Return the dotted path of the model's list of blocks, and the list."""
    config = model.config.get_text_config()
    n_layers = _first(config, N_LAYERS, None)
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return path, module
    raise ModelError(f"{type(model).__name__} has no list of {n_layers} blocks; interp cannot record it.")


def final_norm_path(model: Any) -> str:
    """Return the dotted path of the norm between the last block and the unembedding."""
    parent_path = layer_list(model)[0].rpartition(".")[0]
    parent = model.get_submodule(parent_path)
    for name in FINAL_NORMS:
        if isinstance(getattr(parent, name, None), nn.Module):
            return f"{parent_path}.{name}" if parent_path else name
    raise ModelError(f"{type(model).__name__} has no final norm under a known name; interp cannot read its residuals.")


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
    soft_cap = getattr(config, "final_logit_softcapping", None)
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)

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
        return Site("the token embedding", model.get_input_embeddings())
    block = layer_list(model)[1][layer]
    children = dict(block.named_children())
    attention = attention_of(block)
    # A sandwich norm is applied to the output of attention or MLP before it is added to the residual stream.
    sandwich = "post_feedforward_layernorm" in children
    module, end, item = None, "output", 0
    if name == "pattern":
        module, item = attention, 1
    elif name == "neurons":
        module, end = _down_projection_module(block), "input"
    elif name == "attn_out" and attention is not None:
        module = children["post_attention_layernorm"] if sandwich else _named(attention, OUT_PROJECTIONS)
    elif name == "mlp_out":
        experts = any("experts" in path for path, _ in block.named_modules())
        module = children.get("mlp") if experts else _down_projection_module(block)
        module = children["post_feedforward_layernorm"] if sandwich else module
    if module is None:
        raise ModelError(f"block {layer} of a {type(model).__name__} shows no {name} under a known name.")
    return Site(f"{name} of block {layer}", module, end, item, block)  # type: ignore[arg-type]


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


def down_projection(block: nn.Module) -> Tensor:
    """Return the output vector of each neuron of the block's MLP, [d_mlp, d_model].

    Raises:
        ModelError: the block has no single MLP (a mixture of experts), or an MLP of unknown structure.
    """
    module = _down_projection_module(block)
    weight: Tensor = module.weight
    # GPT-2's Conv1D stores [in, out]; every Linear stores [out, in].
    return weight if type(module).__name__ == "Conv1D" else weight.T


def _down_projection_module(block: nn.Module) -> Any:
    if any("experts" in path for path, _ in block.named_modules()):
        raise ModelError(f"a {type(block).__name__} is a mixture of experts: no single MLP, so no neurons.")
    scope = getattr(block, "mlp", block)
    for path, module in scope.named_modules():
        if path.rpartition(".")[2] in DOWN_PROJECTIONS and "attn" not in path:
            return module
    raise ModelError(f"{type(block).__name__} has no MLP output projection under a known name.")


def _named(scope: nn.Module, known: tuple[str, ...]) -> nn.Module | None:
    return next((module for path, module in scope.named_modules() if path.rpartition(".")[2] in known), None)


def d_mlp(model: Any) -> int:
    """Return the number of neurons per MLP; for a mixture of experts, per expert by its config."""
    try:
        return int(down_projection(layer_list(model)[1][0]).shape[0])
    except ModelError:
        return int(_first(model.config.get_text_config(), D_MLP, 0) or 0)


def _first(config: Any, fields: tuple[str, ...], default: Any) -> Any:
    return next((value for name in fields if (value := getattr(config, name, None)) is not None), default)
