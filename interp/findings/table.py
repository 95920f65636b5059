"""Which of the papers' findings hold on your model: all claims, one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from interp.findings.claim import Claim
from interp.frames import Column, Schema, columns
from interp.loading import Source

FINDINGS = Schema(
    probe="findings",
    paper="each claim's own",
    rows="one per model and claim",
    columns=columns(
        "model",
        "run_id",
        Column("claim", "str", "id of the claim; `interp.findings.get(id)` has all of it"),
        Column("statement", "str", "the claim in a few words"),
        Column("paper", "str", "where it comes from"),
        Column("says", "str", "what the paper reports and with which control, in our words"),
        Column("effect", "float", "mean over units; in the statistic's own unit", missing=True),
        Column("low", "float", "end of its 95 % interval", missing=True),
        Column("high", "float", "the other end", missing=True),
        Column("comparison", "str", "what it was held against"),
        Column(
            "threshold", "float", "the number; the control's mean where that is what it was held against", missing=True
        ),
        Column("p", "float", "two-sided, of the effect being the threshold", "0..1", 0.0, 1.0, missing=True),
        Column("p_holm", "float", "the same after Holm across this model's claims", "0..1", 0.0, 1.0, missing=True),
        Column("control_effect", "float", "mean of the control", missing=True),
        Column("difference", "float", "mean over units of effect - control", missing=True),
        Column("difference_low", "float", "end of its 95 % interval", missing=True),
        Column("difference_high", "float", "the other end", missing=True),
        Column("unit", "str", "what was resampled: prompts, letters, ..."),
        Column("n", "int", "units with a value", low=0),
        Column("n_skipped", "int", "units without one", low=0),
        Column("state", "str", "holds, fails or undecided, after Holm; skipped where it could not be tested"),
        Column("reason", "str", "why it was skipped; else empty"),
        Column("probe", "str", "which probe measured it"),
        Column("probe_run_id", "str", "run of that probe; empty where there was none"),
        Column("note", "str", "how the check differs from what the paper did"),
        Column("seconds", "float", "of the probe's run, shared by all claims on it", "s", low=0.0, missing=True),
    ),
)


def findings(
    models: Source | Sequence[Source],
    claims: Sequence[str | Claim] | None = None,
    *,
    seed: int = 0,
    level: float = 0.95,
    n_resamples: int = 9999,
    out: str | Path | None = None,
) -> pd.DataFrame:
    """Test claims on models.

    Args:
        models: anything `interp.load` takes, or a list of such.
        claims: ids or claims; ids may end in `*`. None takes all that are installed.
        seed: of the bootstrap's draws and of probes that take one.
        level: of the intervals.
        n_resamples: bootstrap draws.
        out: a folder where finished claims are kept; an interrupted run goes on there.

    Returns:
        One row per model and claim, of schema `FINDINGS`.
    """
    raise NotImplementedError
