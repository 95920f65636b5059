"""The two frames of ReAGent: scores of tokens, and diagnostics of probes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from interp.authoring import Column, Schema, columns
from interp.stats import bootstrap_over_prompts
from probes import papers
from probes.attribution._targets import ATTRIBUTION, TARGET_POS, Scores, Targets
from probes.attribution.reagent._cases import spread
from probes.attribution.reagent._recursion import Case, ProbeOutcome

Implementation: TypeAlias = Literal["paper", "inseq", "original"]
AT_ONCE = 3  # steps: scores of probes that stop this early are mostly their random start

REAGENT = Schema(
    probe="reagent",
    paper=papers.REAGENT,
    rows="one per prompt, target and token read",
    columns=columns(
        *(column.with_(missing=True) if column.name == "score" else column for column in ATTRIBUTION),
        Column("converged", "float", "share of the prompt's probes that stopped", "0..1", low=0.0, high=1.0),
        Column("stop_step", "float", "median step at which these probes stopped, from 1", low=1.0, missing=True),
    ),
    summary_by=("method",),
    lines_by=("target_pos",),
    summary_of=("converged", "stop_step", "stops_at_once", "entropy"),
)

REAGENT_PROBES = Schema(
    probe="reagent_probes",
    paper=papers.REAGENT,
    rows="one per prompt, target and probe",
    columns=columns(
        "model",
        "run_id",
        "prompt_id",
        TARGET_POS,
        "target_id",
        "target",
        Column("probe", "int", "number of the probe among the prompt's", low=0),
        Column("converged", "bool", "whether the probe stopped"),
        Column("stop_step", "id", "step at which the probe stopped, from 1", low=1, missing=True),
        Column("entropy", "float", "entropy of the probe's scores over the tokens", "nats", low=0.0),
        Column("prob_intact", "float", "probability of the target after the intact prompt", "0..1", low=0.0, high=1.0),
        Column("prob_kept", "float", "the same in the last stop test, with the best tokens only", low=0.0, high=1.0),
    ),
    summary_of=("converged", "stop_step", "entropy", "prob_intact", "prob_kept"),
)


def summarise_reagent(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Sum up how reliable the scores are: means over prompts with 95 % bootstrap intervals.

    `converged` is the share of probes that stopped, `stop_step` their median step, `stops_at_once` the share of prompts
    whose median is at most 3, so that their scores are mostly the random start, `entropy` the entropy of the scores
    (nats).
    """
    table = frame if "stops_at_once" in frame.columns else by_target(frame)
    by = ["model", "run_id", *REAGENT.summary_by]
    return bootstrap_over_prompts(table, by, REAGENT.summary_of, **options)


def by_target(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per target, of which `summarise_reagent` needs no more."""
    keys = ["model", "run_id", "method", "prompt_id", "target_pos", "target_id"]
    from scipy.special import entr  # a third of a second, of an import that most sessions do not need

    at = frame.assign(entropy=entr(frame["score"])).groupby(keys, sort=False)
    table = at.agg(converged=("converged", "first"), stop_step=("stop_step", "first"), entropy=("entropy", "sum"))
    table["stops_at_once"] = (table["stop_step"] <= AT_ONCE).astype(float)
    return table.reset_index()


REDUCED_FROM = ("target_pos", "target_id", "score", "converged", "stop_step")


def reduce_reagent(table: pa.Table) -> pd.DataFrame:
    """Return what the summary needs of the rows of whole prompts."""
    return by_target(table.to_pandas())


def scores_of(outcomes: Sequence[ProbeOutcome], targets: Targets, implementation: Implementation) -> Scores:
    """Return the mean over the probes that stopped; if none did, over all, or NaN for the implementation "original"."""
    score, score_se, converged, stop_step = [], [], [], []
    for outcome in outcomes:
        stopped = outcome.converged
        counted = outcome.importance[stopped if stopped.any() else slice(None)]
        mean = counted.mean(axis=0)
        score.append(np.full_like(mean, np.nan) if implementation == "original" and not stopped.any() else mean)
        alone = len(counted) < 2
        score_se.append(np.full_like(mean, np.nan) if alone else counted.std(axis=0, ddof=1) / math.sqrt(len(counted)))
        converged.append(stopped.mean())
        stop_step.append(float(np.median(outcome.stop_step[stopped])) if stopped.any() else math.nan)
    extra = {"converged": spread(converged, targets), "stop_step": spread(stop_step, targets)}
    return Scores(score, score_se, extra)


def probe_columns(targets: Targets, cases: Sequence[Case], outcomes: Sequence[ProbeOutcome]) -> dict[str, np.ndarray]:
    """Return the columns of `REAGENT_PROBES` for `Run.frame`."""
    from scipy.special import entr

    n_probes = len(outcomes[0].stop_step)
    importance = [outcome.importance for outcome in outcomes]
    per_target = {
        "prompt_id": targets.prompt_ids,
        "target_pos": targets.pos.numpy(),
        "target_id": targets.ids.numpy(),
        "prob_intact": np.array([case.prob for case in cases]),
    }
    stop_step = np.concatenate([outcome.stop_step for outcome in outcomes])
    return {name: np.repeat(values, n_probes) for name, values in per_target.items()} | {
        "probe": np.tile(np.arange(n_probes), len(cases)),
        "converged": stop_step > 0,
        "stop_step": np.where(stop_step > 0, stop_step, -1),
        "entropy": np.concatenate([entr(one).sum(axis=1) for one in importance]),
        "prob_kept": np.concatenate([outcome.prob_kept for outcome in outcomes]),
    }
