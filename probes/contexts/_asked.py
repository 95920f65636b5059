"""Vectors that are asked of a bank in place of texts: arrays, directions, sets of neurons, or several by name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError, Subject
from interp.data import tensor_file
from probes.contexts.sentences.sentence_states import States


@runtime_checkable
class Pointing(Protocol):
    """Directions at layers of the residual stream: a `Direction`, a `NeuronSet`, or a class of your own."""

    def vectors_at(self, subject: Subject, layers: Sequence[int]) -> Mapping[int, Tensor]:
        """Return a vector [d_model] for each of these layers that it has one at; refuse another model."""
        ...


Vectors: TypeAlias = "Tensor | np.ndarray | States | Pointing | Mapping[str, Tensor | np.ndarray | Pointing]"
"""An array [n, d_model], or [layers, n, d_model] with one for each layer; or what else `nearest_contexts` says."""


@dataclass(frozen=True)
class Asked:
    """Vectors by the layer that they are asked at.

    Attributes:
        numbers: `prompt_id` of each vector, int64 [n].
        names: of each.
        directions: whether each is a direction, which has no mean to take off, bool [n].
        by_layer: for every layer which of the vectors stand there, int64 [m], and themselves, float32 [m, d_model].
    """

    numbers: np.ndarray
    names: list[str]
    directions: np.ndarray
    by_layer: Mapping[int, tuple[np.ndarray, Tensor]]

    @property
    def digest(self) -> str:
        """Hash of the vectors, their names and layers, 16 hex digits."""
        digest = hashlib.blake2b(digest_size=8)
        for one in (str(self.names).encode(), self.numbers.tobytes(), self.directions.tobytes()):
            digest.update(one)
        for layer, (which, vectors) in self.by_layer.items():
            digest.update(f"{layer}".encode() + which.tobytes() + vectors.contiguous().numpy().tobytes())
        return digest.hexdigest()


def asked_of(subject: Subject, states: Any, layers: Sequence[int], *, as_directions: bool) -> Asked:
    """Return the vectors of `states` at those of these layers that they have.

    Raises:
        InputError: they are something else than `Vectors`, or none stands at these layers.
        ModelError: they are of another model.
    """
    if isinstance(states, States):
        tensor_file.require_same_weights(
            "this set of sentence states", (states.model, states.fingerprint), (subject.name, subject.fingerprint),
            "Read the sentences there with sentence_states.",
        )  # fmt: skip
        if states.layer not in layers:
            raise InputError(f"the sentence states are of layer {states.layer}; ask them there: layers={states.layer}.")
        numbers = states.table["prompt_id"].to_numpy()
        found = {states.layer: _array(subject, states.vectors, "states", 2)}
        return _whole(numbers, [str(number) for number in numbers], found, as_directions)
    if isinstance(states, Tensor | np.ndarray):
        given = torch.as_tensor(states)
        if given.ndim == 3 and len(given) != len(layers):
            raise InputError(f"states {list(given.shape)} for {len(layers)} layers: give one [n, d_model] for each.")
        array = _array(subject, given, "states", given.ndim if given.ndim == 3 else 2)
        by_layer = dict(zip(layers, array if array.ndim == 3 else [array] * len(layers), strict=True))
        numbers = np.arange(array.shape[-2])
        return _whole(numbers, [str(number) for number in numbers], by_layer, as_directions)
    if isinstance(states, Pointing):
        states = {getattr(states, "concept", type(states).__name__): states}
    if not isinstance(states, Mapping) or not states:
        raise InputError(
            f"states is {'empty' if isinstance(states, Mapping) else f'a {type(states).__name__}'}; give an array "
            "[n, d_model], a Direction, a NeuronSet, what sentence_states returns, or several by name."
        )
    return _named(subject, states, layers, as_directions)


def _whole(numbers: np.ndarray, names: list[str], by_layer: Mapping[int, Tensor], as_directions: bool) -> Asked:
    every = np.arange(len(numbers))
    found = {layer: (every, vectors) for layer, vectors in by_layer.items()}
    return Asked(numbers.astype(np.int64), names, np.full(len(numbers), as_directions), found)


def _named(subject: Subject, states: Mapping[str, Any], layers: Sequence[int], as_directions: bool) -> Asked:
    places: dict[int, list[tuple[int, Tensor]]] = {layer: [] for layer in layers}
    pointing = [isinstance(one, Pointing) for one in states.values()]
    for number, (name, one) in enumerate(states.items()):
        if isinstance(one, Pointing):
            at = one.vectors_at(subject, layers)
            if not at:
                raise InputError(f"{name!r} has no vector at layers {list(layers)}; choose others with layers=.")
        else:
            at = dict.fromkeys(layers, one)
        for layer, vector in at.items():
            places[layer].append((number, _array(subject, vector, name, 1)))
    by_layer = {
        layer: (np.array([number for number, _ in of]), torch.stack([vector for _, vector in of]))
        for layer, of in places.items()
        if of
    }
    return Asked(np.arange(len(states)), list(states), np.array(pointing) | as_directions, by_layer)


def _array(subject: Subject, given: Any, name: str, n_dims: int) -> Tensor:
    """Return finite vectors of the model's width, none of them zero, float32 on the processor."""
    shape = {1: "[{}]", 2: "[n, {}]", 3: "[layers, n, {}]"}[n_dims].format(subject.d_model)
    if not isinstance(given, Tensor | np.ndarray):
        raise InputError(f"{name} is a {type(given).__name__}; give floating-point numbers {shape}.")
    found = torch.as_tensor(given).detach()
    if found.ndim != n_dims or found.shape[-1] != subject.d_model or not found.is_floating_point():
        raise InputError(f"{name} {found.dtype} {list(found.shape)}: give floating-point numbers {shape}.")
    found = found.float().cpu()
    if not found.numel():
        raise InputError(f"{name} {list(found.shape)} holds no vector; give at least one.")
    if not bool(found.isfinite().all()) or not bool(found.any(dim=-1).all()):
        raise InputError(f"{name} holds a vector that is zero or not finite, which has no direction; leave it out.")
    return found
