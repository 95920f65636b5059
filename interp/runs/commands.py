"""Options that several commands share, how a shell completes them, and how a command answers."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any

import typer

from interp.data.shipped import text_dataset_names
from interp.errors import InputError, InterpError
from interp.options import options
from interp.runs import registry


def _probes(incomplete: str) -> list[str]:
    return [name for name in registry.names() if name.startswith(incomplete)]


def _datasets(incomplete: str) -> list[str]:
    return [name for name in text_dataset_names() if name.startswith(incomplete)]


def _models(incomplete: str) -> list[str]:
    from interp.model.sources.known import KNOWN_MODELS, SHIPPED_MODELS

    return [name for name in (*SHIPPED_MODELS, *KNOWN_MODELS) if name.startswith(incomplete)]


def _parameters(context: typer.Context, incomplete: str) -> list[str]:
    """Complete `--param` by the names of the arguments of the probe that stands before it."""
    name = context.params.get("probe")
    if name not in registry.names():
        return []
    signature = inspect.signature(registry.get(name).function).parameters
    known = [f"{one}=" for one in signature if one not in ("subject", "texts")]
    return [one for one in known if one.startswith(incomplete)]


OneModel = Annotated[
    str,
    typer.Option("--model", help="A shipped model's name, a folder or a hub id.", autocompletion=_models),
]
Backend = Annotated[str, typer.Option(help="bridge or nnsight.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16, float16.")]
DeviceMap = Annotated[str | None, typer.Option(help="auto shares a large model out to devices, memory and disk.")]
Texts = Annotated[
    str,
    typer.Option(
        help="A shipped dataset, or a .txt (one text per line), .jsonl, .csv or .parquet file; chats in .jsonl.",
        autocompletion=_datasets,
    ),
]
ProbeName = Annotated[str, typer.Argument(help="Name of a probe; `interp probes` lists them.", autocompletion=_probes)]
ManyTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        help="A shipped dataset, or a .txt (one text per line), .jsonl, .csv or .parquet file; chats in .jsonl; may be "
        "given more than once. By default, prompts.",
        autocompletion=_datasets,
    ),
]
Limit = Annotated[int | None, typer.Option(help="Take only so many of the texts, at even distances.")]
Memory = Annotated[
    str | None, typer.Option(help="What may be used beyond the model, such as 512MiB or 2GiB. By default, 1GiB.")
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--param", help="A parameter of the probe, key=JSON or key=text.", autocompletion=_parameters),
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
def with_memory(size: str | None) -> Iterator[None]:
    """Give probes a memory inside a `with` block; None leaves it as it is.

    Raises:
        InputError: the text is not a size.
    """
    with options.local(**({} if size is None else {"memory": n_bytes(size)})):
        yield


def n_bytes(size: str) -> int:
    """Read a size with its unit.

    >>> n_bytes("512MiB"), n_bytes("1.5 GB")
    (536870912, 1500000000)

    Raises:
        InputError: the text is not a size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(k|M|G|T)(i?)B", size.strip())
    if found is None or float(found[1]) == 0:
        raise InputError(f"memory {size!r} is not a size; write a number and its unit, such as 512MiB or 2GiB.")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** (1 + "kMGT".index(found[2])))


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
