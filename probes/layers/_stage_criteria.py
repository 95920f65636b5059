"""Criteria for the four stages from statistics by depth.

1 detokenization: the run of blocks from block 0 whose attention to the previous five tokens ("prev5_mass") is above its
  mean over all blocks.
2 feature engineering: the blocks between stages 1 and 3. No statistic here is evidence of it (the paper's is probing
  accuracy), so it is never shown, only placed.
3 prediction ensembling: the longest run of blocks over which the entropy of the lens falls and which have more
  prediction than suppression neurons.
4 residual sharpening: the run of blocks up to the last which have more suppression than prediction neurons, or whose
  MLP adds more, relative to the residual entering the block ("mlp_ratio"), than the blocks after block 0 on average
  (the residual entering block 0 is the embedding alone, so any ratio to it can be large).

Comparisons between blocks are within a prompt, tested by a bootstrap over prompts. Neurons are not a sample of prompts:
one kind outnumbers the other by the exact binomial test. All comparisons of a model, those of every block and stage,
are corrected together by Holm's method: one false one among them in twenty models, at most.

Blocks of any model differ a little, be it untrained, and enough prompts show that. So a difference counts only from
`LEAST` on. The criteria and these numbers are ours; the paper draws its stages by eye and names no least effect. Of 48
untrained models of 8 blocks none shows a stage; without `LEAST` a quarter does.

Stages may overlap, as each is decided separately.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from interp.stats import bootstrap_over_prompts, holm, paired_bootstrap

NAMES = {
    1: "detokenization",
    2: "feature engineering",
    3: "prediction ensembling",
    4: "residual sharpening",
}


LEAST = {"prev5_mass": 0.05, "entropy": 0.1, "mlp_ratio": 0.2, "neurons": 0.6}
"""The least difference of a block that counts: of its attention, a twentieth above the mean; of the entropy, a fall by
a tenth of a nat in the block; of what its MLP adds, a fifth of the mean above it; of neurons of the two kinds, three
fifths of one kind."""


class StageVerdict(NamedTuple):
    """A verdict on one stage: its first and last block, or None; whether the evidence shows it; and the evidence."""

    blocks: tuple[int, int] | None
    shown: bool
    evidence: str


def by_layer(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Average each statistic by layer, with intervals for statistics of prompts."""
    by = ["model", "run_id", "statistic", "at", "layer", "control"]
    of_prompts = frame["prompt_id"].notna()
    summary = bootstrap_over_prompts(frame[of_prompts], by, ["value"], **options)
    summary = summary.astype({"n_prompts": "Int64"})  # missing for statistics that are not of prompts
    summary = pd.concat([summary, frame.loc[~of_prompts, [*by, "value"]]]).sort_values(by, ignore_index=True)
    summary.attrs["note"] = "means per prompt, then over prompts; position 0 left out; bootstrap over prompts"
    return summary


