"""The commands that study a whole model: its report, the papers' claims on it, and the demo."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console

from interp.data.frame_files import check_frame_file, write_frame
from interp.data.shipped import read_data
from interp.display.terminal import show_json, show_table
from interp.display.text import short_citation
from interp.display.verdicts import decided_by
from interp.errors import InputError
from interp.runs import arguments
from interp.runs.commands import AsJson, Backend, Device, DeviceMap, Dtype, OneModel, Texts, told
from interp.runs.plugins import offered

# Rich would read brackets and colons in texts as markup and emoji.
_out = Console(markup=False, emoji=False)
_err = Console(markup=False, emoji=False, stderr=True)

DEMO_GROUP = "interp.demo"


def report(
    model: OneModel = "reference",
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    data: Texts = "prompts",
    n_prompts: Annotated[int, typer.Option(help="Number of texts to take, at even distances.")] = 24,
    probe: Annotated[list[str] | None, typer.Option(help="Only this probe; may be given more than once.")] = None,
    findings: Annotated[bool, typer.Option(help="Test the papers' claims too.")] = True,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="At most 4 short texts, none of the probes that take long, no claims; the page names them."
        ),
    ] = False,
    backend: Backend = "bridge",
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
) -> None:
    """Run every probe and write one page: figures, tables, findings, provenance. Resumes if it was interrupted."""
    from interp.model.loading import load
    from interp.report.page import report as write

    texts = read_data(data)
    subject = load(model, backend=backend, device=device, dtype=dtype, device_map=device_map)  # type: ignore[arg-type]
    page = write(subject, out, texts=texts, n_prompts=n_prompts, probes=probe, findings=findings, quick=quick)
    typer.echo(f"wrote {page}")


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
    from interp.findings import FINDINGS
    from interp.findings import findings as test_claims
    from interp.model.loading import load
    from interp.model.texts.forms import frame_of_texts

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
        show_json(frame, FINDINGS.units, frame.interp.runs)
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
        file.unlink(missing_ok=True)  # the same call may run twice at once
    with suppress(OSError):
        parts.rmdir()


def _verdicts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of findings for a terminal: the state, and what decided it."""
    rows = list(frame.to_dict("records"))
    return pd.DataFrame(
        {
            "claim": frame["claim"],
            "state": frame["state"],
            "decided by": [decided_by(row) for row in rows],
            "n": [f"{row['n']} {row['unit']}" for row in rows],
            "statement": frame["statement"],
            "paper": frame["paper"].map(short_citation),
        }
    )


def demo(context: typer.Context) -> None:
    """Read the shipped model with the built-in probes: tables, Parquet files, a figure. Needs no network."""
    found, _ = offered(DEMO_GROUP)
    if not found:
        raise InputError("no installed package offers a demo; install interp-probes again.")
    found[0].things[0](context.args, prog_name="interp demo", standalone_mode=False)
