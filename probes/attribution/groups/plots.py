"""Figures of grouped scores: the groups of one prompt, or what named groups have over prompts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.display.interactive import Page
from interp.display.plotting import (
    BLACK,
    BLUE,
    GREEN,
    PINK,
    RED,
    SKY,
    Canvas,
    dodged,
    figure,
    over_prompts,
    share_axis,
    token_label,
    worded,
)
from probes.attribution.plots import draw_scores, explore_attribution

_COLOURS = (BLUE, RED, GREEN, PINK, SKY, BLACK)
_MARKERS = "osD^vP"
_UNNAMED = ("word", "sentence")


@figure
def group_attribution(frame: pd.DataFrame, canvas: Canvas, *, target: int = 0) -> None:
    """Draw the share of the scores that groups of each name have over prompts, beside their share of the tokens.

    Of a single prompt, and of words and sentences, which are other ones in every prompt, draw the scores of the groups
    of one prompt and target, as the figure of `attribute` does.

    Args:
        frame: of `group_attribution`.
        canvas: to draw on.
        target: number of the prompt's target, from 0, where one prompt is drawn.
    """
    if frame["prompt_id"].nunique() < 2 or frame["group_name"].isin(_UNNAMED).any():
        named = ~frame["group_name"].isin((*_UNNAMED, "rest"))
        draw_scores(
            _as_tokens(frame.assign(text=frame["group_name"].where(named, frame["text"]))), canvas, target, "groups"
        )
    else:
        _draw_shares(frame, canvas)


def _draw_shares(frame: pd.DataFrame, canvas: Canvas) -> None:
    summary = frame.interp.summary()
    names = sorted(dict.fromkeys(frame.loc[frame["first_pos"] > 0, "group_name"]), key=lambda name: name == "rest")
    methods = list(dict.fromkeys(frame["method"]))
    axes = canvas.one((6.8, 1.7 + 0.28 * len(names) * max(2, len(methods))))
    step = 0.7 / max(1, len(methods))
    for number, method in enumerate(methods):
        rows = summary[summary["method"] == method].set_index("group_name").reindex(names)
        offset = step * (number - (len(methods) - 1) / 2)
        look = {"color": "0.45" if method == "random" else _COLOURS[number % len(_COLOURS)]}
        places = np.arange(len(names)) + offset
        dodged(axes, places, rows, "share", across=True, label=worded(str(method)), fmt=_MARKERS[number % 6], **look)
    tokens = summary.groupby("group_name")["share_of_tokens"].mean().reindex(names)
    for place, share in enumerate(tokens):
        label = "share of the tokens" if place == 0 else None
        axes.plot([share, share], [place - 0.4, place + 0.4], color="0.2", linestyle=":", label=label)
    axes.set_yticks(range(len(names)), [token_label(str(name), 24) for name in names], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    share_axis(axes, across=True)
    axes.set_xlabel("share of the absolute scores", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    canvas.title("shares of the scores, by group")
    canvas.legend(axes)
    canvas.caption(over_prompts(summary, "share", "bars") + "; the group at position 0 is left out")


def explore_groups(frame: pd.DataFrame) -> Page:
    """Return a frame of `group_attribution` as strips of groups, coloured by their score."""
    return explore_attribution(_as_tokens(frame))


def _as_tokens(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(columns={"first_pos": "pos", "text": "token"})
