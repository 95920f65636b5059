"""The neighbours of states in a bank, and the controls beside each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probes.contexts.state_bank import StateBank

CONTROLS = ("none", "shuffled", "same_token")


@dataclass(frozen=True)
class Neighbours:
    """Neighbours of n states, k of each, and behind them their controls in the order of `CONTROLS`, [n, 3 k] each.

    Attributes:
        index: of the states in the bank.
        layer: of the bank.
        cosine: of the two states.
        z: `cosine` in standard deviations above that of random states of the layer.
    """

    index: np.ndarray
    layer: np.ndarray
    cosine: np.ndarray
    z: np.ndarray


def neighbours_of(
    bank: StateBank,
    states: Tensor,
    layers: Sequence[int],
    draws: np.ndarray,
    *,
    k: int,
    centre: bool,
    seed: int,
    directions: np.ndarray | None = None,
) -> Neighbours:
    """Find the neighbours of states [n, d] in layers of the bank, the nearest by z, and draw their controls.

    Args:
        bank: the bank.
        states: to compare.
        layers: of the bank to search.
        draws: random numbers in [0, 1) for each state, [n, k], which choose among occurrences of a token.
        k: neighbours of a state.
        centre: see `nearest_contexts`.
        seed: of the order that "shuffled" takes states of the bank in.
        directions: which of the states are directions, bool [n], None for none: where the mean is taken off, these are
            asked as states that lie in their direction from it.
    """
    moved = centre and directions is not None and bool(directions.any())
    asked = [_from_mean(bank, layer, states, directions) if moved else states for layer in layers]
    found = [bank.search(own, layer, k=k, centre=centre) for layer, own in zip(layers, asked, strict=True)]
    usual = bank.usual[[bank.layers.index(layer) for layer in layers], int(centre)]  # [layers, mean and sd]
    of_each = np.stack([cosine.double().numpy() for cosine, _ in found], axis=1)
    best = np.argsort(-_z(of_each, usual[:, None]).reshape(len(states), -1), axis=1, kind="stable")[:, :k]
    index = np.take_along_axis(np.stack([at.numpy() for _, at in found], axis=1).reshape(len(states), -1), best, axis=1)
    shuffled = np.random.default_rng(seed).permutation(len(bank))
    index = np.concatenate([index, shuffled[index], _same_token(bank, index, draws)], axis=1)
    where = np.tile(best // k, len(CONTROLS))
    cosine = np.empty(index.shape)
    for place, layer in enumerate(layers):
        own = bank.at(layer).cosines(asked[place], torch.from_numpy(index), centre=centre).double().numpy()
        cosine = np.where(where == place, own, cosine)
    return Neighbours(index, np.array(layers)[where], cosine, _z(cosine, usual[where]))


def _from_mean(bank: StateBank, layer: int, states: Tensor, directions: np.ndarray | None) -> Tensor:
    mean = bank.at(layer).mean
    length = mean.norm().clamp(min=1e-6)  # about as long as the mean, so that float32 holds the sum of both
    ahead = mean + torch.nn.functional.normalize(states.float(), dim=1) * length
    return torch.where(torch.as_tensor(directions)[:, None], ahead, states.float())


def _z(cosine: np.ndarray, usual: np.ndarray) -> np.ndarray:
    z: np.ndarray = (cosine - usual[..., 0]) / usual[..., 1]
    return z


def _same_token(bank: StateBank, index: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Draw another occurrence of the token of each state of the bank, [n, k]; the same one where there is no other."""
    token = bank.places.token_id
    order = np.argsort(token, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    first, last = (np.searchsorted(token[order], token[index], side=side) for side in ("left", "right"))
    others = last - first - 1
    step = 1 + np.floor(draws * np.maximum(others, 1)).astype(np.int64)
    drawn: np.ndarray = order[first + (place[index] - first + np.where(others, step, 0)) % (others + 1)]
    return drawn
