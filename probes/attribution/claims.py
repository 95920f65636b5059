"""Claims about NormXLogit and ReAGent, tested by the faithfulness of their scores to the model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from interp.authoring import InputError, Subject
from interp.findings import Claim, Comparison, NotApplicable
from interp.findings.per_prompt import CORRELATION, rank_correlation
from probes import papers
from probes.attribution.attribute import attribute
from probes.attribution.faithfulness._metrics import Metric
from probes.attribution.faithfulness.faithfulness import faithfulness
from probes.attribution.normxlogit import NORMXLOGIT

_METHODS: dict[str, dict[str, Any]] = {
    "normxlogit": {},
    "logit": {},
    "occlusion": {},
    "integrated_gradients": {"n_steps": 20},
    "reagent": {"n_probes": 4, "max_steps": 100, "keep": 3},
    "random": {},
}
FRACTIONS = (0.1, 0.3, 0.5)
_N_PROMPTS = 40  # of 120, which are ten kinds of twelve: four of each kind


def attributions(
    subject: Subject, texts: pd.DataFrame, names: Sequence[str], *, seed: int, truncate: bool
) -> pd.DataFrame:
    """Return the scores of the methods named, for the model's own next token."""
    methods = {name: _METHODS[name] for name in names}
    return attribute(subject, texts[["prompt_id", "text"]], methods=methods, seed=seed, truncate=truncate)


