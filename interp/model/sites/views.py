"""Views: how a value is found in the tensor that enters or leaves a module, and how it is written back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_MASKED = -9e3  # models mask by -1e4 (GPT), the dtype's lowest number, or -inf; to all of them exp gives 0


@dataclass(frozen=True)
class Scaled:
    """The product of a tensor with a number."""

    by: float

    def read(self, tensor: Tensor, noted: Tensor | None) -> Tensor:
        """See `View.read`."""
        return tensor * self.by

    def write(self, tensor: Tensor, noted: Tensor | None, before: Tensor, value: Tensor) -> Tensor:
        """See `View.write`."""
        return _kept_where_equal(tensor, before, value, value / self.by)


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
        return _kept_where_equal(tensor, before, value, value - noted)


@dataclass(frozen=True, eq=False)
class Heads:
    """The heads in a tensor [..., n * size], or in some of its places: [..., n, size].

    Attributes:
        n, size: how many heads of what size; one of the two may be -1.
        places: those of the heads in a tensor that holds more, int64 [n * size]; None if it holds them alone.
    """

    n: int = -1
    size: int = -1
    places: Tensor | None = None

    def read(self, tensor: Tensor, noted: Tensor | None) -> Tensor:
        """See `View.read`."""
        if self.places is not None:
            tensor = tensor[..., self.places.to(tensor.device)]
        return tensor if tensor.ndim == 4 else tensor.reshape(*tensor.shape[:-1], self.n, self.size)

    def write(self, tensor: Tensor, noted: Tensor | None, before: Tensor, value: Tensor) -> Tensor:
        """See `View.write`."""
        if self.places is None:
            return value.reshape(tensor.shape)
        written = tensor.clone()
        written[..., self.places.to(tensor.device)] = value.flatten(-2)
        return written


@dataclass(frozen=True)
class FirstHalf:
    """The first half of a tensor [..., 2 * n], where a gate's matrix and another are one."""

    def read(self, tensor: Tensor, noted: Tensor | None) -> Tensor:
        """See `View.read`."""
        return tensor.chunk(2, dim=-1)[0]

    def write(self, tensor: Tensor, noted: Tensor | None, before: Tensor, value: Tensor) -> Tensor:
        """See `View.write`."""
        return torch.cat([value, tensor.chunk(2, dim=-1)[1]], dim=-1)


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """The matrix [out, in] of a module that multiplies by its weight, read where the module is: maybe elsewhere.

    Attributes:
        module: whose weight.
        transposed: it is stored as [in, out].
        by: a number to multiply it by.
    """

    module: nn.Module
    transposed: bool
    by: float

    def read(self) -> Tensor:
        """Return the matrix."""
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        weight = weight.detach().T if self.transposed else weight.detach()
        return weight if self.by == 1.0 else weight * self.by


@dataclass(frozen=True, eq=False)
class HeadOutputs:
    """The view of each head's part in what a projection gives, their sum and a bias; `beside` is the projection.

    Attributes:
        weight: the projection's, [d_model, n * size].
        n: how many heads.
    """

    weight: Tensor | StoredWeight
    n: int

    def read(self, tensor: Tensor, noted: Tensor | None) -> Tensor:
        """See `View.read`."""
        assert noted is not None
        z = noted.reshape(*tensor.shape[:2], self.n, -1)
        weight = self.weight.read() if isinstance(self.weight, StoredWeight) else self.weight
        return torch.einsum("bphi,ohi->bpho", z, weight.to(z).reshape(-1, self.n, z.shape[-1]))

    def write(self, tensor: Tensor, noted: Tensor | None, before: Tensor, value: Tensor) -> Tensor:
        """See `View.write`."""
        if value.requires_grad:  # what hangs on z through the value is taken off once, for the tensor hangs on it too
            return tensor + (value - self.read(tensor, noted)).sum(dim=-2)
        return tensor + (value - before).where(value != before, 0.0).sum(dim=-2)


@dataclass(frozen=True)
class Keys:
    """The view of what a softmax over keys reads or gives, [batch, head, query, key], without the sinks after the keys.

    Attributes:
        sinks: how many columns stand after the keys (GPT-OSS).
        masked: a key that is masked reads -inf, whichever large negative number the model takes for it.
    """

    sinks: int = 0
    masked: bool = False

    def read(self, tensor: Tensor, noted: Tensor | None) -> Tensor:
        """See `View.read`."""
        keys = tensor[..., : tensor.shape[-1] - self.sinks]
        return keys.masked_fill(keys < _MASKED, -torch.inf) if self.masked else keys

    def write(self, tensor: Tensor, noted: Tensor | None, before: Tensor, value: Tensor) -> Tensor:
        """See `View.write`."""
        n = tensor.shape[-1] - self.sinks
        written = _kept_where_equal(tensor[..., :n], before, value, value)
        return torch.cat([written, tensor[..., n:]], dim=-1) if self.sinks else written


def _kept_where_equal(tensor: Tensor, before: Tensor, value: Tensor, written: Tensor) -> Tensor:
    """Return what is written for a value, and the tensor's own bits where the value is what it was before.

    A gradient needs all of it to hang on the value, so that nothing is kept where one is taken.
    """
    return written if value.requires_grad else torch.where(value == before, tensor, written)
