"""Render tables, findings and the overview of a frame as HTML without scripts, for notebooks and the report.

Tables work with screen readers. Text that comes from models and users goes through `visible` and is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pandas as pd
from markupsafe import Markup

from interp.display import token_map as heat_map
from interp.display.cells import cells, intervals
from interp.display.text import short_citation, visible
from interp.display.verdicts import decided_by
from interp.errors import InterpError


def table(frame: pd.DataFrame, caption: str, *, units: Mapping[str, str] | None = None, max_rows: int = 60) -> Markup:
    """Render a frame as a table with a caption, column headers, and the first column as row headers.

    A value and its interval (`x`, `x_low`, `x_high`) share a cell. If there are more than `max_rows` rows, the caption
    says how many are shown.

    Args:
        frame: the rows; its index is left out.
        caption: of the table.
        units: by column, shown in the headers.
        max_rows: rows to show.

    >>> print(table(pd.DataFrame({"layer": [0], "kl": [0.5], "kl_low": [0.4], "kl_high": [0.75]}), "By layer"))
    <table><caption>By layer</caption><thead><tr><th scope="col">layer</th>...
    """
    units = units or {}
    if len(frame) > max_rows:
        caption = f"{caption} (the first {max_rows} of {len(frame):,} rows)"
    shown, with_interval = cells(frame.head(max_rows)), intervals(frame.columns)
    heads = [_head(name, units.get(name, ""), name in with_interval) for name in shown]
    numeric = [pd.api.types.is_numeric_dtype(frame[name]) for name in shown]
    rows = [
        Markup("<tr>{}</tr>").format(Markup("").join(_row(row, numeric)))
        for row in shown.itertuples(index=False, name=None)
    ]
    return Markup("<table><caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(
        visible(caption), Markup("").join(heads), Markup("\n").join(rows)
    )


def _head(name: str, unit: str, interval: bool) -> Markup:
    details = ", ".join(part for part in (unit, "with 95 % interval" if interval else "") if part)
    small = Markup(" <small>({})</small>").format(details) if details else Markup("")
    return Markup('<th scope="col">{}{}</th>').format(visible(name), small)


def _row(row: Sequence[str], numeric: Sequence[bool]) -> Iterator[Markup]:
    for place, (text, number) in enumerate(zip(row, numeric, strict=True)):
        tag = Markup('<th scope="row">{}</th>') if place == 0 else Markup("<td{}>{}</td>")
        align = Markup(' style="text-align:right;white-space:nowrap"') if number else Markup("")
        yield tag.format(text) if place == 0 else tag.format(align, text)


_STATES = {"holds": "✓ holds", "fails": "✗ fails", "undecided": "? undecided", "error": "! error"}


def findings(frame: pd.DataFrame) -> Markup:
    """Render a frame of `interp.findings` as a table: a row per claim, its state shown by sign, word and colour.

    Args:
        frame: of one model, or of several; with several, the table has a column for the model.
    """
    several = "model" in frame and frame["model"].nunique() > 1
    decided = pd.Series([decided_by(row) for row in frame.to_dict("records")], frame.index, dtype=str)
    frame = frame.assign(**{"decided by": decided})
    wanted = [
        "statement",
        "model",
        "state",
        "decided by",
        "n",
        "unit",
        "n_skipped",
        "p_holm",
        "reason",
        "paper",
        "claim",
    ]
    shown = frame[[name for name in wanted if name in frame and (name != "model" or several)]]
    shown = shown.assign(
        state=shown["state"].map(lambda state: _STATES.get(state, state)), paper=shown["paper"].map(short_citation)
    )
    rendered = str(table(shown, "Tested claims", max_rows=500))
    for state, text in _STATES.items():  # replace whole cells only: these contain no text from models or users
        rendered = rendered.replace(f"<td>{text}</td>", f'<td class="{state}">{text}</td>')
    return Markup(rendered)


def overview(frame: pd.DataFrame) -> Markup:
    """Describe a probe's frame: its rows, runs and columns, and the tokens of its first text if it has them.

    If no probe made the frame, this does not raise: the description says so.
    """
    try:
        schema, runs = frame.interp.schema, frame.interp.runs
    except InterpError as error:
        return Markup("<p>{}</p>").format(visible(str(error)))
    lines = [f"{len(frame):,} rows, {schema.rows}. {schema.paper}.", *map(extent, runs.values())]
    parts = [Markup("<p style='margin:0.2em 0'><b>{}</b> {}</p>").format(schema.probe, lines[0])]
    parts += [Markup("<p style='margin:0.2em 0'>{}</p>").format(visible(line)) for line in lines[1:]]
    with suppress(InterpError):  # not every frame is about single tokens
        parts.append(heat_map.token_map(frame, schema))
    columns = table(schema.describe(), f"Columns of a frame of {schema.probe}", max_rows=200)
    parts.append(Markup("<details><summary>What the columns mean</summary>{}</details>").format(columns))
    return Markup("<div>{}</div>").format(Markup("").join(parts))


def extent(run: Mapping[str, Any]) -> str:
    """Return one line of provenance: model, texts, tokens, seconds, date."""
    read = f", {run['n_prompts']:,} texts of {run['n_tokens']:,} tokens" if "n_prompts" in run else ""
    return f"{run['model']}{read}, {run['seconds']:.1f} s, {run['created']}"
