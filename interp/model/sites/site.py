"""A site: which module a tensor enters or leaves, and how the value of the site's name is found in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from torch import Tensor, nn

from interp.model.sites.views import AddedTo, Keys

SiteName: TypeAlias = Literal[
    "embed",
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mlp_out",
    "norm1",
    "norm2",
    "neurons_pre",
    "neurons",
    "router",
    "q",
    "k",
    "v",
    "scores",
    "pattern",
    "z",
    "head_out",
]
Edit: TypeAlias = Callable[[Tensor], Tensor]


class View(Protocol):
    """A way to find a value in a module's tensor, and to write it back into it."""

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
        end: "input" or "output" of the module; or inside it, the "scores" that its softmax reads, the "pattern" that it
            gives, or the output of its "linear" map.
        item: index of the tensor if the module returns a tuple.
        block: the block around the module, whose input gives [batch, pos], which some architectures flatten inside.
        scale: the block multiplies the tensor by this number before it adds it to the residual stream (Granite); what
            is read and changed is the product.
        view: how the value is found in the product; None if it is the product.
        beside: the module whose input the view needs.
        exclusive: a lock of the model, held while the value is read or changed; see `Subject.exclusive`.
        sent: of a model on another machine, what is read and changed there, which goes with every program that is sent;
            see `interp.model.sites.sending`. None for a model here, and for a site that was itself sent.
    """

    name: str
    module: nn.Module
    end: Literal["input", "output", "scores", "pattern", "linear"] = "output"
    item: int = 0
    block: nn.Module | None = None
    scale: float = 1.0
    view: View | None = None
    beside: nn.Module | None = None
    exclusive: AbstractContextManager[Any] = field(default_factory=nullcontext)
    sent: list[Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave lock and list behind when a program takes the site to the model's machine."""
        parts = (self.name, self.module, self.end, self.item, self.block, self.scale, self.view, self.beside)
        return Site, parts


def residual_site(name: SiteName, layer: int, block: nn.Module, attention: Callable[[], Site]) -> Site:
    """Return the site of a residual: a block's input or output, or the sum of its input and its `attn_out`."""
    label = f"{name} of block {layer}"
    if name != "resid_mid":
        return Site(label, block, "input" if name == "resid_pre" else "output")
    added = attention()
    return Site(label, added.module, added.end, added.item, added.block, added.scale, view=AddedTo(), beside=block)


def softmax_site(name: SiteName, layer: int, attention: nn.Module, block: nn.Module, *, sinks: bool) -> Site:
    """Return the site of what the softmax inside an attention reads or gives."""
    label = f"{name} of block {layer}"
    if name == "scores":
        return Site(label, attention, "scores", block=block, view=Keys(int(sinks), masked=True))
    return Site(label, attention, "pattern", block=block, view=Keys(int(sinks)))


OF_KEYS: Mapping[str, float] = {"scores": -math.inf, "pattern": 0.0}
"""The sites whose values run over keys, [.., query, key], each with the value of a key that no query sees."""


class Widths(Protocol):
    """A model's shape, which decides how wide its sites are; a `Subject` is one."""

    n_heads: int
    d_model: int
    d_mlp: int


def width_of(subject: Widths, name: str, length: int) -> int:
    """Return about how many numbers a site has at a position of a text of `length` tokens."""
    if name in OF_KEYS:
        return subject.n_heads * length
    if name == "head_out":
        return subject.n_heads * subject.d_model
    return subject.d_mlp if name.startswith("neurons") else subject.d_model
