"""Figures of letters: in tokens' vectors, by letter or by layer, and in what a model answers when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.display.plotting import (
    BLACK,
    BLUE,
    GREEN,
    PINK,
    RED,
    SKY,
    YELLOW,
    Canvas,
    curve,
    dodged,
    figure,
    layer_axis,
    over_prompts,
    require_one,
    share_axis,
    token_label,
    worded,
)
from probes.characters._summary import summarise_letters

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
_NAMES = {"none": "the vectors", "random": "random vectors", "permuted": "vectors permuted"}
_CONSTANT, _COIN = 1 / 3, 1 / 2
_QUESTIONS = {
    "contains": "which letters a token contains",
    "first": "the first letter of a token",
    "last": "the last letter of a token",
    "position": "the letter at one place of a token",
    "count": "which letters a token has twice",
    "length": "how long a token is",
}
_PLACES = {"embedding": "its embedding", "unembedding": "its unembedding", "residual": "the residual"}
_READERS = {"ridge": "ridge regression", "logistic": "logistic regression", "mlp": "an MLP"}


@figure
def characters(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the macro-F1 of a `character_content` frame of one question and one way of reading.

    For weights or one layer: a column per letter, the measurement with its interval over seeds, and the controls as
    means over seeds. For several layers: a line per condition, the mean over letters with its interval.
    """
    require_one(frame, "task", "case", "where", "probe")
    by_layer = frame["layer"].nunique() > 1
    axes = canvas.one((8.6 if by_layer else 3.4 + 0.3 * max(12, frame["letter"].nunique()), 4.0))
    (_by_layer if by_layer else _by_letter)(axes, frame)
    for height, name in ((_COIN, "coin"), (_CONSTANT, "constant answer")):
        axes.axhline(height, color="0.6", linewidth=0.8, zorder=0)
        axes.text(0.995, height, name, transform=axes.get_yaxis_transform(), va="bottom", ha="right", fontsize=7.5)
    axes.set_ylim(0.28, 1.02)
    axes.set_ylabel("macro-F1 (0..1)")
    one = frame.iloc[0]
    canvas.title(f"{_QUESTIONS[one['task']]}, read from {_PLACES[one['where']]} by {_READERS[one['probe']]}")
    canvas.legend(axes)
    n_seeds, n_letters = frame["seed"].nunique(), frame["letter"].nunique()
    canvas.caption(
        f"bands: 95 % bootstrap over {n_letters} letters and {n_seeds} seeds"
        if by_layer
        else "one seed: no interval"
        if n_seeds == 1
        else f"bars: 95 % bootstrap over {n_seeds} seeds; controls are means over seeds, without bars to be legible"
    )


def _by_letter(axes: Axes, frame: pd.DataFrame) -> None:
    own = frame[frame["control"] == "none"]
    if len(own):
        found = {letter: summarise_letters(rows) for letter, rows in own.groupby("letter")}
        means = pd.concat(found, names=["letter"]).droplevel(1).sort_values("macro_f1", ascending=False)
    letters = means.index if len(own) else sorted(frame["letter"].unique())
    places = range(len(letters))
    for control, rows in frame[frame["control"] != "none"].groupby("control", sort=False):
        heights = rows.groupby("letter")["macro_f1"].mean().reindex(letters)
        marker = _MARKERS.get(control, "+")
        axes.plot(places, heights, marker, color=_COLOURS.get(control), label=_name(control), markersize=4, alpha=0.9)
    if len(own):
        dodged(axes, places, means, "macro_f1", fmt="o", color=BLUE, label=_name("none"), markersize=6, zorder=3)
    axes.set_xticks(places, [token_label(letter) for letter in letters])
    axes.set_xlabel("letter" if frame["task"].iat[0] != "length" else "at least so many letters")


def _by_layer(axes: Axes, frame: pd.DataFrame) -> None:
    summary = frame.interp.summary()
    for control, rows in summary.groupby("control", sort=False):
        style, mark = ("-", "o") if control == "none" else ("--", ".")
        colour = _COLOURS.get(str(control), "0.4")
        curve(axes, rows, "layer", "macro_f1", label=_name(str(control)), colour=colour, mark=mark, style=style)
    layer_axis(axes, summary["layer"])
    axes.set_xlabel("layer read (0: embedding, last: output of the last block)")


def _name(control: str) -> str:
    return _NAMES.get(control, worded(control))


@figure
def spelling(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw how often the right letter is the most probable one, by task, beside the control and guessing."""
    summary = frame.interp.summary()
    tasks = list(dict.fromkeys(summary["task"]))
    axes = canvas.one((5.2, 3.4))
    labels = {"none": "asked about the word itself", "length_matched": "asked about another word as long"}
    for shift, (control, label), colour, mark in zip((-0.1, 0.1), labels.items(), (BLUE, YELLOW), "os", strict=True):
        rows = summary[summary["control"] == control]
        places = [tasks.index(task) + shift for task in rows["task"]]
        dodged(axes, places, rows, "correct", fmt=mark, color=colour, label=label)
    for place, task in enumerate(tasks):
        chance = summary.loc[summary["task"] == task, "chance"].iat[0]
        axes.hlines(
            chance, place - 0.3, place + 0.3, color="0.5", linestyle=":", label="guessing" if place == 0 else ""
        )
    names = {"spelling": "the next letter", "membership": "a letter of the word"}
    axes.set_xticks(range(len(tasks)), [names.get(task, worded(task)) for task in tasks])
    axes.set_xlim(-0.5, len(tasks) - 0.5)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("right letter most probable")
    share_axis(axes)
    axes.legend(frameon=False, fontsize=8)
    canvas.title("letters of a word, asked in words")
    canvas.caption(over_prompts(summary, "correct", "bars").replace("prompts", "words").replace("prompt:", "word:"))
