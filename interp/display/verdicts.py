"""Say what decided a claim: the interval that was held against the threshold or against no difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from interp.display.text import format_interval, format_to_interval


def decided_by(row: Mapping[str, Any]) -> str:
    """Return effect, interval and threshold; against a control, both, and their difference, whose interval decides.

    Args:
        row: of a frame of `interp.findings`, or the fields of a verdict.

    >>> decided_by({"effect": 0.81312, "low": 0.79354, "high": 0.83386, "comparison": ">= 0.72"})
    '0.813 [0.794, 0.834] >= 0.72'
    >>> row = {"effect": 0.15438, "control_effect": 0.16796, "comparison": "> control"}
    >>> decided_by(row | {"difference": -0.0136, "difference_low": -0.0307, "difference_high": 0.002})
    '0.154 against 0.168: -0.014 [-0.031, 0.002] > 0'
    """
    if pd.isna(row["effect"]):  # it was not tested
        return ""
    sign, _, against = str(row["comparison"]).partition(" ")
    decided = deciding_interval(row)
    if against != "control":
        return f"{decided} {row['comparison']}"
    ends = row["difference_low"], row["difference_high"]
    effect, control = (format_to_interval(row[name], *ends) for name in ("effect", "control_effect"))
    return f"{effect} against {control}: {decided} {sign} 0"


def deciding_interval(row: Mapping[str, Any]) -> str:
    """Return the number that was held against the threshold, with its interval: the effect, or the difference."""
    against_control = str(row["comparison"]).endswith(" control")
    names = ("difference", "difference_low", "difference_high") if against_control else ("effect", "low", "high")
    return format_interval(*(row[name] for name in names))
