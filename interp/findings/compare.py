"""Compare two runs of a probe prompt by prompt: `interp.compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from interp.errors import InputError, warn
from interp.findings import compare_plot
from interp.frames.build import build
from interp.frames.schema import Column, Schema, columns
from interp.runs.accessor import attach
from interp.runs.code import hash_of, versions
from interp.runs.registry import probe
from interp.stats import check_resampling, holm, means_by_prompt, paired_bootstrap

COMPARED = Schema(
    probe="compare",
    paper="of the compared probe",
    rows="one per measure and group of the compared probe's summary, whose columns come last",
    columns=columns(
        Column("model", "str", "name of the first model"),
        Column("other_model", "str", "name of the other model"),
        "run_id",
        Column("measure", "str", "the column of the compared frames"),
        Column("value", "float", "its mean over prompts in the first run", missing=True),
        Column("other_value", "float", "its mean over the same prompts in the other run", missing=True),
        Column("difference", "float", "mean over prompts of other - first", missing=True),
        Column("low", "float", "lower end of the difference's interval; missing for fewer than two prompts", "", None,
               None, True),
        Column("high", "float", "upper end of the difference's interval", missing=True),
        Column("p", "float", "two-sided p-value of no difference", "0..1", 0.0, 1.0, True),
        Column("p_holm", "float", "p after Holm's correction over all rows of this call", "0..1", 0.0, 1.0, True),
        Column("n_prompts", "int", "prompts with a value in both runs", low=0),
    ),
)  # fmt: skip


def summarise(frame: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Return a row for each measure: in how many groups the runs differ after Holm's correction, and where most.

    Args:
        frame: of `interp.compare`.
        level: groups with `p_holm` at most 1 - level differ.
    """
    groups = _groups_of(frame)
    rows = []
    for measure, of in frame.groupby("measure", sort=False):
        most = of.loc[of["difference"].abs().idxmax()] if of["difference"].notna().any() else of.iloc[0]
        where = ", ".join(f"{name} {most[name]}" for name in groups)
        apart = int((of["p_holm"] <= 1 - level).sum())
        facts = {"measure": measure, "n_groups": len(of), "n_different": apart, "most_at": where}
        rows.append(facts | {name: most[name] for name in ("difference", "low", "high", "p_holm")})
    return pd.DataFrame(rows)


