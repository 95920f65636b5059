"""Bootstrap intervals over prompts. Tokens of one prompt are not independent, so each prompt is averaged first."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from interp.checks import checked
from interp.errors import InputError, UnknownName
from interp.stats.resampling import check_resampling, count_draws, draws_in_parts, interval, numbers

Statistic = Literal["mean", "median"]


@checked
def bootstrap_over_prompts(
    frame: pd.DataFrame,
    by: Sequence[str],
    values: Sequence[str],
    *,
    statistic: Statistic = "mean",
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a statistic over prompts with its bootstrap interval, per group and value; see `interp.stats.interval`.

    Each prompt counts once: its rows in a group are averaged first. All groups and values share the resampled prompts.

    Args:
        frame: rows with `prompt_id`, the columns in `by` and those in `values`; missing values are left out.
        by: columns that define the groups; empty for one group of everything.
        values: numeric or boolean columns.
        statistic: "mean" or "median" over prompts.
        level: of the interval, which is NaN if fewer than two prompts have a value or all values are equal.
        n_resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per group: `by`, the number `n_prompts` of its prompts, and for each value v `v`, `v_low` and `v_high`.

    Raises:
        InputError: a column is missing, there are no rows, or an argument is out of range.

    >>> frame = pd.DataFrame({"prompt_id": [0, 0, 1, 1], "layer": [0, 1, 0, 1], "loss": [1.0, 2.0, 3.0, 4.0]})
    >>> bootstrap_over_prompts(frame, ["layer"], ["loss"])[["layer", "n_prompts", "loss"]].values.tolist()
    [[0.0, 2.0, 2.0], [1.0, 2.0, 3.0]]
    """
    _check(frame, by, values, level, n_resamples)
    keys = list(by)
    per_prompt = means_by_prompt(frame, keys, values)
    tables = _tables(per_prompt, keys, values)
    sizes = per_prompt.groupby(keys, observed=True, sort=True).size().to_numpy() if keys else [len(per_prompt)]
    resampled = _resampled([table.to_numpy() for table in tables], n_resamples, seed, statistic)
    columns: dict[str, Any] = {"n_prompts": sizes}
    for value, table, (centre, draws) in zip(values, tables, resampled, strict=True):
        low, high = interval(draws, table.notna().sum(axis=1).to_numpy(), level)
        columns |= {value: centre, f"{value}_low": low, f"{value}_high": high}
    return _by_group(columns, tables[0].index, keys)


