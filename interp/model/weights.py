"""The weight matrices of a model's blocks, under one name and shape for all architectures.

A matrix is read as [out, in]: row i writes coordinate i of the output. If a model keeps several matrices in one
parameter (the fused queries, keys and values of GPT-2 and GPT-NeoX), each is a part of that parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from interp.errors import InputError, ModelError

Component: TypeAlias = Literal["q", "k", "v", "o", "mlp_in", "mlp_gate", "mlp_out"]
COMPONENTS: tuple[Component, ...] = ("q", "k", "v", "o", "mlp_in", "mlp_gate", "mlp_out")

_PATHS: dict[Component, str] = {component: f"attn.{component}" for component in COMPONENTS[:4]} | {
    "mlp_in": "mlp.in",
    "mlp_gate": "mlp.gate",
    "mlp_out": "mlp.out",
}


class Vocabularies(Protocol):
    """A model with a name, and the numbers of tokens that it predicts and embeds."""

    name: str
    d_vocab: int
    d_embedding: int


@dataclass(frozen=True, eq=False)
class WeightMatrix:
    """A weight matrix of attention or MLP.

    Attributes:
        layer: its block.
        component: its role there.
        module: the module that multiplies by it; it reads its `weight` anew in every forward pass.
        view: parameter -> the part that is this matrix, sharing memory: [out, in], or [head, d_head, in].
    """

    layer: int
    component: Component
    module: nn.Module
    view: Callable[[Tensor], Tensor]

    @property
    def name(self) -> str:
        """The name in both backends, such as "blocks.3.mlp.in.weight"."""
        return f"blocks.{self.layer}.{_PATHS[self.component]}.weight"

    @property
    def weight(self) -> Tensor:
        """The current weights, [out, in] or [head, d_head, in]."""
        return self.view(self.module.weight.detach())  # type: ignore[operator,arg-type]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape, [out, in]."""
        shape = self.weight.shape
        return shape[:-1].numel(), shape[-1]


_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def is_plain(module: nn.Module) -> bool:
    """Tell whether a module's `weight` is the matrix it multiplies by: no quantised storage, no adapter around it."""
    weight = module._parameters.get("weight")
    if weight is None or type(weight) not in (Tensor, nn.Parameter) or hasattr(module, "base_layer"):
        return False
    return weight.dtype in _FLOATS and weight.ndim == 2


def wrapped(module: nn.Module) -> nn.Module:
    """Return the module that adapters wrap, or the module itself."""
    for inner in ("base_layer", "original_module"):
        if isinstance(found := getattr(module, inner, None), nn.Module):
            return wrapped(found)
    return module


def matrix_shape(module: nn.Module) -> tuple[int, int]:
    """Return the shape of a module's matrix, however it is stored: [out, in], or [rows, d] of an embedding."""
    module = wrapped(module)
    for names in (("out_features", "in_features"), ("num_embeddings", "embedding_dim")):
        if all(isinstance(getattr(module, name, None), int) for name in names):
            return getattr(module, names[0]), getattr(module, names[1])
    weight: Tensor = module.weight  # type: ignore[assignment]
    return tuple(reversed(weight.shape)) if is_transposed(module) else tuple(weight.shape)  # type: ignore[return-value]


def is_transposed(module: nn.Module) -> bool:
    """Tell whether a module stores [in, out], as GPT-2's Conv1D does; every Linear stores [out, in]."""
    return type(module).__name__ == "Conv1D"


def version(weight: Tensor) -> int:
    """Return how often torch wrote to a weight; 0 for inference tensors, which have no count."""
    return 0 if weight.is_inference() else weight._version


# The parameters that `replaced` has set aside; a module that is not here has its own.
_set_aside: dict[nn.Module, nn.Parameter | None] = {}


def own_parameters(module: nn.Module) -> Mapping[str, nn.Parameter | None]:
    """Return a module's own parameters by name, also while `replaced` gives it others."""
    if module not in _set_aside:
        return module._parameters
    return module._parameters | {"weight": _set_aside[module]}


def replaced_in(modules: Iterable[nn.Module]) -> bool:
    """Return True if one of these modules computes with other weights than its own now."""
    return bool(_set_aside) and any(module in _set_aside for module in modules)


@contextmanager
def replaced(weights: Mapping[nn.Module, nn.Parameter]) -> Iterator[None]:
    """Give modules other weights inside the `with` block, and their own parameters back after it.

    Nothing is written to the model's own tensors, so even an exception cannot leave them changed.
    """
    own: dict[nn.Module, nn.Parameter | None] = {module: module._parameters["weight"] for module in weights}
    first = {module: parameter for module, parameter in own.items() if module not in _set_aside}
    _set_aside.update(first)
    try:
        for module, weight in weights.items():
            module._parameters["weight"] = weight
        yield
    finally:
        for module, parameter in own.items():
            module._parameters["weight"] = parameter
        for module in first:
            del _set_aside[module]


def require_known_tokens(subject: Vocabularies, ids: Iterable[int]) -> None:
    """Refuse a token id that the model cannot read.

    Raises:
        InputError: there is one; the message names the first.
    """
    n_ids = min(subject.d_vocab, subject.d_embedding)
    for index in ids:
        if not 0 <= index < n_ids:
            raise InputError(f"token id {index} is outside the vocabulary of {n_ids}; ids run from 0 to {n_ids - 1}.")


def require_one_vocabulary(model: Vocabularies, what: str) -> None:
    """Refuse a model that embeds other tokens than it predicts, for a method that pairs the two.

    Args:
        model: a `Subject`, which is one.
        what: the method's need, such as "basis='embedding'".

    Raises:
        ModelError: their numbers differ.
    """
    if model.d_vocab != model.d_embedding:
        raise ModelError(
            f"{model.name!r} embeds {model.d_embedding} tokens and predicts {model.d_vocab}, so that {what} has no row "
            "for each token; use a method that reads one of the two."
        )
