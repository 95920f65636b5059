"""Claims about iterative inference: detecting wrong answers by the course of a prediction through the layers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from interp.findings import Claim, Comparison, NotApplicable
from interp.stats import auc, pseudo_values
from probes import papers
from probes.uncertainty._detection import too_few, uncertainty_scores


def _detector(frame: pd.DataFrame, score: str) -> pd.Series:
    scores = uncertainty_scores(frame).set_index("prompt_id")
    reason = too_few(~scores["correct"].to_numpy(bool))
    if reason:
        runs = frame.attrs.get("interp", {}).values()
        raise NotApplicable("; ".join([reason, *(run["left_out"] for run in runs if "left_out" in run)]) + ".")
    return pseudo_values(scores, lambda some: auc(some[score].to_numpy(), ~some["correct"].to_numpy()))


def confidence(frame: pd.DataFrame) -> pd.Series:
    """Return the AUC of the output's loss of the generated token for wrong answers, as pseudo-values per prompt."""
    return _detector(frame, "output_loss")


def trajectory(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the AUC of that loss averaged over all layers; the control is the AUC of the output's alone."""
    return _detector(frame, "area"), confidence(frame)


def _iterative(id: str, statement: str, says: str, statistic: Any, note: str, **comparison: Any) -> Claim:
    return Claim(
        id=f"iterative.{id}",
        statement=statement,
        paper=papers.ITERATIVE_INFERENCE,
        says=says,
        probe="iterative_inference",
        texts="prompts",
        statistic=statistic,
        comparison=Comparison(**comparison),
        note=note,
    )


CLAIMS = (
    _iterative(
        "confidence",
        "the output's confidence tells wrong answers with an AUC of 0.9",
        "On idioms without their last word, GPT-2 XL's loss of the token it generates tells wrong completions from "
        "right ones with an AUC of 0.92. This is the last layer's confidence, and the paper has no other detector as a "
        "control.",
        confidence,
        "120 short prompts of other kinds; the paper's idioms are not public. The figure is from secondary sources.",
        at_least=0.9,
    ),
    _iterative(
        "trajectory",
        "the loss along all layers tells wrong answers better than the output's alone",
        "The rate at which the residual converges shows uncertainty. The control, ours, is the detector that reads the "
        "last layer only: without it, the result would only show that confidence is informative.",
        trajectory,
        "The mean of the generated token's loss over layers stands for the rate of convergence, which the abstract "
        "leaves open.",
        above="control",
    ),
)
