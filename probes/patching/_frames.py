"""Rows of patched runs, and their summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import VOCABULARY, Column, InputError, columns
from interp.stats import bootstrap_over_prompts

_RATIO = 1e-6  # two runs whose metric differs by less, relative to its size, are the same run to float32

PLACE = columns(
    "model",
    "run_id",
    "prompt_id",
    Column("site", "str", "what is patched: resid_pre, attn_out, mlp_out, ..."),
    Column("layer", "int", "the block, 0..L-1", low=0),
    VOCABULARY["head"].with_(kind="id", missing=True, meaning="the head; missing where a site has none"),
    VOCABULARY["pos"].with_(kind="id", missing=True, meaning="the position patched; missing for all together"),
    Column("to_end", "id", "tokens of the prompt behind it: 0 at the last; missing for all", low=0, missing=True),
    VOCABULARY["token_id"].with_(kind="id", missing=True, meaning="the clean prompt's token there"),
    VOCABULARY["token"].with_(missing=True, meaning="the same as text"),
    Column("corrupt_token_id", "id", "the corrupt prompt's token there, if it has one", low=0, missing=True),
    Column("corrupt_token", "str", "the same as text", missing=True),
    "target_id",
    "target",
    "against_id",
    "against",
)
GROUPS = ("site", "layer", "head", "to_end", "control")
_MISSING = {"head": -1, "to_end": -1}  # groups are not made of missing values


def summarise(frame: pd.DataFrame, values: Sequence[str], by: Sequence[str] = GROUPS, **options: Any) -> pd.DataFrame:
    """Average over prompts what each place does, with 95 % bootstrap intervals; positions count from the end."""
    filled = frame.assign(**{name: frame[name].fillna(other) for name, other in _MISSING.items()})
    keys = [name for name in ("model", "run_id") if name in frame] + list(by)
    summary = bootstrap_over_prompts(filled, keys, values, **options)
    for name, other in _MISSING.items():
        if name in summary:
            summary[name] = summary[name].astype("Int64").mask(summary[name] == other)
    summary.attrs["note"] = "means per prompt, then over prompts; positions from the end; 95 % bootstrap over prompts"
    return summary


def recovered(effect: np.ndarray, span: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the effect as a share of the difference of both runs; NaN where they do not differ."""
    same = np.abs(span) <= _RATIO * np.maximum(1.0, size)
    return effect / np.where(same, np.nan, span)


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of places that were patched too, but those where nothing differs and both numbers are 0.

    Raises:
        InputError: there are none.
    """
    rounding = _RATIO * frame[["value_clean", "value_corrupt"]].abs().max(axis=1).clip(lower=1.0)
    nothing = (frame["estimate"] == 0) & (frame["effect"].abs() <= rounding)
    measured = frame[frame["effect"].notna()]
    if measured.empty:
        raise InputError("no effect was measured beside the estimates; give exact= a share above 0.")
    known = measured[~nothing[measured.index]]
    if known.empty:
        raise InputError("all estimates and effects are 0; give prompts that differ in what comes next.")
    return known
