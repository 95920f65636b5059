"""`find_subnetwork` in one call, from a corpus: the places of the kept weights, and the log of the training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import pandas as pd

from interp.authoring import Source, Texts, load, probe, shows_parameters_of
from probes.subnetworks._examples import pilot
from probes.subnetworks.bigram_model import bigram_model
from probes.subnetworks.search import plots
from probes.subnetworks.search._frames import COMPONENTS, LOG, summarise_components, summarise_log
from probes.subnetworks.search._parameters import MaskUnit
from probes.subnetworks.search._targets import Distributions
from probes.subnetworks.search.find_subnetwork import (
    FoundSubnetworks,
    MaskRecipe,
    TargetName,
    find_subnetwork,
    settings_of,
)


class SearchSettings(TypedDict, total=False):
    """The types of the arguments that are handed on to `find_subnetwork`."""

    target: TargetName | Distributions
    unit: MaskUnit | None
    recipe: MaskRecipe
    steps: int | None
    batch: int | None
    length: int | None
    lr: float | None
    texts: Texts | None
    out: str | Path | None
    seed: int


class BigramSettings(SearchSettings, total=False):
    """The types of the arguments that both probes share."""

    corpus: str
    sparsity: float | Sequence[float]


@probe(COMPONENTS, plot=plots.bigram_subnetwork, summarise=summarise_components, example=pilot)
# `texts` are what masks are trained on; a probe with an argument of that name is given texts to measure.
@shows_parameters_of(find_subnetwork, but=["bigrams", "texts"])
def bigram_subnetwork(
    subject: Source,
    *,
    corpus: str = "shipped",
    sparsity: float | Sequence[float] = 10,
    **settings: Unpack[SearchSettings],
) -> pd.DataFrame:
    """Find a bigram subnetwork in one call, and count its weights by block and matrix.

    Args:
        subject: anything `interp.load` takes.
        corpus: see `bigram_model`.
        sparsity: see `find_subnetwork`.
        target: see `find_subnetwork`.
        unit: see `find_subnetwork`.
        recipe: see `find_subnetwork`.
        steps: see `find_subnetwork`.
        batch: see `find_subnetwork`.
        length: see `find_subnetwork`.
        lr: see `find_subnetwork`.
        out: see `find_subnetwork`.
        seed: see `find_subnetwork`.

    Returns:
        `find_subnetwork(...).components`.

    Cost: that of `find_subnetwork`: a forward and a backward pass per step.

    Pitfall: masks hang on the last bit of a sum: another processor keeps other weights with the same surprisals.

    >>> frame = bigram_subnetwork("reference", unit="head", steps=2, batch=1, length=8)
    >>> bool((frame.groupby("control")["share_of_kept"].sum().round(9) <= 1).all())
    True
    """
    return _found(subject, corpus=corpus, sparsity=sparsity, **settings).components


@probe(LOG, plot=plots.subnetwork_log, summarise=summarise_log, example=pilot)
@shows_parameters_of(bigram_subnetwork)
def subnetwork_log(subject: Source, **settings: Unpack[BigramSettings]) -> pd.DataFrame:
    """Find a bigram subnetwork in one call, and return the log of its training.

    Args:
        subject: anything `interp.load` takes.
        corpus: see `bigram_model`.
        sparsity: see `find_subnetwork`.
        target: see `find_subnetwork`.
        unit: see `find_subnetwork`.
        recipe: see `find_subnetwork`.
        steps: see `find_subnetwork`.
        batch: see `find_subnetwork`.
        length: see `find_subnetwork`.
        lr: see `find_subnetwork`.
        out: see `find_subnetwork`.
        seed: see `find_subnetwork`.

    Returns:
        `find_subnetwork(...).log`.

    Cost: that of `find_subnetwork`: a forward and a backward pass per step.

    Pitfall: the loss of the last step is of soft masks; evaluate the hard ones.

    >>> frame = subnetwork_log("reference", unit="head", steps=2, batch=1, length=8)
    >>> frame["step"].tolist()
    [0, 1]
    """
    return _found(subject, **settings).log


def _found(
    subject: Source,
    *,
    corpus: str = "shipped",
    sparsity: float | Sequence[float] = 10,
    **settings: Unpack[SearchSettings],
) -> FoundSubnetworks:
    loaded = load(subject)
    settings_of(loaded, sparsity, **settings)  # before the corpus is counted
    return find_subnetwork(loaded, bigram_model(loaded, corpus), sparsity=sparsity, **settings)
