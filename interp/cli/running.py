"""The command that runs one probe."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console

from interp.data.frame_files import check_frame_file, write_frame
from interp.data.shipped import read_data
from interp.display.terminal import show_json, show_table
from interp.errors import InputError
from interp.runs import arguments, description, registry
from interp.runs.commands import (
    AsJson,
    Backend,
    Device,
    DeviceMap,
    Dtype,
    Limit,
    ManyTexts,
    Memory,
    OneModel,
    Parameters,
    ProbeName,
    with_memory,
)

_err = Console(markup=False, emoji=False, stderr=True)


def run(
    probe: ProbeName,
    model: OneModel = "reference",
    data: ManyTexts = None,
    limit: Limit = None,
    out: Annotated[Path | None, typer.Option(help="Write the frame here: .parquet, .csv or .json.")] = None,
    param: Parameters = None,
    example: Annotated[
        bool, typer.Option("--example", help="Take arguments that are not given from the probe's own example.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of the probe's random choices.")] = None,
    memory: Memory = None,
    backend: Backend = "bridge",
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
    as_json: AsJson = False,
) -> None:
    """Run a probe and print its summary."""
    from interp.model.loading import load
    from interp.report.every_probe import arguments_of, some_texts

    found = registry.get(probe)
    reads = arguments.takes_texts(found.function)
    if not reads and (data or limit is not None):
        given = f"--data {data[0]!r}" if data else f"--limit {limit}"
        raise InputError(f"{given}: {probe!r} reads no texts; leave it out.")
    pairs = arguments.pairs(param or []) + _seed(found, seed)
    if example and found.example is None:
        raise InputError(f"--example: {probe!r} runs on texts alone and has no arguments of its own; leave it out.")
    try:
        parameters = arguments.parameters(found.function, pairs, complete=not example)
    except InputError as error:
        if found.example is None or set(description.needs(found)) <= {"texts"} | {name for name, _ in pairs}:
            raise
        raise InputError(f"{str(error).rstrip('.')}; or add --example, which takes the probe's own.") from None
    texts = _joined(data or ["prompts"])
    texts = texts if limit is None else some_texts(texts, limit)
    if out is not None:
        arguments.check_output(out)
        check_frame_file(out)
    with with_memory(memory):
        subject = load(model, backend=backend, device=device, dtype=dtype, device_map=device_map)  # type: ignore[arg-type]
        parameters = arguments.with_files(found.function, parameters)
        if example:
            parameters = arguments_of(found, subject, texts) | parameters
        elif reads:
            parameters["texts"] = texts
        frame = found.function(subject, **parameters)
    if out is not None:
        write_frame(frame, out)
    summary = frame.interp.summary()
    if as_json:
        show_json(summary, found.schema.units, frame.interp.runs)
    else:
        show_table(summary)
    if out is not None:
        _err.print(f"{len(frame):,} rows in {out}", highlight=False)


def _seed(found: registry.Probe, seed: int | None) -> list[tuple[str, str]]:
    if seed is None:
        return []
    if "seed" not in inspect.signature(found.function).parameters:
        raise InputError(f"--seed {seed}: {found.name!r} makes no random choices; leave it out.")
    return [("seed", str(seed))]


def _joined(names: list[str]) -> pd.DataFrame:
    """Read one dataset, or several one after the other, whose prompts are then numbered anew."""
    read = [read_data(name) for name in names]
    if len(read) == 1:
        return read[0]
    numbered = [part.drop(columns="prompt_id", errors="ignore") for part in read]
    return pd.concat([part.assign(data=name) for name, part in zip(names, numbered, strict=True)], ignore_index=True)
