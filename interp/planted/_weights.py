"""Handles to a native model's parameters, into which weights can be planted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interp.errors import ModelError

# TransformerLens wraps every module, which adds this part to parameter names at a depth that can change.
_WRAPPER = "_original_component."


@dataclass(frozen=True, eq=False)
class Affine:
    """A linear map y = weight @ x + bias: weight [out, in], bias [out]."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, eq=False)
class Block:
    """One block: attention maps [d_model, d_model], fc_in [d_mlp, d_model], fc_out [d_model, d_mlp]."""

    q: Affine
    k: Affine
    v: Affine
    o: Affine
    fc_in: Affine
    fc_out: Affine


@dataclass(frozen=True, eq=False)
class Weights:
    """All parameters of a native model: tok_embed [V, d], pos [n_ctx, d], head [V, d], and its blocks."""

    tok_embed: Tensor
    pos: Tensor
    head: Tensor
    blocks: tuple[Block, ...]


def weights_of(model: nn.Module, n_layers: int) -> Weights:
    """Find every parameter of a native model.

    The tensors share storage with the model's and are detached, so writing into them in place plants the weight.

    Args:
        model: a bridge booted with `boot_native`, standard positions, ungated MLP.
        n_layers: its number of blocks.

    Raises:
        ModelError: an expected parameter is missing, or the model has one that no handle covers.
    """
    found = {name.replace(_WRAPPER, ""): parameter.detach() for name, parameter in model.named_parameters()}
    weights = Weights(
        tok_embed=_take(found, "tok_embed.weight"),
        pos=_take(found, "pos.weight"),
        head=_take(found, "head.weight"),
        blocks=tuple(_block(found, f"layers.{i}") for i in range(n_layers)),
    )
    if found:
        raise ModelError(f"the model has parameters that cannot be planted: {', '.join(sorted(found))}.")
    return weights


def zero(model: nn.Module) -> None:
    """Set every parameter to zero, in place."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()


def fill_with_noise(block: Block, spare: slice, generator: torch.Generator) -> None:
    """Fill a block with random weights that read the whole residual and write into the `spare` dimensions only.

    Weights are normal with variance 1 / (inputs of the map), so that chains of such blocks stay near unit size.
    """
    for affine in (block.q, block.k, block.v, block.fc_in):
        _draw(affine.weight, generator)
        _draw(affine.bias, generator)
    for affine in (block.o, block.fc_out):
        _draw(affine.weight[spare], generator)
        _draw(affine.bias[spare], generator)


def _draw(into: Tensor, generator: torch.Generator) -> None:
    # Draw on the CPU in float64, so that a seed gives the same model on every device and in every dtype.
    into.copy_(torch.randn(into.shape, generator=generator, dtype=torch.float64) * into.shape[-1] ** -0.5)


def _block(found: dict[str, Tensor], prefix: str) -> Block:
    def affine(name: str) -> Affine:
        return Affine(_take(found, f"{prefix}.{name}.weight"), _take(found, f"{prefix}.{name}.bias"))

    return Block(
        q=affine("attn.q"),
        k=affine("attn.k"),
        v=affine("attn.v"),
        o=affine("attn.o"),
        fc_in=affine("mlp.fc_in"),
        fc_out=affine("mlp.fc_out"),
    )


def _take(found: dict[str, Tensor], name: str) -> Tensor:
    # A name without a match must raise: the weight would silently stay unplanted.
    if name not in found:
        raise ModelError(f"the model has no parameter {name!r}; it has: {_sample(found)}.")
    return found.pop(name)


def _sample(found: Mapping[str, Tensor]) -> str:
    return ", ".join(sorted(found)[:6]) or "none left"
