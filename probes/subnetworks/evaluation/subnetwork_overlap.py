"""Number of weights that two subnetworks share, beside the number expected by chance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd

from interp.authoring import Column, InputError, Run, Schema, Source, Subject, columns, probe
from probes import papers
from probes.subnetworks import plots
from probes.subnetworks._examples import shipped_subnetwork
from probes.subnetworks.evaluation._conditions import Subnetworks, by_sparsity, digests
from probes.subnetworks.evaluation._placement import NULLS, Chance
from probes.subnetworks.subnetwork import Subnetwork, maskable

By = Literal["component", "head", "neuron"]
_ALL = "all"
_BLOCK = Column("layer", "id", "block, 0..L-1; missing for all together", missing=True, low=0)
_COMPONENT = Column("component", "str", "weight matrix: q, k, v, o, mlp_in, mlp_gate, mlp_out; 'all': together")
_SPARSITY = Column("sparsity", "float", "lambda the subnetwork was found with", low=0.0, missing=True)

OVERLAP = Schema(
    probe="subnetwork_overlap",
    paper=papers.BIGRAM_SUBNETWORKS,
    rows="one per subnetwork, weight matrix and null, and one for all matrices together",
    columns=columns(
        "model",
        "run_id",
        _SPARSITY,
        _BLOCK,
        _COMPONENT,
        Column("null", "str", "scattered: hypergeometric; rows, columns: those of one mask in random order"),
        Column("n_kept", "int", "weights the subnetwork keeps", low=0),
        Column("n_other", "int", "weights the other subnetwork keeps", low=0),
        Column("n_total", "int", "weights of the matrix", low=0),
        Column("observed", "int", "weights both keep", low=0),
        Column("expected", "float", "mean of observed under the null", low=0.0),
        Column("sd", "float", "standard deviation of observed under the null", low=0.0),
        Column("ratio", "float", "observed / expected", missing=True, low=0.0),
        Column("z", "float", "standard deviations above the expected number; missing if sd is 0", missing=True),
        Column("p", "float", "upper tail of the normal distribution at z", "0..1", 0.0, 1.0, True),
        Column("share_in_other", "float", "observed / n_kept", "0..1", 0.0, 1.0, True),
    ),
)


def _whole_model(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows over all components together."""
    return frame[frame["component"] == _ALL].reset_index(drop=True)


def _example(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    return {"subnetwork": shipped_subnetwork(subject), "other": shipped_subnetwork(subject, sparsity=100)}


@probe(OVERLAP, plot=plots.subnetwork_overlap, summarise=_whole_model, example=_example)
def subnetwork_overlap(subject: Source, subnetwork: Subnetworks, other: Subnetwork) -> pd.DataFrame:
    """Count the weights that two subnetworks share, beside three nulls that keep each matrix's count.

    "scattered" places the subnetwork's weights anywhere in their matrix: the count is hypergeometric. But masks keep
    whole neurons and dimensions, and two masks that agree only on a few rows are far above that null. "rows" and
    "columns" therefore put the rows or columns of one mask into a random order, as the paper does with the first axis;
    each stays as full as it is. All three have closed forms; nothing is shuffled. Axes are those of the matrix as the
    model stores it.

    Args:
        subject: anything `interp.load` takes.
        subnetwork: a `Subnetwork`, a result of `find_subnetwork`, or subnetworks by their sparsity.
        other: another subnetwork, such as the one found with target="model".

    Returns:
        One row per subnetwork, weight matrix and null, and one for all matrices ("all"), which `.interp.summary()`
        selects. Means and variances of independent matrices add up.

    Raises:
        InputError: `subnetwork` or `other` is something else.
        ModelError: a subnetwork belongs to another model.

    Cost: no forward pass.

    Pitfall: masks agree on whole rows and columns, so the null of scattered weights is too easy.

    >>> import interp
    >>> subject = interp.load("reference")
    >>> empty = Subnetwork.empty(subject)
    >>> frame = subnetwork_overlap(subject, empty, empty.complement())
    >>> frame.interp.summary().observed.tolist()
    [0, 0, 0]
    """
    if not isinstance(other, Subnetwork):
        raise InputError(f"other={other!r} is not a Subnetwork; pick one from a result by its sparsity.")
    found = by_sparsity(subnetwork)
    parameters = {"subnetworks": digests(found), "other": other.digest}
    run = Run(OVERLAP, subject, None, parameters=parameters)
    for one in (*found.values(), other):
        one.check(run.subject)
    return run.frame(row for sparsity, one in found.items() for row in _overlaps(run.subject, sparsity, one, other))


def _overlaps(subject: Subject, sparsity: float, one: Subnetwork, other: Subnetwork) -> Iterator[dict[str, Any]]:
    for null, chance in NULLS.items():
        total, counts = Chance(0.0, 0.0), np.zeros(4, dtype=int)
        for target in maskable(subject):
            ours, theirs = one.masks[target.name], other.masks[target.name]
            each = chance(ours, theirs)
            of_matrix = np.array([int(ours.sum()), int(theirs.sum()), ours.numel(), int((ours & theirs).sum())])
            yield _row(of_matrix, each) | _at(sparsity, target.layer, target.component, null)
            total, counts = total + each, counts + of_matrix
        yield _row(counts, total) | _at(sparsity, -1, _ALL, null)


def _at(sparsity: float, layer: int, component: str, null: str) -> dict[str, Any]:
    return {"sparsity": sparsity, "layer": layer, "component": component, "null": null}


def _row(counts: np.ndarray, chance: Chance) -> dict[str, Any]:
    n_kept, n_other, n_total, observed = counts.tolist()
    return {
        "n_kept": n_kept,
        "n_other": n_other,
        "n_total": n_total,
        "observed": observed,
        "expected": chance.mean,
        "sd": chance.variance**0.5,
        "ratio": observed / chance.mean if chance.mean else np.nan,
        "z": chance.z(observed),
        "p": chance.p(observed),
        "share_in_other": observed / n_kept if n_kept else np.nan,
    }
