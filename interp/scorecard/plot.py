"""Draw a scorecard: a panel for each metric, a mark for each tokenizer."""

from __future__ import annotations

import pandas as pd

from interp.display.plotting import LINES, Canvas, dodged, figure
from interp.errors import InputError

_PANELS = {
    "tokens_per_byte": "tokens per byte",
    "whole_words": "words that are one token",
    "renyi_2.5": "Rényi efficiency (2.5)",
    "shortest_gap": "tokens / fewest possible",
    "log10_encodings_per_byte": "log10 encodings per byte",
    "premium": "premium",
}


@figure(together=True)
def scorecard(frame: pd.DataFrame, canvas: Canvas, *, metrics: list[str] | None = None) -> None:
    """Draw metrics side by side: a line for each set of texts, a mark with its interval for each tokenizer.

    Args:
        frame: of `tokenizer_scorecard`.
        canvas: to draw on.
        metrics: which; by default those of length, evenness and fairness that the frame has.

    Raises:
        InputError: the frame has none of them.
    """
    wanted = list(_PANELS) if metrics is None else metrics
    shown = [name for name in wanted if name in set(frame["metric"])]
    if not shown:
        raise InputError(f"the frame has none of the metrics {wanted}; give some of its own.")
    runs = frame.drop_duplicates("run_id").set_index("run_id")["tokenizer"]
    rows = frame[frame["metric"].isin(shown)]
    n_lines = rows.groupby("metric")["texts"].nunique().max()
    grid = canvas.grid(1, len(shown), (1.6 + 1.9 * len(shown), 1.5 + 0.16 * n_lines * (len(runs) + 1)))
    for axes, metric in zip(grid[0], shown, strict=True):
        of_metric = rows[rows["metric"] == metric]
        names = of_metric["texts"].unique().tolist()
        for place, run in enumerate(runs.index):
            one = of_metric[of_metric["run_id"] == run]
            at = [names.index(name) + (place - (len(runs) - 1) / 2) * 0.7 / len(runs) for name in one["texts"]]
            one = one.rename(columns={"low": "value_low", "high": "value_high"})
            dodged(axes, at, one, "value", across=True, fmt="o", color=LINES[place % len(LINES)], label=runs[run])
        axes.set_yticks(
            range(len(names)), names if len(names) > 1 or metric == "premium" else [""] * len(names), fontsize=8
        )
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_title(_PANELS.get(metric, metric), fontsize=9)
        axes.tick_params(axis="x", labelsize=8)
        axes.margins(x=0.2)
    canvas.title("tokenizers on texts")
    canvas.legend(grid[0, 0])
    canvas.caption("bars: 95 % bootstrap over texts, where a metric has an interval")
