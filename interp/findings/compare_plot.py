"""Draw the differences between two runs, a panel for each measure."""

from __future__ import annotations

from typing import Any

import pandas as pd

from interp.display.plotting import GREY, LINES, Canvas, figure, require_one
from interp.runs import registry

_PANELS_A_ROW = 3


@figure(together=True)
def compared(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw what the other run has more than the first, by layer where there are any, with its interval over prompts."""
    require_one(frame, "run_id")
    measures = frame["measure"].unique().tolist()
    known = {column.name for column in frame.interp.schema.columns}
    groups = [name for name in frame.columns if name not in known and frame[name].nunique() > 1]
    across = next((name for name in groups if pd.api.types.is_numeric_dtype(frame[name])), None)
    rows = -(-len(measures) // _PANELS_A_ROW)
    wide = min(len(measures), _PANELS_A_ROW)
    grid = canvas.grid(rows, wide, (3.4 * wide, 2.7 * rows + 0.5))
    units = _units(frame)
    for axes, measure in zip(grid.flat, measures, strict=False):
        of = frame[frame["measure"] == measure]
        axes.axhline(0, color=GREY, linewidth=0.8)
        lines = [name for name in groups if name != across]
        parts = [((), of)] if not lines else list(of.groupby(lines, sort=False, observed=True))
        for (key, part), colour in zip(parts, LINES * len(parts), strict=False):
            _draw(axes, part, across, colour, ", ".join(map(str, key if isinstance(key, tuple) else (key,))))
        axes.set_title(measure.replace("_", " ") + (f" ({units[measure]})" if units.get(measure) else ""), fontsize=9)
        axes.set_xlabel((across or "").replace("_", " "))
        if across is None:
            axes.set_xticks([])
    for axes in grid.flat[len(measures) :]:
        axes.set_visible(False)
    if any(axes.get_legend_handles_labels()[1] for axes in grid.flat):
        grid.flat[0].legend(fontsize=7)
    first = frame.iloc[0]
    canvas.title(f"{first['other_model']} minus {first['model']}", models=False)
    canvas.caption(
        f"difference within each prompt, mean over {frame['n_prompts'].max()} prompts",
        f"bands and bars: {_level(frame)} % bootstrap over prompts",
    )


def _draw(axes: Any, part: pd.DataFrame, across: str | None, colour: str, label: str) -> None:
    if across is None:
        gap = [part["difference"] - part["low"], part["high"] - part["difference"]]
        axes.errorbar([label] * len(part), part["difference"], yerr=gap, fmt="o", color=colour, capsize=3)
        return
    part = part.sort_values(across)
    axes.plot(part[across], part["difference"], color=colour, marker="o", markersize=2.5, label=label or None)
    axes.fill_between(part[across], part["low"], part["high"], color=colour, alpha=0.18, linewidth=0)


def _units(frame: pd.DataFrame) -> dict[str, str]:
    (facts,) = frame.interp.runs.values()
    return registry.get(facts["compared"]).schema.units


def _level(frame: pd.DataFrame) -> int:
    (facts,) = frame.interp.runs.values()
    return round(100 * facts["parameters"]["level"])
