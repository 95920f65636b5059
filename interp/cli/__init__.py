"""The `interp` command: run every probe from a shell."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from interp.cli import listing, running, studies
from interp.options import options
from interp.runs.commands import in_one_sentence
from interp.sweeps.command import sweep

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"interp {version('interp-probes')}")
        raise typer.Exit


@app.callback()
def interp_command(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Read what a causal language model computes, layer by layer: probes, the papers' claims, and a report."""
    if not sys.stderr.isatty():
        context.with_resource(options.local(progress=True))  # in a log, as lines


for command in (
    running.run,
    studies.findings,
    studies.report,
    sweep,
    listing.probes,
    listing.describe,
    listing.claims,
    listing.models,
    listing.fetch,
):
    app.command()(in_one_sentence(command))
app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})(
    in_one_sentence(studies.demo)
)
