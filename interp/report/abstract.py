"""Say first what a report found: what holds, what is surprising, what is open, what could not be tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from interp.display.text import short_citation
from interp.display.verdicts import decided_by
from interp.report.every_probe import ProbeResult

_MOST = 6  # lines of a part; the rest is counted


@dataclass(frozen=True)
class Part:
    """A part of the abstract.

    Attributes:
        title: in a few words, with the number of claims.
        lines: the first of them.
        more: how many more there are.
    """

    title: str
    lines: Sequence[str]
    more: int


def abstract(verdicts: pd.DataFrame | None, absent: Sequence[ProbeResult]) -> list[Part]:
    """Return the parts that have something to say.

    Args:
        verdicts: of `interp.findings`, or None if no claims were tested.
        absent: the probes without a frame.
    """
    rows = [] if verdicts is None else verdicts.to_dict("records")
    by_state = {state: [row for row in rows if row["state"] == state] for state in {row["state"] for row in rows}}
    failed, held = by_state.get("fails", []), by_state.get("holds", [])
    parts = [
        _part("{} of the papers' claims {}:", "holds here", "hold here", [_line(row) for row in held]),
        _part(
            "Surprising: {} that papers report {}:", "fails here", "fail here",
            [f"{_line(row)} ({short_citation(str(row['paper']))})" for row in failed],
        ),
        _part("{} {}:", "is undecided", "are undecided", _by_reason(by_state.get("undecided", []))),
        _part(
            "{} {}:", "could not be tested", "could not be tested",
            _by_reason([*by_state.get("skipped", []), *by_state.get("error", [])]),
        ),
    ]  # fmt: skip
    without = [f"{one.probe.name}: {one.absent}" for one in absent]
    parts.append(_part("{} of the probes {}:", "has no section", "have no section", without))
    return [one for one in parts if one is not None]


def _part(title: str, one: str, several: str, lines: Sequence[str]) -> Part | None:
    if not lines:
        return None
    counted = title.format(len(lines), one if len(lines) == 1 else several)
    return Part(counted, lines[:_MOST], max(0, len(lines) - _MOST))


def _line(row: Mapping[str, Any]) -> str:
    return f"{row['statement']}: {decided_by(row)}"


def _by_reason(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{row['statement']}: {reason}" if (reason := row.get("reason")) else str(row["statement"]) for row in rows]
