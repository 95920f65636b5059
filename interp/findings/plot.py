"""Draw the matrix of findings: claims by models, each cell with its verdict, effect and interval."""

from __future__ import annotations

from typing import Any

import pandas as pd

from interp.display.plotting import BLUE, GREY, RED, Canvas, figure
from interp.display.verdicts import decided_by

# Distinguished by words and marks too, not by colour alone.
_LOOKS = {
    "holds": (BLUE, "✓"),
    "fails": (RED, "✗"),
    "undecided": (GREY, "?"),
    "skipped": ("white", "–"),
    "error": ("white", "!"),
}


@figure(together=True)
def findings(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw a row per claim and a column per model: verdict as colour and mark, and what decided it."""
    from matplotlib.patches import Rectangle

    claims, runs = frame["claim"].unique().tolist(), frame["run_id"].unique().tolist()
    names = frame.drop_duplicates("run_id").set_index("run_id")["model"]
    statements = frame.drop_duplicates("claim").set_index("claim")["statement"]
    width, height = 4.6 + 3.4 * len(runs), 0.9 + 0.3 * len(claims)
    axes = canvas.one((width, height))
    for row in frame.itertuples():
        x, y = runs.index(row.run_id), claims.index(row.claim)
        colour, mark = _LOOKS[row.state]
        axes.add_patch(Rectangle((x - 0.49, y - 0.44), 0.98, 0.88, color=colour, alpha=0.22, linewidth=0))
        axes.text(x - 0.46, y, mark, va="center", ha="left", fontsize=10, color="0.1")
        axes.text(x - 0.38, y, _cell(row), va="center", ha="left", fontsize=7.5, color="0.1")
    axes.set_xlim(-0.5, len(runs) - 0.5)
    axes.set_ylim(len(claims) - 0.5, -0.5)
    axes.set_xticks(range(len(runs)), [names[run] for run in runs], fontsize=9)
    axes.set_yticks(range(len(claims)), [statements[claim] for claim in claims], fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    level = round(100 * float(frame["level"].iat[0]))
    legend = "   ".join(f"{mark} {state}" for state, (_, mark) in _LOOKS.items())
    canvas.caption(f"effect [{level} % interval], or its difference from the control", legend)


def _cell(row: Any) -> str:
    if pd.isna(row.effect):
        return str(row.state)
    return decided_by(row._asdict())
