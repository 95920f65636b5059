"""Show a frame in a terminal, and bad input as one sentence."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from interp.errors import InterpError

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


@contextmanager
def one_sentence() -> Iterator[None]:
    """Print one sentence instead of a traceback for bad input, and exit with code 2."""
    try:
        yield
    except InterpError as error:
        typer.echo(f"interp: {error}", err=True)
        raise typer.Exit(2) from None


def in_one_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command so that it answers bad input by one sentence."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        with one_sentence():
            command(*args, **kwargs)

    return run


@contextmanager
def told(logger_name: str) -> Iterator[None]:
    """Print what a logger is told as lines on standard error, above the progress bars."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    logger, handler = logging.getLogger(logger_name), logging.StreamHandler(sys.stderr)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with logging_redirect_tqdm([logger]):
            yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
