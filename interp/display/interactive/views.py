"""Build the pages: what stands in a cell, how it is coloured, and what hovering over it says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, TypeAlias

from markupsafe import Markup

from interp.display.interactive.page import Page
from interp.display.text import visible

_HEIGHT = 640


@dataclass(frozen=True)
class Measure:
    """A measure that colours a grid's cells.

    Attributes:
        label: what it is, with its unit.
        kind: of its scale: "share" is 0..1; "root" and "log" spread small values out, from 0 up; "linear" spans them.
        high: True if large values are shown dark, else small ones are.
        values: of the cells, [row][column]; None where missing.
    """

    label: str
    kind: Literal["share", "root", "log", "linear"]
    high: bool
    values: Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Grid:
    """Layers by positions of one prompt; the first row is drawn at the bottom.

    Attributes:
        label: of the prompt.
        columns: the input tokens.
        rows: the layers.
        cells: the text in each cell, [row][column].
        hints: the lines that hovering over a cell shows, [row][column].
        measures: to choose from; the first is shown first.
    """

    label: str
    columns: Sequence[str]
    rows: Sequence[str]
    cells: Sequence[Sequence[str]]
    hints: Sequence[Sequence[Sequence[str]]]
    measures: Sequence[Measure]


@dataclass(frozen=True)
class Strip:
    """The tokens of a text, coloured by a signed value: `limit` has the full colour, `hints` are what hovering says."""

    label: str
    tokens: Sequence[str]
    values: Sequence[float | None]
    hints: Sequence[Sequence[str]]
    limit: float


@dataclass(frozen=True)
class Strips:
    """Strips that belong together: those of one prompt and target."""

    label: str
    strips: Sequence[Strip]


@dataclass(frozen=True)
class Doses:
    """Curves of effect against damage, a point for each dose, and lines of text for each dose.

    Attributes:
        label: of what is dosed.
        doses: their names, in order.
        across: label of the x axis, which is logarithmic.
        up: label of the y axis.
        curves: by name, the points [dose] as (x, y, low, high), None where there is none.
        texts: by dose, what is shown beside.
    """

    label: str
    doses: Sequence[str]
    across: str
    up: str
    curves: Mapping[str, Sequence[Sequence[float | None] | None]]
    texts: Sequence[Sequence[str]]


Item: TypeAlias = "Grid | Strips | Doses"


def explorer(title: str, items: Sequence[Item], note: str = "") -> Page:
    """Return a page to look into items of one kind, with a selector if there are several.

    >>> measure = Measure("probability", "share", True, [[0.5, 1.0]])
    >>> grid = Grid("prompt 0", ["a", "b"], ["layer 0"], [["c", "d"]], [[["c 50 %"], ["d 100 %"]]], [measure])
    >>> page = explorer("a lens", [grid])
    >>> "://" in page.html, "c 50 %" in page.html
    (False, True)
    """
    payload = {"view": type(items[0]).__name__, "note": note, "items": [_plain(asdict(item)) for item in items]}
    # No text can end the script element, and no character of it is changed.
    data = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    html = _template().replace("%TITLE%", str(Markup("{}").format(visible(title)))).replace("%DATA%", data)
    return Page(visible(title), html, _HEIGHT)


def _plain(value: Any) -> Any:
    """Return numbers to five digits, None for those that are not finite, and texts with visible characters only."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, str):
        return visible(value)
    if value is None or isinstance(value, bool):
        return value
    number = float(value)
    return float(f"{number:.5g}") if math.isfinite(number) else None


@cache
def _template() -> str:
    return files("interp.display.interactive").joinpath("explorer.html").read_text("utf-8")
