"""A site: which module a tensor enters or leaves, and how the value of the site's name is found in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

SiteName: TypeAlias = Literal[
    "embed", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "neurons", "pattern"
]
Edit: TypeAlias = Callable[[Tensor], Tensor]


class View(Protocol):
    """How a value is found in a module's tensor, and written back into it."""

    def read(self, tensor: Tensor, noted: Tensor | None) -> Tensor:
        """Return the value in a tensor, given what entered the site's module `beside`."""

    def write(self, tensor: Tensor, noted: Tensor | None, before: Tensor, value: Tensor) -> Tensor:
        """Return the tensor in which `before`, as it was read, is now `value`."""


@dataclass(frozen=True, eq=False)
class Site:
    """A tensor that enters or leaves a module, or what is read from it.

    Attributes:
        name: for error messages, such as "mlp_out of block 3".
        module: the module that the tensor enters or leaves.
        end: "input" or "output" of the module.
        item: index of the tensor if the module returns a tuple.
        block: the block around the module, whose input gives [batch, pos], which some architectures flatten inside.
        scale: the block multiplies the tensor by this number before it adds it to the residual stream (Granite); what
            is read and changed is the product.
        view: how the value is found in the product; None if it is the product.
        beside: the module whose input the view needs.
        exclusive: a lock of the model, held while the value is read or changed; see `Subject.exclusive`.
    """

    name: str
    module: nn.Module
    end: Literal["input", "output"] = "output"
    item: int = 0
    block: nn.Module | None = None
    scale: float = 1.0
    view: View | None = None
    beside: nn.Module | None = None
    exclusive: AbstractContextManager[Any] = field(default_factory=nullcontext)


@dataclass(frozen=True)
class Scaled:
    """The product of a tensor with a number."""

    by: float

    def read(self, tensor: Tensor, noted: Tensor | None) -> Tensor:
        """See `View.read`."""
        return tensor * self.by

    def write(self, tensor: Tensor, noted: Tensor | None, before: Tensor, value: Tensor) -> Tensor:
        """See `View.write`."""
        return kept_where_equal(tensor, before, value, value / self.by)


@dataclass(frozen=True)
class AddedTo:
    """The sum of a tensor and the residual that it is added to, which is what entered `beside`."""

    def read(self, tensor: Tensor, noted: Tensor | None) -> Tensor:
        """See `View.read`."""
        assert noted is not None
        return noted + tensor

    def write(self, tensor: Tensor, noted: Tensor | None, before: Tensor, value: Tensor) -> Tensor:
        """See `View.write`."""
        assert noted is not None
        return kept_where_equal(tensor, before, value, value - noted)


def kept_where_equal(tensor: Tensor, before: Tensor, value: Tensor, written: Tensor) -> Tensor:
    """Return what is written for a value, and the tensor's own bits where the value is what it was before.

    A gradient needs all of it to hang on the value, so that nothing is kept where one is taken.
    """
    return written if value.requires_grad else torch.where(value == before, tensor, written)


def residual_site(name: SiteName, layer: int, block: nn.Module, attention: Callable[[], Site]) -> Site:
    """Return the site of a residual: a block's input or output, or the sum of its input and its `attn_out`."""
    label = f"{name} of block {layer}"
    if name != "resid_mid":
        return Site(label, block, "input" if name == "resid_pre" else "output")
    added = attention()
    return Site(label, added.module, added.end, added.item, added.block, added.scale, view=AddedTo(), beside=block)
