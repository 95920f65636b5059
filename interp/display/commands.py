"""Options that several commands share, and how a command answers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any

import typer

from interp.errors import InterpError

OneModel = Annotated[str, typer.Option("--model", help="A shipped model's name, a folder or a hub id.")]
Backend = Annotated[str, typer.Option(help="bridge or nnsight.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16, float16.")]
DeviceMap = Annotated[str | None, typer.Option(help="auto shares a large model out to devices, memory and disk.")]
Texts = Annotated[
    str,
    typer.Option(
        help="A shipped dataset, or a .txt (one text per line), .jsonl, .csv or .parquet file; chats in .jsonl."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


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