@checked
def ratio_over_prompts(
    frame: pd.DataFrame,
    by: Sequence[str],
    numerator: str,
    denominator: str,
    name: str,
    *,
    statistic: Statistic = "mean",
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the ratio of two statistics over prompts with its interval, per group.

    Each draw resamples the prompts of numerator and denominator together (paired). The ratio is that of the two columns
    of `bootstrap_over_prompts`, not a mean of ratios; prompts without one of the two values are left out of both.

    Args:
        frame: rows with `prompt_id`, the columns in `by` and the two values.
        by: columns that define the groups.
        numerator: a numeric or boolean column.
        denominator: a numeric or boolean column.
        name: of the ratio.
        statistic: "mean" or "median" over prompts.
        level: of the interval, which is NaN where fewer than half of the draws have a ratio or all have the same.
        n_resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per group: `by`, `name`, and both ends of its interval; NaN where the denominator is 0.

    Raises:
        InputError: a column is missing, there are no rows, or an argument is out of range.

    >>> frame = pd.DataFrame({"prompt_id": [0, 1, 2], "right": [1.0, 1.0, 2.0], "tried": [2.0, 4.0, 2.0]})
    >>> ratio_over_prompts(frame, [], "right", "tried", "share")["share"].tolist()
    [0.5]
    """
    _check(frame, by, [numerator, denominator], level, n_resamples)
    keys = list(by)
    per_prompt = means_by_prompt(frame, keys, [numerator, denominator])
    tables = _tables(per_prompt.where(per_prompt.notna().all(axis=1)), keys, [numerator, denominator])
    above, below = _resampled([table.to_numpy() for table in tables], n_resamples, seed, statistic)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre, resampled = above[0] / below[0], above[1] / below[1]
    low, high = interval(resampled, tables[0].notna().sum(axis=1).to_numpy(), level)
    columns = {name: np.where(np.isinf(centre), np.nan, centre), f"{name}_low": low, f"{name}_high": high}
    return _by_group(columns, tables[0].index, keys)


@checked
def means_by_prompt(frame: pd.DataFrame, keys: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Average the rows of each prompt in a group, float64, NaN where missing."""
    numeric = frame[[*keys, "prompt_id"]].copy()
    for value in values:
        numeric[value] = _numbers(frame, value)
    return numeric.groupby([*keys, "prompt_id"], observed=True, sort=True)[list(dict.fromkeys(values))].mean()


def _tables(per_prompt: pd.DataFrame, keys: Sequence[str], values: Sequence[str]) -> list[pd.DataFrame]:
    """Return a table of groups by prompts for each value."""
    return [per_prompt[value].unstack("prompt_id") if keys else per_prompt[[value]].T for value in values]


def _by_group(columns: dict[str, Any], groups: pd.Index, keys: Sequence[str]) -> pd.DataFrame:
    summary = pd.DataFrame(columns, index=groups if keys else None)
    return summary.reset_index() if keys else summary


def _check(frame: pd.DataFrame, by: Sequence[str], values: Sequence[str], level: float, n_resamples: int) -> None:
    for column in (*by, "prompt_id", *values):
        if column not in frame.columns:
            raise UnknownName("column", column, map(str, frame.columns))
    if frame.empty or not values:
        raise InputError("there is nothing to sum up: no rows or no values are left (summaries leave position 0 out).")
    check_resampling(level, n_resamples)


def _numbers(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Convert a column of numbers or truth values to float64, NaN where missing."""
    try:
        numbers: np.ndarray = frame[column].astype("Float64").to_numpy(dtype="float64", na_value=np.nan)
    except (TypeError, ValueError) as error:
        kind = frame[column].dtype
        raise InputError(f"column {column!r} holds {kind}; choose columns of numbers or truth values.") from error
    return numbers


def _resampled(
    tables: Sequence[np.ndarray], n_resamples: int, seed: int, statistic: Statistic
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the statistic over prompts [groups], and under each draw [groups, n_resamples], of each table.

    Args:
        tables: values [groups, prompts], NaN where missing; they share the resampled prompts.
        n_resamples: bootstrap draws.
        seed: of the draws.
        statistic: "mean" or "median" over prompts.
    """
    under_draws = [np.empty((len(table), n_resamples)) for table in tables]
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of a group without values is NaN
        for part, draws in draws_in_parts(tables[0].shape[1], n_resamples, seed):
            counts = count_draws(draws).T if statistic == "mean" else None
            for table, values in zip(tables, under_draws, strict=True):
                values[:, part] = _medians(table, draws) if counts is None else _means(table, counts)
        centre = np.nanmean if statistic == "mean" else np.nanmedian
        return [(centre(table, axis=1), values) for table, values in zip(tables, under_draws, strict=True)]


def _means(table: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return means over resampled prompts as one matrix product: the count of each prompt in a draw times its value."""
    finite = np.isfinite(table)
    if finite.all():
        return np.asarray(table @ counts / len(counts))
    sums: np.ndarray = np.where(finite, table, 0.0) @ counts
    for infinity in (np.inf, -np.inf):  # added afterwards: 0 * inf of a prompt that was not drawn would be NaN
        if (table == infinity).any():
            sums[(table == infinity).astype(float) @ counts > 0] += infinity
    means: np.ndarray = sums / (finite.astype(float) @ counts)
    return means


def _medians(table: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return medians over resampled prompts, group by group."""
    return np.stack([(np.nanmedian if np.isnan(row).any() else np.median)(row[draws], axis=1) for row in table])


def paired_bootstrap(
    differences: np.ndarray, *, level: float = 0.95, n_resamples: int = 9999, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Test, row by row, whether paired differences have a mean other than 0; the rows share the resampled prompts.

    Args:
        differences: one row per comparison, one column per prompt, [comparisons, prompts]; NaN where missing.
        level: of the interval.
        n_resamples: bootstrap draws; no p-value is below 1 / (n_resamples + 1).
        seed: of the draws.

    Returns:
        Mean, both ends of its interval, and the two-sided p-value, all [comparisons]. The p-value is the share of
        resampled means at least as far from the mean as the mean is from 0, but at least 2^(1 - n), the chance that n
        differences symmetric about 0 have the same sign: resampling few prompts understates the uncertainty. With
        fewer than two prompts the last three are NaN.

    Raises:
        InputError: an argument is out of range.

    >>> mean, low, high, p = paired_bootstrap(np.array([[1.0, 2.0, 3.0, 2.0], [1.0, -1.0, 1.0, -1.0]]))
    >>> mean.tolist(), p.round(3).tolist()
    ([2.0, 0.0], [0.125, 1.0])
    """
    check_resampling(level, n_resamples)
    table = numbers(differences, "differences", 2)
    ((mean, resampled),) = _resampled([table], n_resamples, seed, "mean")
    n = (~np.isnan(table)).sum(axis=1)
    low, high = interval(resampled, n, level)
    with np.errstate(invalid="ignore"):
        # Rounding of the mean itself must not decide between equal and larger.
        as_far = np.abs(resampled - mean[:, None]) >= np.abs(mean[:, None]) * (1 - 1e-12)
    p = np.maximum((1 + as_far.sum(axis=1)) / (1 + n_resamples), 2.0 ** (1 - n))
    return mean, low, high, np.where(n < 2, np.nan, p)