def faithfulness_of_normxlogit(subject: Subject, texts: pd.DataFrame, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Measure by hard metrics NormXLogit and what its claims hold it against, without the cost of ReAGent."""
    scores = attributions(subject, texts, ("normxlogit", "logit", "integrated_gradients"), seed=seed, truncate=truncate)
    return _faithfulness(subject, scores, ("comprehensiveness", "sufficiency"), seed)


def faithfulness_of_reagent(subject: Subject, texts: pd.DataFrame, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Measure by soft metrics, and by comprehensiveness, ReAGent and integrated gradients."""
    scores = attributions(subject, texts, ("integrated_gradients", "reagent"), seed=seed, truncate=truncate)
    return _faithfulness(subject, scores, ("comprehensiveness", "soft_ns", "soft_nc"), seed)


def _faithfulness(subject: Subject, scores: pd.DataFrame, metrics: Sequence[Metric], seed: int) -> pd.DataFrame:
    try:
        # One draw is enough: those of 40 prompts are independent, and the means over prompts average them.
        return faithfulness(subject, scores, metrics=metrics, fractions=FRACTIONS, n_draws=4, n_samples=1, seed=seed)
    except InputError as error:
        raise NotApplicable(str(error)) from error


def _metric(frame: pd.DataFrame, method: str, metric: str, value: str = "value") -> pd.Series:
    rows = frame[(frame["method"] == method) & (frame["metric"] == metric) & (frame["control"] == "none")]
    return rows.groupby("prompt_id")[value].mean()


def against_shuffles(frame: pd.DataFrame, method: str, metric: str) -> tuple[pd.Series, pd.Series]:
    """Return a method's metric per prompt, and that of its own scores shuffled among the tokens."""
    return _metric(frame, method, metric), _metric(frame, method, metric, "value_random")


def against_method(frame: pd.DataFrame, method: str, other: str, metric: str) -> tuple[pd.Series, pd.Series]:
    """Return a method's metric per prompt, and that of another method."""
    return _metric(frame, method, metric), _metric(frame, other, metric)


def causes(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Correlate NormXLogit with occlusion (Spearman) over all tokens but the last; the control is random scores."""
    earlier = frame[(frame["pos"] > 0) & (frame["pos"] < frame["target_pos"])]
    table = earlier.pivot(index=["prompt_id", "pos"], columns="method", values="score").reset_index()
    return rank_correlation(table, "normxlogit", "occlusion"), rank_correlation(table, "random", "occlusion")


def attributions_beside_occlusion(subject: Subject, texts: pd.DataFrame, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Return the scores of the three methods that `causes` compares."""
    return attributions(subject, texts, ("normxlogit", "occlusion", "random"), seed=seed, truncate=truncate)


def _claim(
    id: str,
    statement: str,
    says: str,
    statistic: Any,
    note: str = "",
    bounds: tuple[float, float] | None = CORRELATION,
    **comparison: Any,
) -> Claim:
    of_reagent = id.startswith("reagent.")
    return Claim(
        id=id,
        statement=statement,
        paper=papers.REAGENT if of_reagent else NORMXLOGIT.paper,
        says=says,
        probe="faithfulness",
        measure=faithfulness_of_reagent if of_reagent else faithfulness_of_normxlogit,
        texts="prompts",
        n_texts=_N_PROMPTS,
        statistic=statistic,
        comparison=Comparison(**comparison),
        bounds=bounds,
        note=note or _NOTE,
    )


def _against_gradients(id: str, statement: str, says: str, metric: str = "") -> Claim:
    """Return the claim that ReAGent is above integrated gradients in a soft metric."""
    statistic = partial(against_method, method="reagent", other="integrated_gradients", metric=metric or id)
    return _claim(f"reagent.{id}", statement, says, statistic, bounds=None, above="control")


_NOTE = (
    "The target is the model's own next token after short prompts; the papers' tasks are classification (NormXLogit) "
    "and analogies (ReAGent). Removed tokens are replaced by tokens drawn by their frequency; 10, 30 and 50 % of the "
    "tokens are removed."
)
_CAUSAL = (
    "The method was made for classifiers; in a causal model a token cannot see later ones, and its logit shows what "
    "its own residual stream points to, not what the prediction used."
)

CLAIMS = (
    _claim(
        "normxlogit.comprehensiveness",
        "removing what NormXLogit calls important costs more than removing others",
        "On MNLI with BERT, masking its best tokens takes more of the predicted class's probability than masking "
        "random ones (.557 against .362). The control is the same scores shuffled among the tokens.",
        partial(against_shuffles, method="normxlogit", metric="comprehensiveness"),
        above="control",
    ),
    _claim(
        "normxlogit.sufficiency",
        "keeping what NormXLogit calls important costs less than keeping others",
        "The best tokens alone should keep the prediction; but in the authors' notebook (MNLI, BERT) the sufficiency "
        "is .381, worse than the random control's .362, and the paper emphasises comprehensiveness. Here the control "
        "is the same scores shuffled.",
        partial(against_shuffles, method="normxlogit", metric="sufficiency"),
        below="control",
    ),
    _claim(
        "normxlogit.norm_helps",
        "the norm makes NormXLogit more comprehensive than the logit alone",
        "The norm of the input embedding is one of the method's two factors. The control is the other factor alone, "
        "which in the authors' tables is as good or better in several cells (MNLI, BERT: .567 against .557).",
        partial(against_method, method="normxlogit", other="logit", metric="comprehensiveness"),
        above="control",
    ),
    _claim(
        "normxlogit.beats_gradients",
        "NormXLogit is more comprehensive than integrated gradients",
        "On MNLI with BERT, .557 against .466 for integrated gradients of 50 steps, at a fraction of the time. The "
        "control is integrated gradients.",
        partial(against_method, method="normxlogit", other="integrated_gradients", metric="comprehensiveness"),
        "Integrated gradients use 20 steps here. " + _CAUSAL,
        above="control",
    ),
    Claim(
        id="normxlogit.finds_causes",
        statement="NormXLogit ranks earlier tokens as their removal does",
        paper=NORMXLOGIT.paper,
        says="The head on top 'never lies': its logit at a token is taken as the token's part in the prediction. The "
        "paper tests this by masking, in bidirectional classifiers, against random scores; the control here is random "
        "scores too.",
        probe="attribute",
        measure=attributions_beside_occlusion,
        texts="prompts",
        n_texts=_N_PROMPTS,
        statistic=causes,
        comparison=Comparison(above="control"),
        bounds=CORRELATION,
        note="Spearman's correlation with occlusion, without the last token, whose own logit made the prediction. "
        + _CAUSAL,
    ),
    _against_gradients(
        "soft_ns",
        "ReAGent's scores are more sufficient (soft NS) than integrated gradients'",
        "Its soft sufficiency is above that of gradients and attention in most of six models (GPT-2 medium: log ratio "
        "to random 2.09 against .27). The control is integrated gradients.",
    ),
    _against_gradients(
        "soft_nc",
        "ReAGent's scores are more comprehensive (soft NC) than integrated gradients'",
        "Its soft comprehensiveness is above that of gradients and attention in six models (GPT-2 medium: log ratio to "
        "random 4.01 against 1.83). The control is integrated gradients.",
    ),
    _against_gradients(
        "beyond_sharpness",
        "ReAGent's order of tokens is more comprehensive than integrated gradients', sharpness aside",
        "The claim is that it finds more important tokens. Soft metrics reward sharp scores in any order, and "
        "ReAGent's sharpen as it runs. The paper has no control for this; here the scores of both methods are replaced "
        "by their ranks.",
        metric="soft_nc_rank",
    ),
    _claim(
        "reagent.above_chance",
        "removing what ReAGent calls important costs more than removing others",
        "Above random attributions throughout. The paper's random scores are nearly flat, which alone lowers soft "
        "metrics; the control here is ReAGent's own scores shuffled, and the metric is a hard one.",
        partial(against_shuffles, method="reagent", metric="comprehensiveness"),
        above="control",
    ),
)
