"""Merge banks: all their texts, each context once, and few of each token."""

from __future__ import annotations

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
    kept = joined.few(max_per_token)
    require_memory(len(kept) * sum(one.units[0].nbytes for one in layers[0]))
    index = torch.from_numpy(kept)
    units, norms = (
        torch.stack(
            [torch.cat([getattr(one, name) for one in of_layer])[index] for of_layer in zip(*layers, strict=True)]
        )
        for name in ("units", "norms")
    )
    return units, norms, joined.at(kept), [ids for of_bank in texts for ids in of_bank]
