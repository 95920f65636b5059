"""Figures of texts cut otherwise: by layer, by scheme and by share of changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.display.plotting import BLUE, GREEN, GREY, LINES, PINK, RED, new_figure, new_grid, require_one

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CONTROLS = {"none": "-", "random_token": ":"}


def retokenisation(frame: pd.DataFrame) -> Figure:
    """Draw how near the states of texts cut otherwise are to the texts' own, by layer, and what the cut changes after.

    Args:
        frame: of `retokenisation`, one model.
    """
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    figure, (left, right) = _two_axes()
    schemes = [one for one in summary["scheme"].unique() if one != "canonical"]
    for place, (scheme, colour) in enumerate(zip(schemes, LINES, strict=False)):
        for control, line in _CONTROLS.items():
            rows = summary[(summary["scheme"] == scheme) & (summary["control"] == control)]
            left.plot(rows["layer"], rows["cosine_last"], line, color=colour, label=scheme if control == "none" else "")
            left.fill_between(
                rows["layer"], rows["cosine_last_low"], rows["cosine_last_high"], color=colour, alpha=0.1, linewidth=0
            )
            _mark(right, place, rows.iloc[-1], "kl", colour, filled=control == "none")
    left.set_xlabel("layer")
    left.set_ylabel("cosine with the prompt's own last state")
    left.legend(frameon=False, fontsize=8)
    right.set_xticks(range(len(schemes)), schemes, fontsize=8)
    right.set_ylabel("KL of the next token (nats)")
    right.set_ylim(bottom=0)
    figure.suptitle(
        f"{frame['model'].iat[0]}: the same text in other tokens; dotted, open: random tokens there; 95 % over prompts",
        fontsize=10,
    )
    return figure


def _two_axes() -> tuple[Figure, tuple[Axes, Axes]]:
    figure, grid = new_grid(1, 2, (8.6, 3.4))
    return figure, (grid[0, 0], grid[0, 1])


def _mark(axes: Axes, place: float, row: pd.Series, value: str, colour: str, *, filled: bool) -> None:
    """Draw a mean and its interval; open for a control."""
    at = place - 0.08 if filled else place + 0.08
    spread = [[row[value] - row[f"{value}_low"]], [row[f"{value}_high"] - row[value]]]
    axes.errorbar([at], [row[value]], spread, fmt="o", color=colour, mfc=colour if filled else "white", capsize=3)


def word_states(frame: pd.DataFrame) -> Figure:
    """Draw by layer how often a split word is nearer to itself than to other words, and both cosines.

    Args:
        frame: of `word_states`, one model.
    """
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    figure, (left, right) = _two_axes()
    for scheme, colour in zip(summary["scheme"].unique(), LINES, strict=False):
        rows = summary[summary["scheme"] == scheme]
        left.plot(rows["layer"], rows["auroc"], color=colour, label=scheme)
        left.fill_between(rows["layer"], rows["auroc_low"], rows["auroc_high"], color=colour, alpha=0.15, linewidth=0)
        right.plot(rows["layer"], rows["cosine"], color=colour, label=f"{scheme}: itself")
        right.plot(rows["layer"], rows["cosine_between"], ":", color=colour, label="other words")
    left.axhline(0.5, color=GREY, linewidth=0.8)
    left.set_ylabel("share of other words that are farther")
    right.set_ylabel("cosine of states at the word's end")
    for axes in (left, right):
        axes.set_xlabel("layer")
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{frame['model'].iat[0]}: when a split word is the word again; 95 % over words", fontsize=10)
    return figure


def perturbation(frame: pd.DataFrame) -> Figure:
    """Draw what changes in the first half of a text cost its clean second half.

    Args:
        frame: of `perturbation`, one model.
    """
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    figure, axes = new_figure((6.0, 3.4))
    for scheme, colour in zip(summary["scheme"].unique(), LINES, strict=False):
        for control, line in _CONTROLS.items():
            rows = summary[(summary["scheme"] == scheme) & (summary["control"] == control)].sort_values("p")
            label = scheme if control == "none" else f"random tokens for {scheme}"
            axes.plot(rows["p"], rows["lost"], line, marker="o", markersize=4, color=colour, label=label)
            axes.fill_between(rows["p"], rows["lost_low"], rows["lost_high"], color=colour, alpha=0.1, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel("share of letters, or groups of them, that were changed")
    axes.set_ylabel("loss of the clean half (nats per byte more)")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(f"{frame['model'].iat[0]}: 95 % over prompts", fontsize=10)
    return figure


def written_tokens(frame: pd.DataFrame) -> Figure:
    """Draw how many samples the tokenizer would write in the same tokens, and how the others differ first.

    Args:
        frame: of `written_tokens`, one model.
    """
    require_one(frame, "run_id")
    figure, axes = new_figure((5.0, 3.0))
    kinds = [("none", BLUE), ("split", RED), ("merge", GREEN), ("n→m", PINK)]
    counts = frame["kind"].value_counts()
    shares = [counts.get(kind, 0) / len(frame) for kind, _ in kinds]
    bars = axes.bar(range(len(kinds)), shares, color=[colour for _, colour in kinds])
    axes.bar_label(bars, [f"{share:.1%}" for share in shares], fontsize=8)
    axes.set_xticks(range(len(kinds)), ["as the tokenizer", "split", "merged", "n→m"])
    axes.set_ylabel("share of samples")
    axes.set_ylim(0, 1.1)
    axes.set_title(f"{frame['model'].iat[0]}: {len(frame)} samples, by their first difference", fontsize=10)
    return figure


def compositionality(frame: pd.DataFrame) -> Figure:
    """Draw how near tokens' rows are to the sums of their parts', beside random parts.

    Args:
        frame: of `compositionality`, one model.
    """
    require_one(frame, "run_id")
    figure, axes = new_figure((6.0, 3.4))
    names = {"none": "its parts", "same_first": "the first is its part", "random_parts": "random parts"}
    for (control, name), colour in zip(names.items(), (BLUE, GREEN, GREY), strict=True):
        values = frame[frame["control"] == control]["cosine"]
        axes.hist(
            values,
            bins=[n / 25 for n in range(-25, 26)],
            histtype="step",
            color=colour,
            label=f"{name}: {values.mean():.3f}",
        )
    axes.set_xlabel("cosine with the sum of two rows, without the mean row")
    axes.set_ylabel("tokens")
    axes.legend(frameon=False, fontsize=8, title="mean", title_fontsize=8)
    axes.set_title(
        f"{frame['model'].iat[0]}: {(frame['control'] == 'none').sum():,} tokens that two others spell", fontsize=10
    )
    return figure
