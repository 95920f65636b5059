"""Classify neurons by their weights: those that promote a few tokens, those that suppress a few, and the rest.

After Gurnee et al. (arXiv 2401.12181) and Lad, Gurnee & Tegmark (arXiv 2406.19384): the cosines between a neuron's
value vector and the directions of all tokens are close to normal for most neurons. A long right tail means that the
neuron lifts some tokens far above the rest, a long left tail that it pushes some far below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    Column,
    Layers,
    Run,
    Schema,
    Source,
    Subject,
    columns,
    layers_of,
    probe,
    progress_bar,
    say_cost,
)
from probes import papers
from probes.neurons import plots
from probes.neurons._final_gain import final_gain

KURTOSIS = 10.0
"""The papers' rule: a neuron whose cosines have a kurtosis above this promotes or suppresses tokens, by their skew."""

CONTROL = "random"
# Tokens and neurons of one tile: 2 MiB of float32 cosines, which stay in the processor's cache.
_TOKENS, _NEURONS = 2048, 256

NEURON_KINDS = Schema(
    probe="neuron_kinds",
    paper=papers.STAGES_OF_INFERENCE,
    rows="one per neuron, and one per random direction",
    columns=columns(
        "model",
        "run_id",
        Column("layer", "id", "the block, 0..L-1; missing for random directions", low=0, missing=True),
        "neuron",
        Column("kurtosis", "float", "of the cosines over the vocabulary; 3 for a normal", low=1.0, missing=True),
        Column("skew", "float", "of the cosines over the vocabulary", missing=True),
        Column("variance", "float", "of the cosines over the vocabulary", low=0.0, high=1.0, missing=True),
        Column("kind", "str", "prediction (kurtosis > 10, skew > 0), suppression (> 10, < 0) or neither"),
        "control",
    ),
)


@dataclass(frozen=True)
class CosineMoments:
    """The moments of each vector's cosines over the vocabulary, float64 [n]; NaN for a vector of zeros."""

    variance: Tensor
    skew: Tensor
    kurtosis: Tensor


@dataclass(frozen=True, eq=False)
class TokenDirections:
    """The unit directions of all tokens, minus their mean.

    The direction of a token is its column of W_U times the gain of the final norm, minus the mean of all columns and,
    if the final norm is a LayerNorm, minus its mean over d_model; then scaled to length 1. The mean direction is
    subtracted at the end, so the mean of a vector's cosines is 0 without being computed.

    Attributes:
        columns: W_U as the model stores it, [d_model, d_vocab].
        gain: of the final norm, float32 [d_model].
        centred: whether the final norm subtracts the mean over d_model.
        mean_column: mean of the columns times the gain, float64 [d_model].
        mean: of the unit directions, float64 [d_model].
        covariance: of the unit directions, float64 [d_model, d_model].
    """

    columns: Tensor
    gain: Tensor
    centred: bool
    mean_column: Tensor
    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, subject: Subject) -> TokenDirections:
        """Return the directions of a model's tokens."""
        return cls.of_columns(subject.W_U, *final_gain(subject))

    @classmethod
    def of_columns(cls, columns: Tensor, gain: Tensor, centred: bool) -> TokenDirections:
        """Read an unembedding [d_model, d_vocab] twice, in chunks of the vocabulary."""
        d_vocab = columns.shape[1]
        total = sum(stretch.double().sum(dim=1) for stretch in torch.split(columns, _TOKENS, dim=1))
        mean_column = gain.double() * total / d_vocab
        zeros = torch.zeros_like(mean_column)
        found = cls(columns, gain, centred, mean_column, zeros, torch.outer(zeros, zeros))
        mean, second = zeros.clone(), found.covariance.clone()
        for units in found.stretches():
            wide = units.double()
            mean += wide.sum(dim=0) / d_vocab
            second += wide.T @ wide / d_vocab
        return cls(columns, gain, centred, mean_column, mean, second - torch.outer(mean, mean))

    def stretches(self) -> Iterator[Tensor]:
        """Yield the directions of all tokens in chunks, float32 [tokens, d_model]."""
        for stretch in torch.split(self.columns, _TOKENS, dim=1):
            units = stretch.T.float() * self.gain - self.mean_column.float()
            if self.centred:
                units -= units.mean(dim=1, keepdim=True)
            yield torch.nn.functional.normalize(units, dim=1) - self.mean.float()

    def moments(self, vectors: Tensor) -> CosineMoments:
        """Compute the moments of the cosines between vectors [n, d_model] and all tokens, over the vocabulary.

        The variance is closed form; third and fourth moments are float64 sums over the vocabulary, streamed.
        """
        wide = vectors.double()
        if self.centred:
            wide = wide - wide.mean(dim=1, keepdim=True)
        length = wide.norm(dim=1, keepdim=True)
        wide = torch.where(length > 0, wide / length, torch.nan)
        variance = ((wide @ self.covariance) * wide).sum(dim=1)
        third, fourth = torch.zeros(2, len(vectors), dtype=torch.float64, device=vectors.device)
        narrow = torch.split(wide.float(), _NEURONS)
        sums = [torch.split(one, _NEURONS) for one in (third, fourth)]  # views
        for units in self.stretches():
            for tile, cubes, fourths in zip(narrow, *sums, strict=True):
                cosines = tile @ units.T
                squares = cosines.square()
                cubes += cosines.mul_(squares).sum(dim=1, dtype=torch.float64)
                fourths += squares.square_().sum(dim=1, dtype=torch.float64)
        d_vocab = self.columns.shape[1]
        skew, kurtosis = third / d_vocab / variance**1.5, fourth / d_vocab / variance**2
        return CosineMoments(variance.cpu(), skew.cpu(), kurtosis.cpu())


