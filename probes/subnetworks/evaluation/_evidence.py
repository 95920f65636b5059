"""Decide for each claim whether an evaluation of subnetworks is evidence for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from interp.stats import paired_bootstrap

# Controls of "only" for which no mask was trained; all others are masks found in untrained models.
_SIMPLE = ("random", "random_structured", "empty", "linear_map", "unigram")
_REMOVED = ("random", "random_structured")


def evidence(
    surprisal: pd.DataFrame, rotation: pd.DataFrame, covariance: pd.DataFrame, overlap: pd.DataFrame | None
) -> pd.DataFrame:
    """Build the rows of `Evaluation.summary`."""
    summary = surprisal.interp.summary()
    of_subnetworks = summary[(summary["condition"] == "only") & (summary["control"] == "none")]
    rows = []
    for own in of_subnetworks.to_dict("records"):
        at = {"sparsity": own["sparsity"], "kept": own["kept"]}
        claims = [
            *_correlation(own, summary, several=surprisal["prompt_id"].nunique() > 1),
            _needed(surprisal, own["sparsity"]),
            _turned(rotation, own["sparsity"]),
            _transition(covariance, own["sparsity"]),
            _shared(overlap, own["sparsity"]),
        ]
        rows += [at | claim for claim in claims]
    return pd.DataFrame(rows)


def _claim(claim: str, measure: str, evidence: str, **values: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("value", "low", "high"), np.nan) | {"control": None, "control_value": np.nan}
    return {"claim": claim, "measure": measure} | empty | values | {"evidence": evidence}


def _described(claim: str, measure: str, by_control: pd.Series) -> dict[str, Any]:
    """Return a value without an interval, with the random subnetwork's as its control."""
    value, random = by_control["none"], by_control["random"]
    return _claim(claim, measure, "description", value=value, control="random", control_value=random)


def _correlation(own: dict[str, Any], summary: pd.DataFrame, *, several: bool) -> Iterator[dict[str, Any]]:
    """Compare its correlation with the best control without trained masks, and the best mask in an untrained model.

    A correlation that is the same in all resamples has no interval. With `several` prompts the value itself decides.
    """
    alone = summary[(summary["condition"] == "only") & (summary["control"] != "none")]
    simple = alone["control"].isin(_SIMPLE)
    values = {"value": own["r"], "low": own["r_low"], "high": own["r_high"]}
    for claim, rows in (
        ("says more than simple models of words", alone[simple & _at(alone, own["sparsity"], shared=True)]),
        ("says what an untrained model cannot be masked into", alone[~simple]),
    ):
        if rows.empty:
            yield _claim(claim, "r with bigram surprisals", "not measured", **values)
            continue
        best = rows.loc[rows["r"].fillna(-np.inf).idxmax()]
        low, high = (
            row["r"] if several and np.isnan(row[end]) else row[end] for row, end in ((own, "r_low"), (best, "r_high"))
        )
        clear = low > high
        control = {"control": best["control"], "control_value": best["r"]}
        yield _claim(claim, "r with bigram surprisals", _yes(clear), **values, **control)


def _needed(surprisal: pd.DataFrame, sparsity: float) -> dict[str, Any]:
    """Compare the loss without it with the loss without as many random weights of every matrix."""
    later = surprisal[(surprisal["pos"] > 0) & (surprisal["condition"] == "minus") & _at(surprisal, sparsity)]
    means = later.groupby(["control", "prompt_id"])["surprisal"].mean().unstack()
    intact = surprisal[(surprisal["pos"] > 0) & (surprisal["condition"] == "full")]
    loss = means - intact.groupby("prompt_id")["surprisal"].mean()
    hardest = loss.loc[list(_REMOVED)].mean(axis=1).idxmax()
    excess = loss.loc["none"] - loss.loc[hardest]
    mean, low, high, p = (value[0] for value in paired_bootstrap(excess.to_numpy()[None]))
    # Equal differences have no interval; their p-value counts the prompts.
    needed = low > 0 if not np.isnan(low) else mean > 0 and p <= 0.05
    return _claim(
        "the model needs it",
        "bits lost without it, beyond the control's",
        _yes(needed),
        value=mean,
        low=low,
        high=high,
        control=hardest,
        control_value=loss.loc[hardest].mean(),
    )


def _turned(rotation: pd.DataFrame, sparsity: float) -> dict[str, Any]:
    """Return by how much the first block turns the residual stream away from the embedding."""
    rows = rotation[(rotation["condition"] == "only") & (rotation["target"] == "in") & _at(rotation, sparsity)]
    angles = rows.pivot(index="control", columns="layer", values="angle")
    measure = "degrees from the embedding, layer 1 - layer 0"
    return _described("the first block turns the stream", measure, angles[1] - angles[0])


def _transition(covariance: pd.DataFrame, sparsity: float) -> dict[str, Any]:
    rows = covariance[(covariance["condition"] == "only") & _at(covariance, sparsity)]
    first = rows[(rows["layer"] == 0) & (rows["other_layer"] == 1)].set_index("control")["similarity"]
    return _described("the first block changes the space", "similarity of covariances, layers 0 and 1", first)


def _shared(overlap: pd.DataFrame | None, sparsity: float) -> dict[str, Any]:
    """Return the overlap under the null that explains most of it."""
    claim, measure = "it is part of the optimal subnetwork", "weights shared over those expected"
    if overlap is None:
        return _claim(claim, measure, "not measured")
    rows = overlap[(overlap["component"] == "all") & _at(overlap, sparsity)].reset_index(drop=True)
    nearest = rows.loc[rows["expected"].idxmax()] if rows["z"].isna().all() else rows.loc[rows["z"].idxmin()]
    found = {"value": nearest["ratio"], "control": nearest["null"], "control_value": 1.0}
    return _claim(claim, measure, _yes(nearest["z"] > 0 and nearest["p"] < 0.01), **found)


def _at(frame: pd.DataFrame, sparsity: float, shared: bool = False) -> pd.Series:
    """Select the rows of one subnetwork; with `shared`, also the rows without a sparsity."""
    none = frame["sparsity"].isna()
    return none if np.isnan(sparsity) else (frame["sparsity"] == sparsity) | (none & shared)


def _yes(holds: Any) -> str:
    return "yes" if bool(holds) else "no"
