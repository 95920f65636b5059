"""The frames of `find_subnetwork`: the log of training, and the places of the kept weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import Column, Schema, columns
from probes import papers
from probes.subnetworks.search._groups import decided
from probes.subnetworks.subnetwork import Subnetwork, shares

_TARGET = Column("target", "str", "what the masks are trained to predict: bigram, unigram, model or a function's name")
_SPARSITY = Column("sparsity", "float", "lambda: the weight of the mean soft mask in the loss", low=0.0)
_LAYER = Column("layer", "int", "block of the matrix", low=0)
_COMPONENT = Column("component", "str", "weight matrix: q, k, v, o, mlp_in, mlp_gate or mlp_out")

LOG = Schema(
    probe="subnetwork_log",
    paper=papers.BIGRAM_SUBNETWORKS,
    rows="one per sparsity, attempt and every tenth step, the last one included",
    columns=columns(
        "model",
        "run_id",
        _SPARSITY,
        _TARGET,
        Column("attempt", "int", "from 0; an unstable training is repeated", low=0),
        Column("step", "int", "training step, from 0", low=0),
        Column(
            "xent", "float", "cross-entropy of the softly masked model with the target, on the batch", "nats", low=0.0
        ),
        Column("entropy", "float", "of the target on the batch; no cross-entropy is lower", "nats", low=0.0),
        Column("soft_kept", "float", "mean soft mask over all weights", "0..1", low=0.0, high=1.0),
        Column("inverse_temperature", "float", "T of the soft mask sigmoid(T m)", low=1.0),
        Column("n_mid", "int", "mask parameters whose soft mask is between 0.1 and 0.9", low=0),
        Column("n_hi", "int", "mask parameters whose soft mask is above 0.9", low=0),
        Column("seconds", "float", "training time so far, all attempts", "s", low=0.0),
    ),
)

COMPONENTS = Schema(
    probe="bigram_subnetwork",
    paper=papers.BIGRAM_SUBNETWORKS,
    rows="one per sparsity, block and weight matrix; for the control, as many weights spread evenly over all matrices",
    columns=columns(
        "model",
        "run_id",
        _SPARSITY,
        _TARGET,
        _LAYER,
        _COMPONENT,
        Column("kept_count", "float", "weights kept; for the control their expected number", low=0.0),
        Column("total_count", "int", "weights of the matrix", low=1),
        Column("kept_fraction", "float", "kept_count / total_count", "0..1", low=0.0, high=1.0),
        Column("share_of_kept", "float", "kept_count / all weights the subnetwork keeps", "0..1", low=0.0, high=1.0),
        "control",
    ),
)


def log_rows(log: Sequence[Mapping[str, float]], sparsity: float, target: str) -> list[dict[str, Any]]:
    """Return the columns of `LOG` from the rows of a training."""
    return [{**row, "sparsity": sparsity, "target": target} for row in log]


def component_columns(found: Mapping[float, Subnetwork], target: str) -> list[dict[str, Any]]:
    """Return the columns of `COMPONENTS`, one part per sparsity and control."""
    parts = []
    for sparsity, subnetwork in found.items():
        counts = subnetwork.counts()
        total = counts["total_count"].to_numpy()
        evenly = total * subnetwork.kept_fraction
        for control, kept in (("none", counts["kept_count"].to_numpy(dtype=float)), ("size", evenly)):
            parts.append(
                {name: counts[name].to_numpy() for name in ("layer", "component")}
                | shares(subnetwork, kept, total)
                | {"sparsity": sparsity, "target": target, "control": control}
            )
    return parts


def summarise_components(frame: pd.DataFrame) -> pd.DataFrame:
    """Sum per sparsity and block: weights kept, and the shares of attention and MLP beside those of an even spread."""
    by = ["model", "run_id", "sparsity", "target", "layer"]
    parts = np.where(frame["component"].str.startswith("mlp"), "mlp", "attn")
    shares = frame.assign(part=parts).pivot_table("share_of_kept", by, ["control", "part"], aggfunc="sum")
    own = frame[frame["control"] == "none"].groupby(by)[["kept_count", "total_count"]].sum()
    summary = own.assign(kept_fraction=own["kept_count"] / own["total_count"])
    for part in ("attn", "mlp"):
        summary[f"{part}_share"] = shares["none", part]
        summary[f"{part}_share_by_size"] = shares["size", part]
    return summary.reset_index()


def summarise_log(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per sparsity: its last step, and whether the masks were decided by then."""
    last = frame.groupby(["model", "run_id", "sparsity", "target"], as_index=False).tail(1)
    return last.assign(decided=decided(last["n_mid"], last["n_hi"])).reset_index(drop=True)
