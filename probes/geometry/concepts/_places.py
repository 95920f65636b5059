"""Vectors of tokens at a place of the model, under an inner product: raw, or the causal one of its unembedding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch

from interp.authoring import Layers, Subject, layers_of
from interp.stats.clouds import CloudSums
from probes.characters._token_vectors import token_vectors
from probes.geometry.clouds._clouds import Where, weight_rows

Metric: TypeAlias = Literal["raw", "causal"]
"""The inner product. "raw": the dot product. "causal" (Park et al., 2023): that of vectors whitened by the covariance
of the vocabulary's rows at their place; states of the residual stream, which meet the unembedding in products, are
taken by the square root of its covariance instead, so that no invertible map of the unembedding changes any angle."""

_LEAST = 1e-10  # of the largest eigenvalue: directions in which the vocabulary does not vary


@dataclass(frozen=True)
class Place:
    """A place where vectors are read.

    Attributes:
        where: embedding, unembedding or residual.
        layer: of the residual stream; -1 for weights.
    """

    where: str
    layer: int = -1

    @property
    def columns(self) -> dict[str, str | int]:
        """The place's columns of a frame."""
        return {"where": self.where, "layer": self.layer}


def places_of(subject: Subject, where: Sequence[Where], layers: Layers) -> list[Place]:
    """Return the places to read: of weights, then of the residual stream; layers=None reads none of it."""
    found = [Place(one) for one in dict.fromkeys(where)]
    if layers is not None:
        found += [Place("residual", layer) for layer in layers_of(layers, subject.n_layers, subject.name)]
    return found


def read_places(subject: Subject, ids: np.ndarray, places: Sequence[Place]) -> Iterator[tuple[Place, np.ndarray]]:
    """Yield each place with its vectors of the tokens, float64 [n, d_model]."""
    for place in places:
        if place.layer < 0:
            ((_, rows),) = token_vectors(subject, ids, place.where, [-1])  # type: ignore[arg-type]
            yield place, rows.detach().cpu().double().numpy()
    layers = [place.layer for place in places if place.layer >= 0]
    if layers:
        for layer, rows in token_vectors(subject, ids, "embedding", layers):
            yield Place("residual", layer), rows.detach().cpu().double().numpy()


class InnerProducts:
    """Maps under which the dot product is a metric's inner product; each eigendecomposition is made once."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._known: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def mapped(self, vectors: np.ndarray, place: Place, metric: Metric) -> np.ndarray:
        """Return vectors [..., d_model] of a place so mapped."""
        return vectors if metric == "raw" else vectors @ self._root(place)

    def expected(self, place: Place, metric: Metric) -> float:
        """Return the standard deviation of the cosine of unrelated vectors, 1 / √d.

        d is the number of axes that the vocabulary's rows fill evenly (their participation ratio), whitened ones all
        that vary; of states it is that of the unembedding's rows.
        """
        values = self._spectrum(place)[0]
        kept = values[values > _LEAST * values.max()]
        spread = kept**2 if place.layer >= 0 and metric == "causal" else kept
        if metric == "causal" and place.layer < 0:
            spread = np.ones(len(kept))
        return float(np.sqrt((spread**2).sum() / spread.sum() ** 2))

    def _root(self, place: Place) -> np.ndarray:
        values, axes = self._spectrum(place)
        kept = values > _LEAST * values.max()
        power = 0.5 if place.layer >= 0 else -0.5
        root: np.ndarray = (axes[:, kept] * values[kept] ** power) @ axes[:, kept].T
        return root

    def _spectrum(self, place: Place) -> tuple[np.ndarray, np.ndarray]:
        where: Where = "embedding" if place.where == "embedding" else "unembedding"
        if where not in self._known:
            covariance = CloudSums.of(weight_rows(self._subject, where)).covariance().double()
            values, axes = torch.linalg.eigh(covariance)
            self._known[where] = values.numpy(), axes.numpy()
        return self._known[where]
