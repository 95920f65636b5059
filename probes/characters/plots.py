"""Figures of the letters in tokens' vectors: by letter, or by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.display.plotting import BLACK, BLUE, GREEN, PINK, RED, SKY, YELLOW, new_figure, require_one, token_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which readers with any colour vision can distinguish.
_COLOURS = {
    "none": BLUE,
    "length_only": YELLOW,
    "frequency_only": PINK,
    "permuted": GREEN,
    "norm_matched": SKY,
    "random": BLACK,
    "shuffled_labels": RED,
}
_MARKERS = {"length_only": "s", "frequency_only": "D", "permuted": "v", "norm_matched": "^", "random": "x"}
_CONSTANT, _COIN = 1 / 3, 1 / 2


def characters(frame: pd.DataFrame) -> Figure:
    """Draw the macro-F1 of a `character_content` frame.

    For weights or one layer: a column per letter, with the measurement as the mean of its seeds with their range, and
    the controls as means over seeds. For several layers: a line per condition, the mean over letters with its interval.

    Args:
        frame: of one model, task and probe.
    """
    require_one(frame, "model", "task", "case", "where", "probe")
    return _by_layer(frame) if frame["layer"].nunique() > 1 else _by_letter(frame)


def _by_letter(frame: pd.DataFrame) -> Figure:
    figure, axes = _figure(frame, 1.8 + 0.3 * max(12, frame["letter"].nunique()))
    own = frame[frame["control"] == "none"].groupby("letter")["macro_f1"].agg(["mean", "min", "max"])
    letters = own.index[own["mean"].argsort()[::-1]] if len(own) else sorted(frame["letter"].unique())
    places = range(len(letters))
    for control, rows in frame[frame["control"] != "none"].groupby("control", sort=False):
        means = rows.groupby("letter")["macro_f1"].mean().reindex(letters)
        marker = _MARKERS.get(control, "+")
        axes.plot(places, means, marker, color=_COLOURS.get(control), label=_name(control), markersize=4, alpha=0.9)
    if len(own):
        own = own.loc[letters]
        spread = [own["mean"] - own["min"], own["max"] - own["mean"]]
        label = "the vectors (range of seeds)"
        axes.errorbar(places, own["mean"], spread, fmt="o", color=_COLOURS["none"], label=label, markersize=6, zorder=3)
    axes.set_xticks(places, [token_label(letter) for letter in letters])
    axes.set_xlabel("letter" if frame["task"].iat[0] != "length" else "at least so many letters")
    return _finish(figure, axes, frame)


def _by_layer(frame: pd.DataFrame) -> Figure:
    figure, axes = _figure(frame, 7.5)
    summary = frame.interp.summary()
    for control, rows in summary.groupby("control", sort=False):
        name = "the vectors" if control == "none" else _name(control)
        colour, layers = _COLOURS.get(control), rows["layer"].astype(int)
        axes.plot(
            layers, rows["macro_f1"], "o-" if control == "none" else ".--", color=colour, label=name, markersize=5
        )
        axes.fill_between(layers, rows["macro_f1_low"], rows["macro_f1_high"], color=colour, alpha=0.15, linewidth=0)
    axes.set_xticks(sorted(summary["layer"].astype(int).unique()))
    axes.set_xlabel("layer read (0: embedding, last: output of the last block)")
    return _finish(figure, axes, frame)


def _figure(frame: pd.DataFrame, width: float) -> tuple[Figure, Axes]:
    figure, axes = new_figure((width, 4.0))
    for height, name in ((_COIN, "coin"), (_CONSTANT, "constant answer")):
        axes.axhline(height, color="0.6", linewidth=0.8, zorder=0)
        axes.text(1.005, height, name, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color="0.35")
    return figure, axes


def _finish(figure: Figure, axes: Axes, frame: pd.DataFrame) -> Figure:
    axes.set_ylim(0.28, 1.02)
    axes.set_ylabel("macro-F1 (0..1)")
    what = f"{frame['task'].iat[0]}, {frame['where'].iat[0]}, {frame['probe'].iat[0]} probe"
    axes.set_title(f"{frame['model'].iat[0]}: {what}", fontsize=10)
    axes.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    return figure


def _name(control: str) -> str:
    return control.replace("_", " ")
