"""List the differences between recorded and measured rows, one line each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from interp.errors import InputError, UnknownName
from interp.pytest_plugin.records import Cell, Record, Row, describe_key, key_of

Rule: TypeAlias = float | Literal["interval"]
"""Largest absolute difference, in the column's unit; or "interval": recorded and measured intervals must overlap."""

Tolerance: TypeAlias = Rule | Mapping[str, Rule] | None
"""One rule for all columns, one per column, or None: a thousandth of the recorded value."""

RELATIVE = 1e-3  # devices and library versions move the reference model's statistics by less
ZERO = 1e-6  # float32 cannot tell this from 0 beside 1, so it has no sign; beside 1000 that is a thousandth
INTERVAL: Literal["interval"] = "interval"


def differences(recorded: Record, by: Sequence[str], rows: Sequence[Row], tolerance: Tolerance = None) -> list[str]:
    """Compare rows by key. Missing and extra rows and columns differ; a changed sign does even within the tolerance.

    A value recorded as 0 (to a millionth, or to a millionth of its column's largest value) has no sign. If intervals
    are compared, a value has no sign if its recorded and measured intervals both span 0. Whole numbers, truth values
    and text must be equal unless they have a tolerance.

    Args:
        recorded: the record, as the file holds it.
        by: key columns of the measured rows.
        rows: the measured rows.
        tolerance: see `Tolerance`.

    Returns:
        One line per difference; no lines if nothing differs.

    Raises:
        UnknownName, InputError: a tolerance is below 0, or for a column that does not exist or has no interval.

    >>> was = {"by": ["layer"], "rows": [{"layer": 0, "gain": 0.5}, {"layer": 1, "gain": 0.2}]}
    >>> differences(was, ["layer"], [{"layer": 0, "gain": 0.6}], tolerance=0.2)
    ['row layer=1 was recorded and is gone']
    """
    now = list(rows[0])
    rules = _rules(tolerance, [name for name in now if name not in by])
    if list(recorded["by"]) != list(by):
        return [f"recorded by {list(recorded['by'])}, now by {list(by)}"]
    before = list(recorded["rows"][0])
    lines = [f"column {name!r} was recorded and is gone" for name in before if name not in now]
    lines += [f"column {name!r} is new" for name in now if name not in before]
    was, has = ({key_of(row, by): row for row in some} for some in (recorded["rows"], rows))
    lines += [f"row {describe_key(by, key)} was recorded and is gone" for key in was if key not in has]
    lines += [f"row {describe_key(by, key)} is new" for key in has if key not in was]
    shared = [name for name in now if name in before and name in rules]
    zeros = {name: ZERO * max(1.0, _largest(name, [*was.values(), *has.values()])) for name in shared}
    for key in (key for key in was if key in has):
        for name in shared:
            change = _change(name, was[key], has[key], rules[name], zeros[name])
            if change:
                lines.append(" ".join(filter(None, (describe_key(by, key), f"{name}: {change}"))))
    return lines


def _rules(tolerance: Tolerance, columns: Sequence[str]) -> dict[str, Rule | None]:
    """Return the rule of every value column; if intervals are compared, their ends have no rule of their own."""
    bounded = [name for name in columns if {f"{name}_low", f"{name}_high"} <= set(columns)]
    if isinstance(tolerance, Mapping):
        for name in tolerance:
            if name not in columns:
                raise UnknownName("column", name, columns)
        rules: dict[str, Rule | None] = {name: tolerance.get(name) for name in columns}
    elif tolerance == INTERVAL:
        if not bounded:
            raise InputError(f"tolerance='interval' needs columns v, v_low, v_high, and there are {list(columns)}.")
        rules = {name: INTERVAL if name in bounded else None for name in columns}
    else:
        rules = dict.fromkeys(columns, tolerance)
    for name, rule in rules.items():
        if rule == INTERVAL and name not in bounded:
            raise InputError(f"tolerance={{{name!r}: 'interval'}} needs columns {name}_low and {name}_high.")
        if rule is not None and rule != INTERVAL and not (isinstance(rule, int | float) and rule >= 0):
            raise InputError(f"tolerance {rule!r} of {name!r}: give a number from 0 on, or 'interval'.")
    ends = {f"{name}{end}" for name, rule in rules.items() if rule == INTERVAL for end in ("_low", "_high")}
    return {name: rule for name, rule in rules.items() if name not in ends}


def _largest(name: str, rows: Sequence[Row]) -> float:
    """Return the largest size of a column's numbers, 0 if it has none."""
    return max((abs(cell) for row in rows for cell in [row.get(name)] if _is_number(cell)), default=0.0)  # type: ignore[arg-type]


def _change(name: str, was: Row, has: Row, rule: Rule | None, zero: float) -> str:
    """Describe the difference of a cell; empty if there is none."""
    before, now = was[name], has[name]
    if not (_is_number(before) and _is_number(now)):
        return "" if type(before) is type(now) and before == now else f"recorded {before!r}, measured {now!r}"
    assert isinstance(before, int | float) and isinstance(now, int | float)
    intervals = [(row.get(f"{name}_low"), row.get(f"{name}_high")) for row in (was, has)] if rule == INTERVAL else []
    unsure = bool(intervals) and all(_contains(interval, 0.0) for interval in intervals)
    if before * now < 0 and min(abs(before), abs(now)) > zero and not unsure:
        return f"changed sign, recorded {before!r}, measured {now!r}"
    if intervals:
        return _apart(before, now, intervals)
    whole = isinstance(before, int) and isinstance(now, int)
    allowed = rule if isinstance(rule, int | float) else 0.0 if whole else zero + RELATIVE * abs(before)
    difference = now - before
    # A difference equal to the tolerance passes, although 0.3 - 0.2 is not exactly 0.1 in binary.
    if abs(difference) <= allowed or math.isclose(abs(difference), allowed, rel_tol=1e-9):
        return ""
    return f"recorded {before!r}, measured {now!r} (by {difference:+.3g}; tolerance {allowed:.3g})"


def _apart(before: float, now: float, intervals: list[tuple[Cell, Cell]]) -> str:
    (low, high), (new_low, new_high) = intervals
    if not all(_is_number(end) for interval in intervals for end in interval):
        return "" if before == now else f"recorded {before!r}, measured {now!r}, and an interval is missing"
    if low <= new_high and new_low <= high:  # type: ignore[operator]
        return ""
    return f"recorded {before!r} [{low!r}, {high!r}], measured {now!r} [{new_low!r}, {new_high!r}]: they do not overlap"


def _contains(interval: tuple[Cell, Cell], value: float) -> bool:
    low, high = interval
    return _is_number(low) and _is_number(high) and low <= value <= high  # type: ignore[operator]


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)
