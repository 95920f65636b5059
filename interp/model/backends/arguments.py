"""The arguments of a block for several variants of a batch: which of them hold something for each prompt.

The first dimension alone does not tell: MPT's position biases are [head, 1, pos] for any batch, BLOOM's are
[batch * head, 1, pos], and a batch may be as large as the number of heads. So passes over batches of two sizes are
compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeAlias

import torch
from torch import Tensor

from interp.errors import ModelError

Place: TypeAlias = "tuple[int | str, ...]"
"""Where an argument stands: the indices and keys that lead to it."""

Sizes: TypeAlias = "dict[Place, tuple[int, ...]]"
"""The shape of every tensor among the arguments."""

Growth: TypeAlias = "dict[Place, tuple[int, int, int]]"
"""For every tensor among the arguments: its rank, the axis that grows with the batch, and the entries for each prompt
along that axis; 0 entries for a tensor that is the same for any batch."""

_PLAIN = (str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device, Enum)


class Unrepeatable(ModelError):
    """It is not known how an argument depends on the batch."""


def tensors(value: Any, place: Place = ()) -> dict[Place, Tensor]:
    """Return all tensors among a block's arguments."""
    if isinstance(value, Tensor):
        return {place: value}
    return {at: tensor for key, one in _inside(value).items() for at, tensor in tensors(one, (*place, key)).items()}


def sizes(value: Any) -> Sizes:
    """Return the shapes of all tensors among a block's arguments."""
    return {place: tuple(tensor.shape) for place, tensor in tensors(value).items()}


def growth(small: Sizes, large: Sizes, batches: tuple[int, int]) -> Growth:
    """Compare the arguments for batches of two sizes; those that grow in another way than by prompt are left out."""
    found: Growth = {}
    for place, shape in small.items():
        other = large.get(place, ())
        if len(other) != len(shape):
            continue
        grown = [axis for axis, pair in enumerate(zip(shape, other, strict=True)) if pair[0] != pair[1]]
        if not grown:
            found[place] = (len(shape), 0, 0)
        elif len(grown) == 1:
            entries, rest = divmod(shape[grown[0]], batches[0])
            if not rest and entries * batches[1] == other[grown[0]]:
                found[place] = (len(shape), grown[0], entries)
    return found


def repeated(value: Any, batch: int, times: int, grows: Growth, place: Place = ()) -> Any:
    """Return a block's arguments for `times` variants of the batch, stacked along it.

    Raises:
        Unrepeatable: it is not known whether an argument grows with the batch.
    """
    if isinstance(value, Tensor):
        axis, entries = _growth_of(value, batch, grows, place)
        return value.repeat([times if at == axis else 1 for at in range(value.ndim)]) if entries else value
    if isinstance(value, _PLAIN) or callable(value):
        return value
    inside = {key: repeated(one, batch, times, grows, (*place, key)) for key, one in _inside(value).items()}
    if type(value) in (tuple, list):
        return type(value)(inside.values())
    if isinstance(value, Mapping):
        return inside
    raise _unknown(place, f"a {type(value).__name__}")


def _growth_of(value: Tensor, batch: int, grows: Growth, place: Place) -> tuple[int, int]:
    """Return the axis along which an argument grows, and its entries for each prompt; 0 entries if it does not grow."""
    rank, axis, entries = grows.get(place, (-1, 0, 0))
    if rank == value.ndim and (not entries or value.shape[axis] == entries * batch):
        return axis, entries
    # A mask [batch, 1, pos, pos] that shorter texts, from which the growth was learned, do without.
    if place not in grows and value.ndim == 4 and len(value) in (1, batch):
        return 0, int(len(value) == batch)
    raise _unknown(place, f"a tensor {list(value.shape)}")


def require_unchanged(before: dict[Place, Tensor], after: dict[Place, Tensor]) -> None:
    """Refuse a block that writes to its arguments, as Gemma 4 hands keys on to later blocks.

    Raises:
        Unrepeatable: a tensor among the arguments is another after the block ran.
    """
    changed = [place for place in before.keys() | after.keys() if before.get(place) is not after.get(place)]
    if changed:
        raise Unrepeatable(
            f"its blocks hand something on to later ones beside the residual ({_name(min(changed, key=str))}), so none "
            "can be run by itself."
        )


def _name(place: Place) -> str:
    return ".".join(map(str, place[1:]))


def _unknown(place: Place, what: str) -> Unrepeatable:
    return Unrepeatable(
        f"its blocks take an argument ({_name(place)}) that is {what}, and interp cannot tell how it depends on the "
        "batch."
    )


def _inside(value: Any) -> dict[int | str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    return dict(enumerate(value)) if isinstance(value, tuple | list) else {}
