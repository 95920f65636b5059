"""Counts of a subnetwork's weights by matrix, attention head or MLP neuron."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd
from torch import Tensor

from interp.authoring import Column, Run, Schema, Source, Subject, columns, probe
from probes import papers
from probes.subnetworks import plots
from probes.subnetworks._examples import with_subnetwork
from probes.subnetworks.evaluation._conditions import Subnetworks, by_sparsity, digests
from probes.subnetworks.subnetwork import Subnetwork, maskable, shares

By = Literal["component", "head", "neuron"]
_UNITS: dict[By, tuple[str, ...]] = {
    "component": ("q", "k", "v", "o", "mlp_in", "mlp_gate", "mlp_out"),
    "head": ("q", "k", "v", "o"),
    "neuron": ("mlp_in", "mlp_gate", "mlp_out"),
}
_READ = ("o", "mlp_out")  # heads or neurons are inputs of these matrices and outputs of the others

KEPT_WEIGHTS = Schema(
    probe="kept_weights",
    paper=papers.BIGRAM_SUBNETWORKS,
    rows="one per subnetwork, block and weight matrix, and with by= per head or neuron of it",
    columns=columns(
        "model",
        "run_id",
        Column("sparsity", "float", "lambda the subnetwork was found with", low=0.0, missing=True),
        Column("layer", "int", "block, 0..L-1", low=0),
        Column("component", "str", "weight matrix: q, k, v, o, mlp_in, mlp_gate, mlp_out"),
        Column("index", "id", "head or neuron within the block; missing for by='component'", low=0, missing=True),
        Column("kept_count", "int", "weights kept", low=0),
        Column("total_count", "int", "all weights of the matrix, head or neuron", low=0),
        Column("kept_fraction", "float", "kept_count / total_count", "0..1", 0.0, 1.0),
        Column("share_of_kept", "float", "kept_count / all weights the subnetwork keeps", "0..1", 0.0, 1.0),
        Column("share_if_even", "float", "share_of_kept if the kept weights were spread evenly", "0..1", 0.0, 1.0),
    ),
)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Sum over all blocks, per subnetwork and component: counts, and shares of the kept weights beside even ones."""
    keys = ["model", "run_id", "sparsity", "component"]
    sums = ["kept_count", "total_count", "share_of_kept", "share_if_even"]
    summary = frame.groupby(keys, sort=False, dropna=False)[sums].sum().reset_index()
    summary.insert(6, "kept_fraction", summary["kept_count"] / summary["total_count"])
    return summary


@probe(KEPT_WEIGHTS, plot=plots.kept_weights, summarise=summarise, example=with_subnetwork)
def kept_weights(subject: Source, subnetwork: Subnetworks, *, by: By = "component") -> pd.DataFrame:
    """Count the weights of each matrix that a subnetwork keeps.

    Args:
        subject: anything `interp.load` takes.
        subnetwork: a `Subnetwork`, a result of `find_subnetwork`, or subnetworks by their sparsity.
        by: "component": count by weight matrix; "head": by attention head, in q, k, v (grouped keys and values have
            fewer heads) and o; "neuron": by MLP neuron, in mlp_in, mlp_gate and mlp_out.

    Returns:
        One row per subnetwork, block and matrix (and head or neuron).

    Raises:
        UnknownName: `by` is something else.
        ModelError: a subnetwork belongs to another model.

    Cost: no forward pass.

    Pitfall: a matrix with more weights keeps more by chance: read `share_of_kept` beside `share_if_even`.

    >>> import interp
    >>> subject = interp.load("reference")
    >>> whole = Subnetwork.full(subject)
    >>> frame = kept_weights(subject, whole)
    >>> bool((frame.share_of_kept == frame.share_if_even).all()), len(kept_weights(subject, whole, by="head"))
    (True, 256)
    """
    found = by_sparsity(subnetwork)
    run = Run(KEPT_WEIGHTS, subject, None, parameters={"subnetworks": digests(found), "by": by})
    for one in found.values():
        one.check(run.subject)
    return run.frame([part for sparsity, one in found.items() for part in _parts(run.subject, sparsity, one, by)])


def _parts(subject: Subject, sparsity: float, one: Subnetwork, by: By) -> Iterator[dict[str, Any]]:
    d_head = next(matrix.shape[0] for matrix in maskable(subject) if matrix.component == "q") // subject.n_heads
    for matrix in maskable(subject):
        if matrix.component not in _UNITS[by]:
            continue
        units = _units(one.masks[matrix.name], matrix.component, by, d_head)
        kept, total = units.sum(1).numpy(), units.shape[1]
        yield {
            "sparsity": sparsity,
            "layer": matrix.layer,
            "component": matrix.component,
            "index": np.arange(len(units)) if by != "component" else np.array([-1]),
            "share_if_even": total / one.n_total,
        } | shares(one, kept, total)


def _units(mask: Tensor, component: str, by: By, d_head: int) -> Tensor:
    """Arrange a mask as one row per unit, [1 or heads or neurons, weights]."""
    if by == "component":
        return mask.reshape(1, -1)
    by_unit = mask.T if component in _READ else mask
    return by_unit if by == "neuron" else by_unit.reshape(len(by_unit) // d_head, -1)
