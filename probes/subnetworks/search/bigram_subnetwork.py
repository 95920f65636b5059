"""`find_subnetwork` in one call, from a corpus: the places of the kept weights, and the log of the training."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from interp.authoring import Source, load, probe
from probes.subnetworks._examples import pilot
from probes.subnetworks.bigram_model import bigram_model
from probes.subnetworks.search._frames import COMPONENTS, LOG, summarise_components, summarise_log
from probes.subnetworks.search.find_subnetwork import FoundSubnetworks, find_subnetwork


@probe(COMPONENTS, summarise=summarise_components, example=pilot)
def bigram_subnetwork(
    subject: Source, *, corpus: str = "shipped", sparsity: float | Sequence[float] = 10, **settings: Any
) -> pd.DataFrame:
    """Find a bigram subnetwork in one call, and count its weights by block and matrix.

    Args:
        subject: anything `interp.load` takes.
        corpus: see `bigram_model`.
        sparsity: see `find_subnetwork`.
        settings: further arguments of `find_subnetwork`.

    Returns:
        `find_subnetwork(...).components`.

    >>> frame = bigram_subnetwork("reference", unit="head", steps=2, batch=1, length=8)
    >>> bool((frame.groupby("control")["share_of_kept"].sum().round(9) <= 1).all())
    True
    """
    return _found(subject, corpus=corpus, sparsity=sparsity, **settings).components


@probe(LOG, summarise=summarise_log, example=pilot)
def subnetwork_log(subject: Source, **settings: Any) -> pd.DataFrame:
    """Find a bigram subnetwork in one call, and return the log of its training.

    Args:
        subject: anything `interp.load` takes.
        settings: further arguments of `bigram_subnetwork`.

    Returns:
        `find_subnetwork(...).log`.

    >>> frame = subnetwork_log("reference", unit="head", steps=2, batch=1, length=8)
    >>> frame["step"].tolist()
    [0, 1]
    """
    return _found(subject, **settings).log


def _spelled_out(function: Callable[..., Any]) -> inspect.Signature:
    """Return a function's signature with the names that its `**settings` stand for, as a shell and a reader need them.

    `texts` are left out: a probe with an argument of that name is given the texts to measure, not those to train on.
    """
    given = {**_named(find_subnetwork), **_named(bigram_subnetwork), **_named(function)}
    kept = [one for name, one in given.items() if name not in ("bigrams", "texts")]
    return inspect.signature(function).replace(parameters=kept)


def _named(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    found = inspect.signature(function).parameters
    return {name: one for name, one in found.items() if one.kind is not inspect.Parameter.VAR_KEYWORD}


bigram_subnetwork.__signature__ = _spelled_out(bigram_subnetwork)  # type: ignore[attr-defined]
subnetwork_log.__signature__ = _spelled_out(subnetwork_log)  # type: ignore[attr-defined]


def _found(
    subject: Source, *, corpus: str = "shipped", sparsity: float | Sequence[float] = 10, **settings: Any
) -> FoundSubnetworks:
    loaded = load(subject)
    return find_subnetwork(loaded, bigram_model(loaded, corpus), sparsity=sparsity, **settings)
