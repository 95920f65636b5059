"""Turn a bank into named tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from probes.contexts._layer_states import LayerStates
from probes.contexts._occurrences import Occurrences

_OF_LAYER = ("units", "norms", "mean")
_OF_PLACES = ("text", "pos", "token_id", "key")


def packed(
    layers: Sequence[int], by_layer: Sequence[LayerStates], places: Occurrences, texts: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Return everything but what the file's metadata hold."""
    tensors = {f"places.{name}": torch.from_numpy(getattr(places, name).copy()) for name in _OF_PLACES}
    for layer, one in zip(layers, by_layer, strict=True):
        tensors |= {f"{name}.{layer}": getattr(one, name) for name in _OF_LAYER}
    return tensors | {"ids": torch.cat(list(texts)), "lengths": torch.tensor([len(ids) for ids in texts])}


def unpacked(
    layers: Sequence[int], tensors: Mapping[str, Tensor]
) -> tuple[tuple[LayerStates, ...], Occurrences, tuple[Tensor, ...]]:
    """Return what `packed` was given, behind the layers."""
    by_layer = tuple(LayerStates(*(tensors[f"{name}.{layer}"] for name in _OF_LAYER)) for layer in layers)
    places = Occurrences(*(tensors[f"places.{name}"].numpy() for name in _OF_PLACES))
    texts: tuple[Tensor, ...] = torch.split(tensors["ids"], tensors["lengths"].tolist())
    return by_layer, places, tuple(texts)
