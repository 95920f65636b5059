"""Copies, modes, hooks and configs of Hugging Face models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import ModelError
from interp.model.backends.drawing import portable_draws
from interp.model.backends.names import N_CTX, NOT_NUMBERS
from interp.model.weights import version


def context_length(config: Any) -> int:
    """Return the longest prompt in tokens; a million if positions need no table and the config sets no limit."""
    length = int(first(config.get_text_config(), N_CTX, 0))
    return length if length > 0 else 1 << 20  # XLNet says -1


def deciding_config(config: Any) -> dict[str, Any]:
    """Return the non-default config values that can change the outputs."""
    differing: Mapping[str, Any] = config.to_diff_dict()
    return {key: value for key, value in differing.items() if not key.startswith("_") and key not in NOT_NUMBERS}


def untrained(model: Any, keep_embeddings: bool) -> Any:
    """Return a model of the same class and config with weights initialised from torch's global generator.

    They are the same on every processor, see `portable_draws`. With `keep_embeddings`, token and position embeddings
    and the unembedding are those of `model`.
    """
    with portable_draws():
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
    """Unembed only positions ends [batch, n] of each row inside the `with` block: logits are [batch, n, d_vocab]."""

    def narrowed(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = args[0]
        at = ends.to(hidden.device)
        return hidden[torch.arange(len(at), device=hidden.device)[:, None], at], *args[1:]

    handle = head.register_forward_pre_hook(narrowed)
    try:
        yield
    finally:
        handle.remove()


def cached_step(model: Any, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
    """Return the logits [batch, d_vocab] after the last of new tokens [batch, pos], and the cache; see `Backend`."""
    ends = torch.full((len(ids), 1), ids.shape[1] - 1)
    with torch.no_grad(), evaluating(model), unembedding_only(ends, model.get_output_embeddings()):
        out = model(input_ids=ids, use_cache=True, past_key_values=cache)
    return out.logits[:, 0], out.past_key_values


def tree_logits(model: Any, ids: Tensor, above: Tensor, at: Tensor) -> Tensor:
    """Return the logits [n, d_vocab] after tokens `at` [n] of a tree of texts; see `Backend.tree_logits`."""
    dtype = next(model.parameters()).dtype
    # Numbers to add, which all kernels of attention take. A model leaves a mask of four dimensions as it is.
    mask = torch.zeros(above.shape, dtype=dtype).masked_fill(~above, torch.finfo(dtype).min).to(ids.device)
    places = (above.sum(dim=1) - 1).to(ids.device)
    with torch.no_grad(), evaluating(model), unembedding_only(at[None], model.get_output_embeddings()):
        found = model(input_ids=ids[None], attention_mask=mask[None, None], position_ids=places[None], use_cache=False)
    logits: Tensor = found.logits[0]
    return logits


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
    # A class of the model's own, whose code the user trusted, or the config could not have been read.
    own = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if masked or could_mask or not (own or config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        raise ModelError(
            f"{name!r} is not a causal language model ({', '.join(architectures) or config.model_type}); "
            "interp studies models that predict the next token, such as GPT-2, Llama or Pythia."
        )


def _is_encoder_family(model_type: str) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def first(config: Any, fields: tuple[str, ...], default: Any) -> Any:
    """Return the first of these config fields that is set."""
    return next((value for name in fields if (value := getattr(config, name, None)) is not None), default)