def stages_shown(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Return the verdict on every stage, one row per model and stage."""
    rows = []
    for (model, run_id), one in frame[frame["control"] == "none"].groupby(["model", "run_id"]):
        for stage, verdict in _verdicts(one, options).items():
            first, last = verdict.blocks or (None, None)
            rows.append((model, run_id, stage, NAMES[stage], first, last, verdict.shown, verdict.evidence))
    names = ["model", "run_id", "stage", "name", "first_block", "last_block", "shown", "evidence"]
    return pd.DataFrame(rows, columns=names).astype({"first_block": "Int64", "last_block": "Int64"})


def _verdicts(frame: pd.DataFrame, options: dict[str, Any]) -> dict[int, StageVerdict]:
    tables = {
        "prev5_mass": _beside_mean(frame, "prev5_mass", options),
        "entropy": _entropy_change(frame, options),
        "mlp_ratio": _beside_mean(frame, "mlp_ratio", options, mean_from=1),
        "neurons": _neurons(frame),
    }
    compared = {name: table for name, table in tables.items() if len(table)}
    corrected = iter(holm(np.concatenate([table["p"] for table in compared.values()])))
    for table in compared.values():
        table["p"] = [next(corrected) for _ in range(len(table))]
    alpha = 1 - options.get("level", 0.95)
    mass, falls, ratio, neurons = (_counting(name, table, alpha) for name, table in tables.items())
    first, third = _detokenization(mass), _ensembling(falls, neurons)
    found = {1: first, 2: _between(first, third), 3: third, 4: _sharpening(ratio, neurons)}
    few = _too_few(frame, sum(map(len, compared.values())), alpha)
    return {
        stage: one if one.shown or stage == 2 else one._replace(evidence=one.evidence + few)
        for stage, one in found.items()
    }


def _counting(name: str, table: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Add the sign of each block's difference as `side`: 1 or -1, or 0 if it is too small or may be chance."""
    if table.empty:
        return table
    size = table["difference"] / table["mean"] if name == "mlp_ratio" else table["difference"]
    least = 2 * LEAST[name] - 1 if name == "neurons" else LEAST[name]  # shares p and 1 - p differ by 2 p - 1
    counts = (table["p"] < alpha) & (size.abs() >= least)
    return table.assign(side=np.sign(table["difference"]).where(counts, 0).astype(int))


def _too_few(frame: pd.DataFrame, n_comparisons: int, alpha: float) -> str:
    """Return a sentence if no differences of so few prompts could be significant: p is at least 2^(1 - n)."""
    n = frame["prompt_id"].nunique()
    needed = 1 + int(np.floor(1 + np.log2(max(n_comparisons, 1) / alpha)))
    if n >= needed:
        return ""
    return f" {n} prompts can show no difference among {n_comparisons}; give {needed}."


def _detokenization(mass: pd.DataFrame) -> StageVerdict:
    if mass.empty:
        return StageVerdict(None, False, "not measured: the frame has no attention to the previous five tokens.")
    above = (mass["side"] > 0).tolist()
    length = above.index(False) if False in above else len(above)
    measured = f"attention to the previous five tokens is {mass['mean'].iat[0]:.3f} on average over blocks"
    if not length:
        others = ", ".join(str(block) for block in np.flatnonzero(above)) or "none"
        evidence = f"{measured}; block 0 differs from that by {_interval(mass.iloc[0])}; blocks above it: {others}."
        return StageVerdict(None, False, evidence)
    weakest = mass.iloc[:length]["difference"].idxmin()
    evidence = f"{measured}; blocks 0 to {length - 1} are above it, the least by {_interval(mass.loc[weakest])}."
    return StageVerdict((0, length - 1), True, evidence)


def _ensembling(falls: pd.DataFrame, neurons: pd.DataFrame) -> StageVerdict:
    n_falls = int((falls["side"] < 0).sum())
    measured = f"the entropy of the lens falls in {n_falls} of {len(falls)} blocks"
    if neurons.empty:
        return StageVerdict(None, False, f"{measured}, but neurons were not measured.")
    more = (neurons["side"] > 0).to_numpy()
    both = (falls["side"] < 0).to_numpy() & more
    counts = f"{_counts(neurons, 'prediction')} of all neurons"
    if not both.any():
        return StageVerdict(
            None, False, f"{measured}; more prediction than suppression neurons in {more.sum()} of them ({counts})."
        )
    first, last = _longest_run(both)
    inside, change = neurons.iloc[first : last + 1], falls["difference"].iloc[first : last + 1]
    evidence = (
        f"the entropy of the lens falls by {-change.sum():.2f} nats over blocks {first} to {last}, in every one of "
        f"them, and they have {_counts(inside, 'prediction')}."
    )
    return StageVerdict((first, last), True, evidence)


def _sharpening(ratio: pd.DataFrame, neurons: pd.DataFrame) -> StageVerdict:
    if ratio.empty and neurons.empty:
        return StageVerdict(None, False, "not measured: the frame has neither MLP outputs nor neurons.")
    by_ratio = (ratio["side"] > 0).to_numpy() if len(ratio) else np.zeros(len(neurons), dtype=bool)
    by_neurons = (neurons["side"] < 0).to_numpy() if len(neurons) else np.zeros(len(ratio), dtype=bool)
    either = by_ratio | by_neurons
    last = len(either) - 1
    length = int(np.argmin(either[::-1])) if not either.all() else len(either)
    measured = []
    if len(ratio):
        measured.append(
            f"what MLPs add is {ratio['mean'].iat[0]:.3f} of the residual on average over blocks from 1 on; the last "
            f"block differs from that by {_interval(ratio.iloc[-1])}"
        )
    first = last - length + 1 if length else last
    if len(neurons):
        where = f"blocks {first} to {last} have" if length else "the last block has"
        measured.append(f"{where} {_counts(neurons.iloc[first:], 'suppression')}")
    return StageVerdict((first, last) if length else None, bool(length), "; ".join(measured) + ".")


def _between(first: StageVerdict, third: StageVerdict) -> StageVerdict:
    evidence = "no statistic here is evidence of it (the paper's is probing accuracy)"
    if first.blocks is None or third.blocks is None:
        return StageVerdict(
            None, False, f"{evidence}, and stages 1 and 3 are not both shown, so it cannot be placed either."
        )
    start, end = first.blocks[1] + 1, third.blocks[0] - 1
    if start > end:
        return StageVerdict(None, False, f"{evidence}, and no block lies between stages 1 and 3.")
    return StageVerdict((start, end), False, f"{evidence}; blocks {start} to {end} lie between stages 1 and 3.")


def _beside_mean(frame: pd.DataFrame, statistic: str, options: dict[str, Any], mean_from: int = 0) -> pd.DataFrame:
    """Compare each block with the prompt's mean over blocks: `mean`, and see `_compared`."""
    table = _table(frame, statistic)
    if table.empty:
        return pd.DataFrame()
    means = table[table.index >= mean_from].mean()
    return _compared(table - means, options).assign(mean=means.mean())


def _entropy_change(frame: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
    """Measure how much the lens entropy rises in each block, from the residual entering to the one leaving."""
    return _compared(_table(frame, "entropy").diff().iloc[1:], options)


def _table(frame: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """Return a statistic's values by layer (rows) and prompt (columns), without prompts that have none."""
    rows = frame[(frame["statistic"] == statistic) & frame["value"].notna()]
    return rows.pivot(index="layer", columns="prompt_id", values="value").sort_index()


def _compared(differences: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
    """Return `difference`, `low`, `high` and `p` for differences by block (rows) and prompt (columns)."""
    columns = zip(("difference", "low", "high", "p"), paired_bootstrap(differences.to_numpy(), **options), strict=True)
    return pd.DataFrame(dict(columns))


def _neurons(frame: pd.DataFrame) -> pd.DataFrame:
    """Count both kinds per block; the `difference` of their shares, and `p` by the exact binomial test."""
    from scipy.stats import binomtest

    rows = frame[frame["statistic"].isin(["n_prediction", "n_suppression"])]
    if rows.empty:
        return pd.DataFrame()
    counts = rows.pivot(index="layer", columns="statistic", values="value").astype(int).reset_index(drop=True)
    both = counts.sum(axis=1)
    difference = (counts["n_prediction"] - counts["n_suppression"]) / both.clip(lower=1)
    p = [binomtest(n, total).pvalue if total else 1.0 for n, total in zip(counts["n_prediction"], both, strict=True)]
    return counts.assign(difference=difference, p=p)


def _longest_run(flags: np.ndarray) -> tuple[int, int]:
    """Return the first and last index of the longest run of true flags, the first of equally long ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    starts, stops = edges[::2], edges[1::2]
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]), int(stops[longest]) - 1


def _interval(row: pd.Series) -> str:
    if np.isnan(row["low"]):  # one prompt, or equal ones
        return f"{row['difference']:+.3f}"
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


def _counts(neurons: pd.DataFrame, leading: str) -> str:
    other = "suppression" if leading == "prediction" else "prediction"
    return f"{neurons[f'n_{leading}'].sum()} {leading} and {neurons[f'n_{other}'].sum()} {other} neurons"
