"""Figures of texts cut otherwise: by layer, by scheme and by share of changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.display.plotting import (
    BLUE,
    GREEN,
    GREY,
    LINES,
    PINK,
    RED,
    Canvas,
    curve,
    dodged,
    figure,
    layer_axis,
    over_prompts,
    require_one,
    share_axis,
    worded,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CONTROLS = {"none": ("-", "o"), "random_token": (":", "s")}


@figure
def retokenisation(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw how near states of texts cut otherwise are to the texts' own by layer, and what the cut changes after."""
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    left, right = canvas.grid(1, 2, (8.6, 3.4))[0]
    schemes = [one for one in summary["scheme"].unique() if one != "canonical"]
    for place, (scheme, colour) in enumerate(zip(schemes, _colours(len(schemes)), strict=True)):
        for control, (line, mark) in _CONTROLS.items():
            rows = summary[(summary["scheme"] == scheme) & (summary["control"] == control)]
            name = worded(scheme) if control == "none" else ""
            curve(left, rows, "layer", "cosine_last", label=name, colour=colour, mark="", style=line)
            shift = -0.1 if control == "none" else 0.1
            dodged(right, [place + shift], rows.tail(1), "kl", fmt=mark, color=colour)
    layer_axis(left, summary["layer"])
    left.set_ylabel("cosine with the prompt's own last state")
    left.legend(frameon=False, fontsize=8)
    right.set_xticks(range(len(schemes)), map(worded, schemes), fontsize=8)
    right.set_xlim(-0.5, len(schemes) - 0.5)
    right.set_ylabel("divergence of the next token (nats)")
    right.set_ylim(bottom=0)
    canvas.title("the same text in other tokens")
    canvas.caption(
        "dotted, squares: control, random tokens at the same places", over_prompts(summary, "kl", "bands and bars")
    )


@figure
def word_states(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw by layer how often a split word is nearer to itself than to other words, and both cosines."""
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    left, right = canvas.grid(1, 2, (8.6, 3.4))[0]
    schemes = list(summary["scheme"].unique())
    for scheme, colour in zip(schemes, _colours(len(schemes)), strict=True):
        rows = summary[summary["scheme"] == scheme]
        curve(left, rows, "layer", "auroc", label=worded(scheme), colour=colour, mark="")
        curve(right, rows, "layer", "cosine", label=f"{worded(scheme)}: itself", colour=colour, mark="")
        curve(right, rows, "layer", "cosine_between", label="control: other words", colour=colour, mark="", style=":")
    left.axhline(0.5, color=GREY, linewidth=0.8, label="chance")
    left.set_ylabel("share of other words that are farther")
    share_axis(left)
    right.set_ylabel("cosine of states at the word's end")
    for axes in (left, right):
        layer_axis(axes, summary["layer"])
        axes.legend(frameon=False, fontsize=8)
    canvas.title("when a word that was split is the word again")
    canvas.caption(over_prompts(summary, "auroc").replace("prompt", "word"))


@figure
def perturbation(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw what changes in the first half of a text cost its clean second half."""
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    axes = canvas.one((6.0, 3.4))
    schemes = list(summary["scheme"].unique())
    for scheme, colour in zip(schemes, _colours(len(schemes)), strict=True):
        for control, (line, mark) in _CONTROLS.items():
            rows = summary[(summary["scheme"] == scheme) & (summary["control"] == control)]
            label = scheme if control == "none" else f"control: random tokens for {scheme}"
            curve(axes, rows, "p", "lost", label=label, colour=colour, mark=mark, style=line)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel("share of letters, or of groups of them, that were changed")
    share_axis(axes, across=True)
    axes.set_ylabel("more loss of the clean half (nats per byte)")
    axes.legend(frameon=False, fontsize=8)
    canvas.title("what typing errors cost the text behind them")
    canvas.caption(over_prompts(summary, "lost"))


@figure
def written_tokens(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw how many samples the tokenizer would write in the same tokens, and how the others differ first."""
    require_one(frame, "run_id")
    axes = canvas.one((5.0, 3.0))
    kinds = {"none": ("as the tokenizer", BLUE), "split": ("split", RED), "merge": ("merged", GREEN)}
    kinds |= {"n→m": ("several for several", PINK)}
    counts = frame["kind"].value_counts()
    shares = [counts.get(kind, 0) / len(frame) for kind in kinds]
    bars = axes.bar(range(len(kinds)), shares, color=[colour for _, colour in kinds.values()])
    axes.bar_label(bars, [f"{share:.1%}" for share in shares], fontsize=8)
    axes.set_xticks(range(len(kinds)), [name for name, _ in kinds.values()], fontsize=8)
    axes.set_ylabel("share of samples")
    axes.set_ylim(0, 1.1)
    share_axis(axes)
    canvas.title("in which tokens the model writes")
    canvas.caption(f"{len(frame)} samples, by their first difference: no interval")


@figure
def compositionality(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw how near tokens' rows are to the sums of their parts', beside random parts."""
    require_one(frame, "run_id")
    axes = canvas.one((6.0, 3.4))
    names = {"none": "its parts", "same_first": "control: the first alone", "random_parts": "control: random parts"}
    for (control, name), colour in zip(names.items(), (BLUE, GREEN, GREY), strict=True):
        values = frame[frame["control"] == control]["cosine"]
        _steps(axes, values, f"{name}, mean {values.mean():.3f}", colour)
    axes.set_xlabel("cosine with the sum of two rows, without the mean row")
    axes.set_ylabel("tokens")
    axes.legend(frameon=False, fontsize=8)
    canvas.title("whether a token's row is the sum of its parts'")
    canvas.caption(f"{(frame['control'] == 'none').sum():,} tokens that two others spell", "no interval")


def _colours(n: int) -> list[str]:
    """Return a colour for each of several schemes."""
    return [LINES[place % len(LINES)] for place in range(n)]


def _steps(axes: Axes, values: pd.Series, label: str, colour: str) -> None:
    """Draw a histogram's outline over the range of cosines."""
    axes.hist(values, bins=[n / 25 for n in range(-25, 26)], histtype="step", color=colour, label=label)
