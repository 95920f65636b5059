"""Means over letters and seeds with intervals over both, and the measurement's gain over its best control."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import InputError
from interp.stats import check_resampling, interval

_BY = ["model", "run_id", "task", "case", "where", "layer", "probe"]


def summarise_letters(
    frame: pd.DataFrame, *, value: str = "macro_f1", level: float = 0.95, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Summarise a frame of `character_content`, one row per place and control.

    Letters and seeds are resampled independently of one another, and all conditions of a place share the draws, so the
    gain is a paired comparison.

    Args:
        frame: of `character_content`.
        value: "macro_f1", "accuracy" or "auroc".
        level: of the intervals, which need two letters or two seeds and are missing below.
        n_resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        The place, `control`, `n_letters`, `n_seeds`, the mean with `_low` and `_high`; for control "none" also
        `best_control` (the one with the highest mean), and `gain` over it with `gain_low` and `gain_high`.

    Raises:
        InputError: the frame has no rows, `value` is something else, or an argument is out of range.
    """
    if value not in ("macro_f1", "accuracy", "auroc"):
        raise InputError(f"value={value!r}: give 'macro_f1', 'accuracy' or 'auroc'.")
    if frame.empty:
        raise InputError("the frame has no rows; give one with at least one letter.")
    check_resampling(level, n_resamples)
    places = [
        _summarise_place(one, value, level, n_resamples, seed).assign(**dict(zip(_BY, key, strict=True)))
        for key, one in frame.groupby(_BY, sort=True, dropna=False)
    ]
    summary = pd.concat(places, ignore_index=True)
    summary = summary[[*_BY, *(name for name in summary.columns if name not in _BY)]]
    summary["layer"] = summary["layer"].astype("Int64")
    summary.attrs["note"] = f"means over letters and seeds; {level:.0%} bootstrap over both"
    return summary


def _summarise_place(one: pd.DataFrame, value: str, level: float, n_resamples: int, seed: int) -> pd.DataFrame:
    names = list(dict.fromkeys(one["control"]))
    tables = one.pivot(index=["control", "letter"], columns="seed", values=value)
    letters = sorted(one["letter"].unique())
    # [condition, letter, seed]; NaN if a split left a letter without one of the answers
    grid = np.stack([tables.loc[name].reindex(letters).to_numpy(dtype=float) for name in names])
    means = np.nanmean(grid, axis=(1, 2))
    drawn = _resampled_means(grid, n_resamples, seed)
    n_units = len(letters) if len(letters) > 1 else grid.shape[2]  # letters vary far more than seeds do
    low, high = interval(drawn, n_units, level)
    table = pd.DataFrame(
        {"control": names, "n_letters": len(letters), "n_seeds": grid.shape[2], value: means}
        | {f"{value}_low": low, f"{value}_high": high}
    )
    table["best_control"] = pd.array([None] * len(names), dtype="str")
    table[["gain", "gain_low", "gain_high"]] = np.nan
    others = [place for place, name in enumerate(names) if name != "none"]
    if "none" in names and others:
        own, best = names.index("none"), max(others, key=lambda place: means[place])
        ends = interval((drawn[own] - drawn[best])[None], n_units, level)
        table.loc[own, "best_control"] = names[best]
        table.loc[own, ["gain", "gain_low", "gain_high"]] = [means[own] - means[best], *(end[0] for end in ends)]
    return table


def _resampled_means(grid: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """Return means over resampled letters and seeds, [condition, draw]: values times how often each was drawn."""
    generator = np.random.default_rng(seed)
    n_letters, n_seeds = grid.shape[1:]
    letters = generator.multinomial(n_letters, np.full(n_letters, 1 / n_letters), size=n_resamples)
    seeds = generator.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_resamples)
    there = ~np.isnan(grid)
    sums: Any = np.einsum("rl,cls,rs->cr", letters, np.where(there, grid, 0.0), seeds, optimize=True)
    counts = np.einsum("rl,cls,rs->cr", letters, there.astype(float), seeds, optimize=True)
    with np.errstate(invalid="ignore"):
        means: np.ndarray = sums / counts
    return means
