"""Similarity of the residuals' covariances between layers: it shows whether the first block changes the space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from interp.authoring import Column, InputError, Run, Schema, Source, Texts, collect, columns, probe
from probes import papers
from probes.subnetworks._examples import with_subnetwork
from probes.subnetworks.evaluation import plots
from probes.subnetworks.evaluation._conditions import SubnetworkCondition, Subnetworks, by_sparsity, digests
from probes.subnetworks.evaluation._ridge import similarity, without_largest
from probes.subnetworks.evaluation._state_moments import StateMoments
from probes.subnetworks.evaluation.subnetwork_rotation import rotation_conditions
from probes.subnetworks.evaluation.subnetwork_surprisal import CONDITION, KEPT, SPARSITY
from probes.subnetworks.subnetwork import Subnetwork

COVARIANCE = Schema(
    probe="subnetwork_covariance",
    paper=papers.BIGRAM_SUBNETWORKS,
    rows="one per condition, control and pair of layers",
    columns=columns(
        "model",
        "run_id",
        CONDITION,
        "control",
        SPARSITY,
        KEPT,
        "layer",
        Column("other_layer", "int", "the layer it is compared with, 0..L", low=0),
        Column("similarity", "float", "Frobenius cosine of the two covariances", "0..1", -1e-9, 1.0, True),
    ),
)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the similarity of each layer with the next; `.pivot` the frame itself for all pairs."""
    return frame[frame["other_layer"] == frame["layer"] + 1].reset_index(drop=True)


@probe(COVARIANCE, plot=plots.subnetwork_covariance, summarise=summarise, example=with_subnetwork)
def subnetwork_covariance(
    subject: Source,
    subnetwork: Subnetworks,
    texts: Texts,
    *,
    n_dropped: int = 1,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Compare the covariances of the residuals of every two layers.

    The directions of largest variance are dropped from each layer; otherwise a single massive dimension would decide
    the similarity. A fall between layers 0 and 1 with high similarity after it is the paper's "first layer transition".
    A random subnetwork, whose blocks change little, is similar throughout.

    Args:
        subject: anything `interp.load` takes.
        subnetwork: a `Subnetwork`, a result of `find_subnetwork`, or subnetworks by their sparsity.
        texts: anything `Subject.tokens` takes; all tokens except the first of each prompt are pooled.
        n_dropped: number of directions of largest variance to drop from each layer.
        seed: of random subnetworks.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per condition ("full", "only"), control ("random": another subnetwork with as many weights in every
        matrix) and pair of layers 0..L, in both orders.

    Raises:
        InputError: `n_dropped` leaves nothing, or another argument cannot be used.
        ModelError: a subnetwork belongs to another model.

    Cost: one forward pass per condition, 3 d² float64 multiplications per token and layer, L + 1 eigenvalue problems of
    size d.

    Pitfall: few massive dimensions decide a covariance; `n_dropped` says how many directions were left out.

    >>> import interp
    >>> subject = interp.load("reference")
    >>> empty = Subnetwork.empty(subject)
    >>> frame = subnetwork_covariance(subject, empty, ["Once upon a time there was a cat", "A dog sat on the mat"])
    >>> bool(((frame.query("layer == other_layer").similarity - 1).abs() < 1e-9).all())
    True
    """
    found = by_sparsity(subnetwork)
    run = covariance_run(subject, found, texts, n_dropped=n_dropped, seed=seed, truncate=truncate)
    parts = []
    for condition in rotation_conditions(run.subject, found, seed):
        with condition.applied() as model:
            moments = StateMoments(run, torch.zeros(len(run.tokens), dtype=torch.bool))
            collect(run, [moments], model)
        parts.append(covariance_columns(condition, moments, n_dropped))
    return run.frame(parts)


def covariance_run(
    subject: Source,
    found: Mapping[float, Subnetwork],
    texts: Texts,
    *,
    n_dropped: int,
    seed: int,
    truncate: bool,
) -> Run:
    """Check the arguments of `subnetwork_covariance` and start its run."""
    parameters = {"n_dropped": n_dropped, "subnetworks": digests(found)}
    run = Run(COVARIANCE, subject, texts, parameters=parameters, truncate=truncate, seed=seed)
    for one in found.values():
        one.check(run.subject)
    if not 0 <= n_dropped < run.subject.d_model:
        raise InputError(f"n_dropped={n_dropped} of {run.subject.d_model} dimensions; leave at least one.")
    return run


def covariance_columns(condition: SubnetworkCondition, moments: StateMoments, n_dropped: int) -> dict[str, Any]:
    """Return the rows of one condition, from its moments without their `n_dropped` largest directions."""
    layers = range(len(moments.fitted))
    rest = [without_largest(moments.covariance(layer), n_dropped) for layer in layers]
    values = np.array([[similarity(one, other) for other in rest] for one in rest])
    places = {"layer": np.repeat(layers, len(layers)), "other_layer": np.tile(layers, len(layers))}
    return condition.columns() | places | {"similarity": values.ravel()}
