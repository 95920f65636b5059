"""Write a page for every probe: its question, an example with rows and figure, its columns, paper, cost and pitfall.

Nothing is written for these pages: words come from docstrings and schemas, and rows and figures from the probe itself,
run on the shipped model when the documentation is built. Frames are kept in `build/docs-frames` until code changes.
"""

from __future__ import annotations

import inspect
import io
import json
import re
from functools import cache

import pandas as pd
from costs_table import KEPT
from layout import ROOT
from readme_table import citations

from interp.checks import example_call
from interp.display.text import format_value
from interp.errors import InterpError
from interp.report.every_probe import ProbeResult, run_every_probe, some_texts
from interp.runs import registry
from interp.runs.description import arguments_of, command, family, needs, question
from interp.runs.registry import Probe

MODEL, TEXTS, N_TEXTS, N_ROWS, DPI = "reference", "prompts", 8, 4, 110
FRAMES = ROOT / "build" / "docs-frames"
_DOCTEST = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", flags=re.MULTILINE)


@cache
def ours() -> dict[str, Probe]:
    """Return the probes of this project, by name."""
    known = {name: registry.get(name) for name in registry.names()}
    return {name: one for name, one in known.items() if one.function.__module__.startswith("probes.")}


@cache
def results() -> dict[str, ProbeResult]:
    """Run every probe on the shipped model, or read the frames of an earlier build, by name."""
    FRAMES.parent.mkdir(exist_ok=True)
    found = run_every_probe(MODEL, some_texts(TEXTS, N_TEXTS), probes=list(ours()), folder=FRAMES)
    return {one.probe.name: one for one in found}


def uri(probe: Probe) -> str:
    """Return where the site has a probe's page."""
    return f"probes/{family(probe)}/{probe.name}.md"


def page(probe: Probe, reference: str) -> tuple[str, bytes | None]:
    """Return a probe's page, and its figure as PNG if it has one, which the page expects beside itself.

    Args:
        probe: one of `ours`.
        reference: the link to where its arguments, errors and types are documented.
    """
    result, said = results()[probe.name], paragraphs(probe)
    parts = [
        f"# {probe.name}",
        f"*{question(probe)}*",
        f"Paper: {citations(probe.schema.paper)}. One row: {probe.schema.rows}. [Errors and types]({reference}).",
        "\n\n".join(said["text"]),
        f"## An example\n\n{_shown(probe)}",
        *(f"## {title}\n\n{said[title]}" for title in ("Pitfall", "Cost") if title in said),
        f"{_measured(probe)}\n## Arguments\n\n{_arguments(probe)}",
        f"## Columns\n\n{columns_table(probe)}",
    ]
    picture = None
    if result.frame is None:
        parts.insert(5, f"It was not run on the shipped model: {result.absent}")
    else:
        picture = _figure(result)
        parts.insert(5, _on_the_shipped_model(result, picture is not None))
    return "\n\n".join(parts) + "\n", picture


def paragraphs(probe: Probe) -> dict[str, list[str] | str]:
    """Return what a docstring says beside its sections: "text", and "Cost" and "Pitfall" where it names them."""
    found: dict[str, list[str] | str] = {}
    text: list[str] = []
    body = _DOCTEST.sub("", inspect.getdoc(probe.function) or "")
    introduced = False
    for one in body.split("\n\n")[1:]:
        introduced = introduced or one.startswith("Args:\n")
        named = re.match(r"(Cost|Pitfall)(?:: | (?=for ))", one)
        if named:
            found[named[1]] = one[named.end() :][:1].upper() + one[named.end() + 1 :]
        elif not introduced:
            text.append(one)
    return found | {"text": text}


def columns_table(probe: Probe) -> str:
    """Return the columns of a probe's frame, a row each."""
    rows = probe.schema.describe().itertuples(index=False)
    return markdown(
        ("column", "type", "unit", "meaning"), [(f"`{one.column}`", one.type, one.unit, one.meaning) for one in rows]
    )


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ("---",) * len(header), *rows]
    escaped = ([" ".join(cell.replace("|", r"\|").split()) for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _shown(probe: Probe) -> str:
    """Return the docstring's doctests; the suite runs them, so that what they print is so."""
    blocks = _DOCTEST.findall(inspect.getdoc(probe.function) or "")
    package = probe.function.__module__.partition(".")[0]
    start = f">>> from {package} import {probe.name}"
    shown = example_call(probe.function)
    again = [] if shown is None else [start]
    return "```pycon\n" + "\n".join([*again, *blocks]) + "\n```"


def _on_the_shipped_model(result: ProbeResult, drawn: bool) -> str:
    assert result.frame is not None
    probe, frame = result.probe, result.frame
    first = frame.drop(columns=[one for one in ("model", "run_id") if one in frame]).head(N_ROWS)
    called = f"`{command(probe)}`"
    given = "the arguments of its example" if set(needs(probe)) - {"texts"} else "its defaults"
    parts = [
        f"On the shipped model with {given} ({called}), {len(frame):,} rows. The first:",
        _rows(first),
    ]
    if (summary := _summary(frame)) is not None:
        parts += ["`frame.interp.summary()` begins:", _rows(summary.head(N_ROWS))]
    if drawn:
        parts += ["`frame.interp.plot()`:", f"![Figure of {probe.name}]({probe.name}.png)"]
    return "\n\n".join(parts)


def _summary(frame: pd.DataFrame) -> pd.DataFrame | None:
    try:
        table = frame.interp.summary()
    except InterpError:
        return None
    return table.drop(columns=[one for one in ("model", "run_id") if one in table])


def _rows(frame: pd.DataFrame) -> str:
    names = tuple(f"`{one}`" for one in frame.columns)
    cells = [tuple(_cell(value) for value in row) for row in frame.itertuples(index=False)]
    return markdown(names, cells)


def _cell(value: object) -> str:
    text = format_value(value)
    text = text if len(text) <= 40 else text[:39] + "…"
    return re.sub(r"([\\`*_\[\]])", r"\\\1", text).replace("<", "&lt;")


def _figure(result: ProbeResult) -> bytes | None:
    if result.probe.plot is None or result.frame is None:
        return None
    try:
        figure = result.frame.interp.plot()
    except InterpError:  # of several runs, say
        return None
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return file.getvalue()


def _arguments(probe: Probe) -> str:
    table = arguments_of(probe)
    rows = [(f"`{one.argument}`", f"`{one.default}`" if one.default else "", one.meaning) for one in table.itertuples()]
    return markdown(("argument", "default", "meaning"), rows)


def _measured(probe: Probe) -> str:
    """Return what a probe was measured to cost on a real model, if it was."""
    lines = []
    for path in sorted(KEPT.glob("*.json")):
        for title, found in json.loads(path.read_text("utf-8")).items():
            if "ratio" in found.get(probe.name, {}):
                one = found[probe.name]
                lines.append(
                    f"Measured on {title}: {one['ratio']:,.1f} bare forward passes over the same tokens, "
                    f"{one['MiB']:,.0f} MiB ([all costs](../../costs.md)).\n"
                )
    return "\n".join(lines)
