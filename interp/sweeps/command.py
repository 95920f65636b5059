"""`interp sweep`: sweep from a shell, and look at what is done."""

from __future__ import annotations

from typing import Annotated, Any

import pandas as pd
import typer

from interp.data.shipped import read_data
from interp.display.terminal import show_table
from interp.errors import InputError
from interp.runs import arguments, registry
from interp.runs.commands import AsJson, Backend, Device, Dtype, Memory, OneModel, Parameters, Texts, with_memory
from interp.sweeps.result import Sweep


def sweep(
    probe: Annotated[str, typer.Argument(help="Name of a probe, or `status` to look at a sweep.")],
    folder: Annotated[str | None, typer.Argument(help="The sweep to look at.")] = None,
    model: OneModel = "reference",
    data: Texts = "prompts",
    out: Annotated[str | None, typer.Option(help="The folder, or a URL such as s3://bucket/runs.")] = None,
    param: Parameters = None,
    executor: Annotated[str, typer.Option(help="local, processes, ray or submitit.")] = "local",
    workers: Annotated[int | None, typer.Option(help="Number of processes, of Ray's actors or of jobs.")] = None,
    num_gpus: Annotated[float, typer.Option(help="GPUs of each actor or job.")] = 0,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster; by default Ray is started here.")] = None,
    slurm: Annotated[list[str] | None, typer.Option(help="A parameter of submitit, key=JSON or key=text.")] = None,
    shard_tokens: Annotated[int, typer.Option(help="Tokens of a shard.")] = 65536,
    memory: Memory = None,
    backend: Backend = "bridge",
    device: Device = None,
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Run a probe over very many prompts, in shards that are kept; the same command goes on after an interruption."""
    if probe == "status":
        if folder is None:
            raise InputError("status needs the folder of a sweep, as in `interp sweep status runs/lens`.")
        show_table(pd.DataFrame([Sweep(folder).status()]), as_json=as_json)
        return
    if folder is not None:
        raise InputError(f"{folder!r} is one word too many; name the folder with --out.")
    if out is None:
        raise InputError("a sweep needs a folder to keep its rows in; name one with --out.")
    from interp.sweeps.sweep import sweep as run

    found = registry.get(probe)
    parameters = arguments.parameters(found.function, arguments.pairs(param or []))
    settings = {name: arguments.value_of(text) for name, text in arguments.pairs(slurm or [], "--slurm")}
    given: dict[str, Any] = {"backend": backend, "device": device, "dtype": dtype}
    with with_memory(memory):
        done = run(
            probe,
            model,
            read_data(data),
            out=out,
            executor=executor,  # type: ignore[arg-type]
            workers=workers,
            num_gpus=num_gpus,
            address=address,
            slurm=settings or None,
            loading={name: value for name, value in given.items() if value is not None},
            shard_tokens=shard_tokens,
            **{name: value for name, value in parameters.items() if name != "out"},
        )
    show_table(done.summary(), as_json=as_json)
    typer.echo(f"{done!r}", err=True)
