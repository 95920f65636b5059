"""The frame of faithfulness, and its summary: methods ranked by their advantage over shuffled scores."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.authoring import Column, Schema, columns
from interp.stats import holm, paired_bootstrap
from probes import papers
from probes.attribution._targets import TARGET_POS
from probes.attribution.faithfulness._chance import SMALLER_IS_BETTER

FAITHFULNESS = Schema(
    probe="faithfulness",
    paper=papers.FAITHFULNESS,
    rows="one per prompt, method, target and metric, and per fraction if the metric has one",
    columns=columns(
        "model",
        "run_id",
        "prompt_id",
        "method",
        TARGET_POS,
        "target_id",
        "target",
        "against_id",
        "against",
        Column("metric", "str", "name of the metric; smaller is better for sufficiencies, larger for the rest"),
        Column("fraction", "float", "share of the tokens removed or kept", "0..1", low=0.0, high=1.0, missing=True),
        Column(
            "value",
            "float",
            "value of the metric, of a contrast in nats of its logit difference; missing where it is undefined",
            missing=True,
        ),
        Column(
            "value_se",
            "float",
            "standard error of the value over random replacements or masks; missing if at most one is drawn",
            low=0.0,
            missing=True,
        ),
        Column("value_random", "float", "mean value over random shuffles of the same scores", missing=True),
        Column(
            "control", "str", "'none', 'permuted' for shuffles in place of the scores, or the attribution's control"
        ),
        Column("unclipped", "float", "for soft_ns, the value before clipping at 0", missing=True),
        Column("prob_intact", "float", "probability of the target after the intact prompt", "0..1", low=0.0, high=1.0),
        Column(
            "logit_diff_intact",
            "float",
            "logit of the target minus that of `against` after the intact prompt; missing without a contrast",
            "nats",
            missing=True,
        ),
        Column("is_argmax", "bool", "whether the target is the model's most probable token"),
        Column("n_units", "int", "number of tokens (or words) that may be removed", low=0),
        Column(
            "n_ties",
            "int",
            "number of their scores that equal another's; the metrics are means over the orders of these",
            low=0,
        ),
    ),
    summary_by=("metric", "method", "control"),
    summary_of=("value", "value_random"),
)


def summarise_faithfulness(
    frame: pd.DataFrame, *, level: float = 0.95, n_resamples: int = 9999, seed: int = 0
) -> pd.DataFrame:
    """Rank methods by their advantage over shuffles of their own scores.

    Args:
        frame: of `faithfulness`.
        level: of the bootstrap intervals over prompts.
        n_resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per metric, method and control: means over prompts of `value` and `value_random` (each prompt's targets
        and fractions are averaged first), their paired difference `advantage`, positive if the method is better than
        chance, its interval, two-sided bootstrap p-value and `p_holm`, adjusted over all methods and metrics of the
        run. `place` is 1 for the best method of a metric. Controls have no `p_holm` and no `place`: their advantage
        should not differ from 0.
    """
    keys = ["model", "run_id", *FAITHFULNESS.summary_by]
    sign = np.where(frame["metric"].isin(SMALLER_IS_BETTER), -1.0, 1.0)
    with_advantage = frame.assign(advantage=sign * (frame["value"] - frame["value_random"]))
    values = ["value", "value_random", "advantage"]
    per_prompt = with_advantage.groupby([*keys, "prompt_id"], observed=True)[values].mean()
    table = per_prompt["advantage"].unstack("prompt_id")
    mean, low, high, p = paired_bootstrap(table.to_numpy(), level=level, n_resamples=n_resamples, seed=seed)
    summary = per_prompt.groupby(keys, observed=True)[values[:2]].mean()
    summary.insert(0, "n_prompts", table.notna().sum(axis=1))
    summary = summary.assign(advantage=mean, advantage_low=low, advantage_high=high, p=p).reset_index()
    measured = summary[summary["control"] == "none"]
    adjusted = measured.groupby("run_id")["p"].transform(lambda of_run: holm(of_run.to_numpy()))
    summary["p_holm"] = adjusted.reindex(summary.index)
    place = measured.groupby(["run_id", "metric"])["advantage"].rank(ascending=False, method="min")
    summary["place"] = place.reindex(summary.index).astype("Int64")
    order = [*keys[:2], "metric", "place", "method"]
    summary = summary.sort_values(order, ignore_index=True, na_position="last")
    summary.attrs["note"] = (
        "advantage: paired difference from shuffled scores, positive is better; Holm over a run's rows"
    )
    return summary