@probe(COMPARED, plot=compare_plot.compared, summarise=summarise, listed=False)
def compare(
    frame: pd.DataFrame,
    other: pd.DataFrame | None = None,
    *,
    level: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare two runs of one probe: differences within each prompt, which cancel what makes a prompt easy or hard.

    Values are means per prompt in each group of the probe's summary, such as a layer, without position 0; groups that
    only one run has, such as layers of a deeper model, are left out with a warning. Nats per token of two vocabularies
    are not comparable: compare `byte_log_prob` of these.

    Args:
        frame: of a probe; or of its runs on two models, in one frame, the first run being the first.
        other: of the same probe on the same prompts.
        level: of the intervals.
        n_resamples: bootstrap draws, over prompts.
        seed: of the draws.

    Returns:
        One row per measure and group: both means, their difference (other - first) with interval and p-value.
        `.interp.summary()` says in how many groups they differ; `.interp.plot()` draws the differences.

    Raises:
        InputError: the frames do not hold two runs of one probe, have no numbers by prompt, or share no prompts.

    >>> from probes import logit_lens
    >>> texts = ["Once upon a time", "The cat sat"]
    >>> frame = compare(logit_lens("reference", texts), logit_lens("reference", texts, final_norm=False))
    >>> frame.query("layer == 0 and measure == 'entropy'")[["n_prompts"]].values.tolist()
    [[2]]
    """
    check_resampling(level, n_resamples, least=99)
    first, second = _two_runs([frame] if other is None else [frame, other])
    schema = first.interp.schema
    if second.interp.schema.probe != schema.probe:
        raise InputError(f"{schema.probe!r} and {second.interp.schema.probe!r} are two probes; give runs of one.")
    runs = [next(iter(one.interp.runs.values())) for one in (first, second)]
    keys, measures = list(schema.summary_by), list(schema.summary_of)
    if not measures or "prompt_id" not in first.columns:
        raise InputError(f"{schema.probe!r} has no numbers by prompt to compare; compare its summaries yourself.")
    tables = [_by_prompt(one.interp.rows, keys, measures) for one in (first, second)]
    shared = tables[0].index.intersection(tables[1].index)
    if shared.empty:
        raise InputError(f"the two runs of {schema.probe!r} share no prompts in any group; run both on the same texts.")
    _warn_of_what_differs(runs, tables, shared, len(keys))
    pairs = [table.loc[shared].sort_index() for table in tables]
    settings = {"level": level, "n_resamples": n_resamples, "seed": seed}
    parts = [_of_measure(measure, [pair[measure] for pair in pairs], keys, settings) for measure in measures]
    table = pd.concat(parts, ignore_index=True)
    table["p_holm"] = holm(table["p"].to_numpy(dtype=float))
    identity = {
        "probe": COMPARED.probe,
        "model": f"{runs[0]['model']} and {runs[1]['model']}",
        "compared": schema.probe,
        "runs": [one["run_id"] for one in runs],
        "parameters": settings,
    }
    run_id = hash_of(identity)
    known = {"model": runs[0]["model"], "other_model": runs[1]["model"], "run_id": run_id}
    made = build(COMPARED, known | {name: table[name].to_numpy() for name in table if name not in keys})
    facts = {"paper": schema.paper, "versions": dict(versions()), "of": dict(zip(identity["runs"], runs, strict=True))}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    made = pd.concat([COMPARED.validate(made), table[keys]], axis=1)
    return attach(made, {"run_id": run_id} | identity | facts | {"created": created})


def _two_runs(frames: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = [one[one["run_id"] == run] for one in frames for run in one.interp.runs]
    if len(runs) != 2:
        raise InputError(f"there are {len(runs)} runs to compare; give two, in one frame or in two.")
    return runs[0], runs[1]


def _by_prompt(rows: pd.DataFrame, keys: Sequence[str], measures: Sequence[str]) -> pd.DataFrame:
    """Return means per group and prompt, indexed by both; position 0 is left out, as in summaries."""
    kept = rows[rows["pos"] > 0] if "pos" in rows.columns else rows
    return means_by_prompt(kept, keys, measures)[list(measures)]


def _warn_of_what_differs(
    runs: Sequence[dict[str, object]], tables: Sequence[pd.DataFrame], shared: pd.Index, n_keys: int
) -> None:
    if runs[0].get("data_sha256") != runs[1].get("data_sha256"):
        warn(
            "the two runs read different tokens (of two tokenizers, or two sets of texts): prompts are paired by "
            "prompt_id.",
        )
    left = sum(len(table.index) - len(shared) for table in tables)
    if left:
        groups = {one[:n_keys] for table in tables for one in table.index.difference(shared)}
        warn(f"{left} values of prompts in {len(groups)} groups are in one of the two runs only, and are left out.")


def _of_measure(
    measure: str, pair: Sequence[pd.Series], keys: Sequence[str], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Return a row per group: both means over the prompts with a value in both, and their difference."""
    both = pd.DataFrame({"value": pair[0].astype(float), "other_value": pair[1].astype(float)}).dropna()
    apart, groups = both["other_value"] - both["value"], list(keys)
    if groups:
        wide, means = apart.unstack("prompt_id"), both.groupby(level=groups, observed=True).mean()
        table, means = wide.index.to_frame(index=False), means.loc[wide.index]
    else:
        wide, means, table = apart.to_frame().T, both.mean().to_frame().T, pd.DataFrame(index=[0])
    difference, low, high, p = paired_bootstrap(wide.to_numpy(dtype=float), **settings)
    n_prompts = wide.notna().sum(axis=1).to_numpy()
    found = {"difference": difference, "low": low, "high": high, "p": p, "n_prompts": n_prompts}
    return table.assign(measure=measure, **{name: means[name].to_numpy() for name in means}, **found)


def _groups_of(frame: pd.DataFrame) -> list[str]:
    known = {column.name for column in COMPARED.columns}
    return [name for name in frame.columns if name not in known]
