"""Draw layers by positions of one prompt, wrapped like text, with a word in each cell and a value as its colour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from interp.display.plotting.canvas import Canvas
from interp.display.plotting.colours import legible_on
from interp.display.plotting.labels import token_label

_PER_LINE, _MOST_CELLS = 12, 3000
_INCHES = 8.0  # wide at most: 800 pixels at 100 dpi
_FEW = 12  # rows that leave room for larger letters


class WordGrid(NamedTuple):
    """A grid that was drawn.

    Attributes:
        image: its colours, for a scale beside it.
        cells: the values that are shown, [row, position].
        left_out: a sentence for the caption, which names the positions shown if some are not; else empty.
    """

    image: Any
    cells: np.ndarray
    left_out: str


def word_grid(
    canvas: Canvas,
    rows: pd.DataFrame,
    *,
    words: str,
    value: str,
    norm: Callable[[np.ndarray], Any],
    colours: str = "viridis",
    row: str = "layer",
    label: Callable[[Any], str] = str,
    up: str = "layer",
) -> WordGrid:
    """Draw the cells of one prompt; missing ones are grey.

    Args:
        canvas: to draw on.
        rows: one for each cell, with `pos`, `token` (the input there), and the columns named below.
        words: the column written in the cells.
        value: the column that colours them.
        norm: makes a matplotlib norm from the values shown, float [row, position].
        colours: name of the colour map.
        row: the column of the grid's rows, the first at the bottom.
        label: names a row.
        up: label of the y axis.
    """
    heights, places = sorted(rows[row].unique()), sorted(rows["pos"].unique())
    most = max(_PER_LINE, _MOST_CELLS // len(heights) // _PER_LINE * _PER_LINE)
    n_lines = canvas.offered or -(-min(len(places), most) // _PER_LINE)
    shown = places if canvas.offered else places[:most]
    per_line = -(-len(shown) // n_lines)
    lines = [shown[start : start + per_line] for start in range(0, len(shown), per_line)]
    high, letters = (0.3, 8) if len(heights) <= _FEW else (0.15, 7)
    size = (max(4.6, 1.9 + 0.51 * per_line), 0.8 + len(lines) * (0.55 + high * len(heights)))
    panels = canvas.grid(len(lines), 1, (min(_INCHES, size[0]), size[1]))[:, 0]
    numbers = rows.astype({value: "Float64"}).pivot(index=row, columns="pos", values=value)
    written = rows.pivot(index=row, columns="pos", values=words)
    inputs = rows.drop_duplicates("pos").set_index("pos")["token"]
    values = numbers[shown].to_numpy(dtype=float, na_value=np.nan)
    scale = norm(values)
    for axes, line in zip(panels, lines, strict=True):
        cells = numbers[line].to_numpy(dtype=float, na_value=np.nan)
        image = axes.imshow(cells, cmap=colours, norm=scale, aspect="auto", origin="lower")
        shades = image.cmap(scale(cells))
        for (y, x), word in np.ndenumerate(written[line].to_numpy()):
            look = {"fontsize": letters, "color": legible_on(shades[y, x]), "clip_on": True}
            axes.text(x, y, "" if pd.isna(word) else token_label(str(word)), ha="center", va="center", **look)
        axes.set_facecolor("0.85")
        axes.set_xlim(-0.5, per_line - 0.5)
        axes.spines[:].set_visible(False)
        names = [token_label(text) for text in inputs.reindex(line)]
        axes.set_xticks(range(len(line)), names, fontsize=7.5, rotation=30, ha="right")
        axes.set_yticks(range(len(heights)), [label(height) for height in heights], fontsize=letters)
    panels[-1].set_xlabel("input token", fontsize=9)
    panels[len(panels) // 2].set_ylabel(up, fontsize=9)
    some = f"positions {shown[0]} to {shown[-1]} of {len(places)}" if len(shown) < len(places) else ""
    return WordGrid(image, values, some)