def summarise_kinds(frame: pd.DataFrame) -> pd.DataFrame:
    """Count the neurons of each kind per block, and among the random directions, with shares and kurtosis."""
    by = ["model", "run_id", "control", "layer"]
    found = frame.assign(
        n_neurons=1, n_prediction=frame["kind"] == "prediction", n_suppression=frame["kind"] == "suppression"
    )
    summary = found.groupby(by, dropna=False)[["n_neurons", "n_prediction", "n_suppression"]].sum()
    for kind in ("prediction", "suppression"):
        summary[f"share_{kind}"] = summary[f"n_{kind}"] / summary["n_neurons"]
    summary[["kurtosis_median", "kurtosis_max"]] = frame.groupby(by, dropna=False)["kurtosis"].agg(["median", "max"])
    return summary.reset_index()


@probe(NEURON_KINDS, plot=plots.neuron_kinds, summarise=summarise_kinds, costly=True)
def neuron_kinds(subject: Source, *, layers: Layers = None, seed: int = 0) -> pd.DataFrame:
    """Classify every neuron by the moments of the cosines between its value vector and all tokens' directions.

    Where the MLP is gated, a neuron's activation has either sign, and a negative one turns prediction into suppression:
    there `kind` says what the neuron does when it is positive. Where a norm stands between the MLP and the residual
    stream (Gemma 2 and 3, OLMo-2), value vectors are taken before it.

    Args:
        subject: anything `interp.load` takes.
        layers: read only this block or these, 0..L-1, negative ones from the last; None and "all" read all.
        seed: of the control.

    Returns:
        One row per neuron, and as a control (`control` "random", no layer) as many normal random directions as a block
        has neurons: how many of them pass for a kind is what chance gives.

    Raises:
        InputError: there is no such block.
        ModelError: the blocks have no single MLP (a mixture of experts), or the weights are on another machine.

    Cost: neurons x d_vocab x d_model multiplications, in float32; memory is a block's value vectors, a stretch of the
    vocabulary, and two d_model x d_model matrices, whatever the size of the vocabulary. No texts. For SmolLM2-135M the
    multiplications are 2.6 TFLOP, 29 s of matrix products on one core, of 40 s in all.

    Pitfall: a kind is a threshold on a moment: between two models compare shares beside those of random directions.

    >>> frame = neuron_kinds("reference", layers=7)
    >>> len(frame.query("control == 'none'")), frame.query("control == 'random'").kind.unique().tolist()
    (1024, ['neither'])
    """
    run = Run(NEURON_KINDS, subject, None, parameters={"layers": layers}, seed=seed)
    last = run.subject.n_layers - 1
    blocks = layers_of(layers, last, run.subject.name)
    n_neurons = len(run.subject.value_vectors(blocks[0]))
    say_cost(run, products=(1 + len(blocks)) * n_neurons * run.subject.W_U.numel())
    directions = TokenDirections.of(run.subject)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(n_neurons, run.subject.d_model, generator=generator).to(run.subject.device)
    parts = []
    with progress_bar(1 + len(blocks), "block", NEURON_KINDS.probe) as bar:
        for block in blocks:
            parts.append(_rows(directions.moments(run.subject.value_vectors(block)), block, "none"))
            bar.update()
        parts.append(_rows(directions.moments(drawn), -1, CONTROL))
        bar.update()
    return run.frame(parts)


def _rows(moments: CosineMoments, layer: int, control: str) -> dict[str, Any]:
    return {
        "layer": layer,
        "neuron": np.arange(len(moments.variance)),
        "kurtosis": moments.kurtosis.numpy(),
        "skew": moments.skew.numpy(),
        "variance": moments.variance.numpy(),
        "kind": kinds(moments),
        "control": control,
    }


def kinds(moments: CosineMoments) -> np.ndarray:
    """Name the kind of each neuron: "prediction", "suppression" or "neither", object [n]."""
    long_tailed = moments.kurtosis > KURTOSIS  # never so for NaN
    named = np.where(moments.skew > 0, "prediction", "suppression")
    return np.where(long_tailed & (moments.skew != 0), named, "neither").astype(object)
