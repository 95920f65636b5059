"""Show a frame in a terminal, as wide as that is."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from interp.display.cells import cells

GAP = 2  # columns of characters between two columns
TEXT = 24  # what a column of sentences keeps at least; it is wrapped


def show_table(frame: pd.DataFrame, *, as_json: bool = False) -> None:
    """Print a frame to standard output, as a table or as JSON for a script.

    In a table, a value and its interval share a cell, columns that have one value are named above it, and those that
    do not fit are named on standard error. Output that goes elsewhere than a terminal has every column, unless
    `COLUMNS` gives its width.
    """
    if as_json:
        print(frame.to_json(orient="records", indent=2))
        return
    width = _width()
    shown = cells(frame)
    same = {str(name): shown[name].iat[0] for name in shown if len(shown) > 1 and shown[name].nunique() == 1}
    if len(same) == len(shown.columns):
        same = {}
    shown = shown.drop(columns=list(same))
    numeric = {name for name in shown if pd.api.types.is_numeric_dtype(frame[name])}
    least = {str(name): _least_width(shown[name], str(name), name in numeric) for name in shown}
    fits = _fitting(least, width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in fits:
        justify = "right" if name in numeric else "left"
        table.add_column(name, justify=justify, overflow="fold", min_width=min(least[name], width))  # type: ignore[arg-type]
    for row in shown[list(fits)].itertuples(index=False, name=None):
        table.add_row(*row)
    out = _console(width)
    if told := ", ".join(f"{name} {value}" for name, value in same.items() if value):
        out.print(f"all: {told}", style="dim", highlight=False)
    out.print(table)
    if left := [name for name in least if name not in fits]:
        more = f"{len(left)} more columns do not fit" if len(left) > 1 else "one more column does not fit"
        asked = "a wider terminal, --json or --out shows them"
        _console(width, stderr=True).print(f"{more}: {', '.join(left)} ({asked}).", style="dim", highlight=False)


def show_json(frame: pd.DataFrame, units: Mapping[str, str], provenance: Mapping[str, Mapping[str, Any]]) -> None:
    """Print rows as JSON beside the units of their columns and the provenance of the runs they come from."""
    rows = json.loads(frame.to_json(orient="records"))
    known = {name: unit for name, unit in units.items() if unit and name in frame.columns}
    told = {"rows": rows, "units": known, "provenance": {run: dict(facts) for run, facts in provenance.items()}}
    print(json.dumps(told, indent=2, default=str))


def _width() -> int:
    """Return the width of the terminal; of a pipe or a file, as much as any table needs."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    return 10_000


def _console(width: int, *, stderr: bool = False) -> Console:
    # Rich would read brackets and colons in texts as markup and emoji.
    return Console(markup=False, emoji=False, width=width, stderr=stderr)


def _least_width(column: pd.Series, name: str, number: bool) -> int:
    """Return the fewest characters in which a column can be read: sentences are wrapped, numbers and names are not."""
    longest = int(column.str.len().max()) if len(column) else 0
    wrapped = not number and column.str.contains(" ", regex=False).any()
    return max(len(name), min(longest, TEXT) if wrapped else longest)


def _fitting(least: Mapping[str, int], width: int) -> list[str]:
    """Return the columns that fit side by side, from the left; the first one always does."""
    fits: list[str] = []
    taken = -GAP
    for name, needed in least.items():
        taken += needed + GAP
        if fits and taken > width:
            break
        fits.append(name)
    return fits
