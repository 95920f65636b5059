"""Merge banks: all their texts, each context once, and few of each token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from probes.contexts._building import require_memory
from probes.contexts._layer_states import LayerStates
from probes.contexts._occurrences import Occurrences

Part: TypeAlias = "tuple[Sequence[LayerStates], Occurrences, Sequence[Tensor]]"
"""A bank's states of each layer, their places, and the texts."""


def merged(parts: Sequence[Part], max_per_token: int) -> tuple[Tensor, Tensor, Occurrences, list[Tensor]]:
    """Return directions [layers, n, d] and lengths [layers, n] of the states that stay, their places and all texts.

    Raises:
        InputError: they would take too much memory.
    """
    layers, places, texts = zip(*parts, strict=True)
    shift = np.cumsum([0, *map(len, texts[:-1])])
    joined = Occurrences(
        np.concatenate([one.text + more for one, more in zip(places, shift, strict=True)]),
        *(np.concatenate([getattr(one, name) for one in places]) for name in ("pos", "token_id", "key")),
    )
    kept, first = joined.few(max_per_token), layers[0][0].units
    shape = len(layers[0]), len(kept), first.shape[1]
    require_memory(math.prod(shape) * first.itemsize)
    units, norms = torch.empty(shape, dtype=first.dtype), torch.empty(shape[:2])
    stops = np.cumsum([len(one) for one in places])
    for stop, of_bank in zip(stops.tolist(), layers, strict=True):
        inside = (kept >= stop - len(of_bank[0])) & (kept < stop)
        into, own = torch.from_numpy(np.flatnonzero(inside)), torch.from_numpy(kept[inside] - stop + len(of_bank[0]))
        for number, one in enumerate(of_bank):  # of no bank more than a layer is copied: it may be in a file
            units[number, into], norms[number, into] = one.units[own], one.norms[own]
    return units, norms, joined.at(kept), [ids for of_bank in texts for ids in of_bank]
