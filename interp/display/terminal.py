"""Show a frame in a terminal."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

_out = Console(markup=False, emoji=False)  # rich would read brackets and colons in texts as markup and emoji


def show_table(frame: pd.DataFrame, *, as_json: bool = False) -> None:
    """Print a frame to standard output, as a table or as JSON for a script."""
    if as_json:
        print(frame.to_json(orient="records", indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, dtype in frame.dtypes.items():
        table.add_column(
            str(name), justify="right" if pd.api.types.is_numeric_dtype(dtype) else "left", overflow="fold"
        )
    for row in frame.itertuples(index=False):
        table.add_row(*(_cell(value) for value in row))
    _out.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.3f}"
    return repr(value) if isinstance(value, str) and value != value.strip() else str(value)
