"""Figures of attributions (and a page of them), of their faithfulness, and of the replacements they are found by."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.authoring import InputError
from interp.display.interactive import Page, Strip, Strips, explorer
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
    one_prompt,
    over_prompts,
    require_one,
    share_axis,
    token_label,
    worded,
)
from interp.stats import bootstrap_over_prompts
from probes.attribution._targets import target_key

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TOKENS_PER_LINE = 18
_MAX_LINES = 6
_CELL_INCHES = (0.56, 0.3)


@figure
def attribution(frame: pd.DataFrame, canvas: Canvas, *, target: int = 0) -> None:
    """Draw the scores of one prompt and target: a row per method (and layer), a column per token, wrapped like text.

    Scores are percentages of the largest absolute score in their row. Position 0 often holds a start-of-text token
    whose score dwarfs the rest: it does not set the scale, and its colour saturates.

    Args:
        frame: of `attribute` or of one method.
        canvas: to draw on.
        target: number of the prompt's target, from 0, in the order of the frame.
    """
    draw_scores(frame, canvas, target, "tokens")


def draw_scores(frame: pd.DataFrame, canvas: Canvas, target: int, units: str) -> None:
    """Draw the scores of one prompt and target, whose `token` at each `pos` is of these units."""
    one = _one_target(one_prompt(frame), target)
    table = one.pivot(index="row", columns="pos", values="score").reindex(one["row"].unique())
    n_lines = canvas.offered or -(-table.shape[1] // _TOKENS_PER_LINE)
    per_line = -(-table.shape[1] // n_lines)
    most = canvas.offered or _MAX_LINES
    lines = [table.iloc[:, start : start + per_line] for start in range(0, table.shape[1], per_line)][:most]
    tokens = one.drop_duplicates("pos").set_index("pos")["token"]
    shares = 100 * table.div(_scale(table), axis=0)
    widest = lines[0].shape[1]
    size = (2.9 + _CELL_INCHES[0] * widest, 0.9 + len(lines) * (0.75 + _CELL_INCHES[1] * len(table)))
    panels = canvas.grid(len(lines), 1, size)
    for axes, line in zip(panels[:, 0], lines, strict=True):
        cells = shares[line.columns].to_numpy()
        image = axes.imshow(cells, cmap="PuOr", vmin=-100, vmax=100, aspect="auto")
        for (y, x), share in np.ndenumerate(cells):
            # PuOr is dark at both ends, so numbers are white there and black between.
            axes.text(x, y, f"{round(share)}", ha="center", va="center", fontsize=6.5, color=_ink(share))
        axes.set_xlim(-0.5, widest - 0.5)
        axes.spines[:].set_visible(False)
        names = [token_label(text) for text in tokens.reindex(line.columns)]
        axes.set_xticks(range(len(names)), names, fontsize=8, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(table)), [worded(row) for row in table.index], fontsize=8)
    first = one.iloc[0]
    canvas.title(f"scores of {units} for {_asked(first, partial(token_label, width=20))}, prompt {first['prompt_id']}")
    canvas.colour_bar(image, "score, % of the row's largest", fraction=0.05, pad=0.01, aspect=15)
    n_shown = sum(line.shape[1] for line in lines)
    canvas.caption(
        f"the first {n_shown} of {table.shape[1]} {units}" if n_shown < table.shape[1] else "",
        "one prompt and target: no interval; position 0 does not set the scale",
    )


def _one_target(one: pd.DataFrame, target: int) -> pd.DataFrame:
    key = target_key(one)
    targets = one[key].drop_duplicates().reset_index(drop=True)
    if not 0 <= target < len(targets):
        raise InputError(f"target {target} is not in the frame: this prompt has {len(targets)}; count from 0.")
    chosen = one.merge(targets.iloc[[target]], on=key)
    layered = "layer" in chosen.columns and chosen["layer"].nunique() > 1
    row = chosen["method"] + (" at layer " + chosen["layer"].astype(str) if layered else "")
    again = chosen.assign(row=row).duplicated(["row", "pos"])
    if again.any():
        raise InputError(f"the frame holds {row[again].iat[0]!r} more than once; select one run by its run_id.")
    return chosen.assign(row=row)


def _asked(first: pd.Series, label: Callable[[str], str] = str) -> str:
    """Return what a row's scores explain: its target, and the token that it is contrasted with."""
    against = first.get("against")
    contrast = "" if against is None or pd.isna(against) else f" and not “{label(str(against))}”"
    return f"“{label(str(first['target']))}”{contrast} after position {first['target_pos']}"


def _scale(table: pd.DataFrame) -> pd.Series:
    """Return the largest absolute score of each row after position 0; 1 if all are 0."""
    later = table.loc[:, table.columns > 0] if (table.columns > 0).any() else table
    largest = later.abs().max(axis=1)
    return largest.where(largest > 0, 1.0)


def _ink(share: float) -> str:
    return "white" if abs(share) > 55 else "black"


_MOST_STRIPS = 200  # prompts and targets


def explore_attribution(frame: pd.DataFrame) -> Page:
    """Return a frame of `attribute` or of one method as strips of tokens, coloured by their score."""
    require_one(frame, "model")
    targets = list(frame.groupby(["prompt_id", *target_key(frame)], sort=False, dropna=False))
    items = [_strips(rows) for _, rows in targets[:_MOST_STRIPS]]
    note = "Blue: for the target, vermilion: against it, or for the token that it is contrasted with. "
    note += "Position 0 does not set a strip's scale."
    if len(items) < len(targets):
        note += f" The first {len(items)} of {len(targets)} targets."
    return explorer(f"{frame['model'].iat[0]}: scores of tokens", items, note)


def _strips(rows: pd.DataFrame) -> Strips:
    first = rows.iloc[0]
    keys = ["method", *(["layer"] if "layer" in rows and rows["layer"].nunique() > 1 else []), "run_id"]
    strips = []
    for key, one in rows.groupby(keys, sort=False):
        one = one.sort_values("pos")
        later = one.loc[one["pos"] > 0, "score"].abs().max() if (one["pos"] > 0).any() else one["score"].abs().max()
        layer = f" at layer {key[1]}" if len(key) > 2 else ""
        scores = one["score"].astype(float).tolist()
        hints = [
            [f"“{token}” (position {pos})", f"score {score:.4g}"]
            for token, pos, score in zip(one["token"], one["pos"], scores, strict=True)
        ]
        limit = float(later) if later > 0 else 1.0
        strips.append(Strip(worded(str(key[0])) + layer, one["token"].tolist(), scores, hints, limit))
    return Strips(f"prompt {first['prompt_id']}: {_asked(first)}", strips)


# Okabe & Ito's colours, which colour-blind readers can distinguish, each with a marker for black-and-white print.
_COLOURS = (BLUE, RED, GREEN, PINK, SKY, YELLOW, BLACK)
_MARKERS = "osD^vP*"

_PANELS = {
    "comprehensiveness": ("most important tokens removed", "higher is better"),
    "sufficiency": ("only the most important tokens kept", "lower is better"),
}


@figure
def faithfulness(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the fall of the target's probability against the share of tokens removed, or kept: a line per method.

    Of contrasts it is the fall of the logit difference.

    Lines are means over prompts, with 95 % bootstrap bars side by side. Scores that do not use the model are grey:
    shuffled scores dashed with a band, the method "random" dotted.

    Args:
        frame: of `faithfulness`, with "comprehensiveness" or "sufficiency" among its metrics.
        canvas: to draw on.
    """
    shown = [metric for metric in _PANELS if (frame["metric"] == metric).any()]
    if not shown:
        raise InputError(
            f"deletion curves need metric 'comprehensiveness' or 'sufficiency', but the frame has only "
            f"{frame['metric'].unique().tolist()}; measure one of them."
        )
    measured = frame[frame["control"] != "permuted"]
    grid = canvas.grid(1, len(shown), (2.0 + 4.4 * len(shown), 4.0))
    for axes, metric in zip(grid[0], shown, strict=True):
        drawn = _draw(axes, measured[measured["metric"] == metric])
        axes.set_title(f"{metric}: {_PANELS[metric][1]}", fontsize=10)
        axes.set_xlabel(f"share of tokens, {_PANELS[metric][0]}", fontsize=9)
        share_axis(axes, across=True)
    fall = "logit difference (nats)" if "against_id" in target_key(frame) else "target's probability"
    grid[0, 0].set_ylabel(f"fall of the {fall}", fontsize=9)
    canvas.title("deletion curves")
    canvas.legend(grid[0, -1])
    canvas.caption(over_prompts(drawn, "value", "bars and band") + "; bars are drawn side by side to be seen")


def _draw(axes: Axes, rows: pd.DataFrame) -> pd.DataFrame:
    curves = bootstrap_over_prompts(rows, ["method", "fraction"], ["value"])
    methods = [method for method in rows["method"].unique() if method != "random"]
    methods += ["random"] * bool((rows["method"] == "random").any())
    step = 0.6 * float(np.diff(np.sort(rows["fraction"].unique())).min(initial=0.1)) / max(1, len(methods) - 1)
    for number, method in enumerate(methods):
        one = curves[curves["method"] == method]
        places = one["fraction"] + step * (number - (len(methods) - 1) / 2)
        style = "-" if number < len(_COLOURS) else "-."
        look: dict[str, Any] = {
            "color": _COLOURS[number % len(_COLOURS)],
            "fmt": style + _MARKERS[number % len(_MARKERS)],
        }
        if method == "random":
            look = {"color": "0.45", "fmt": ":"}
        dodged(axes, places, one, "value", label=worded(str(method)), elinewidth=0.8, capsize=1.5, **look)
    chance = bootstrap_over_prompts(rows, ["fraction"], ["value_random"])
    curve(axes, chance, "fraction", "value_random", label="shuffled scores", colour="0.45", mark="", style="--")
    axes.axhline(0.0, color="0.8", linewidth=0.8, zorder=0)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return curves


_MOST_TARGETS = 24


@figure
def reagent_probes(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw how probable each target is with the replacements of every probe (left), and after how many steps (right).

    A black line is the target's probability in the intact prompt; a hollow point has not converged.
    """
    targets = list(frame.groupby(["prompt_id", "target_pos", "target_id"], sort=False))
    shown = targets[:_MOST_TARGETS]
    left, right = canvas.grid(1, 2, (8.6, 1.4 + 0.3 * len(shown)), sharey=True)[0]
    heights = list(range(len(shown)))[::-1]
    for height, (_, rows) in zip(heights, shown, strict=True):
        left.plot(rows["prob_intact"].iloc[:1], [height], "|", color=BLACK, markersize=14, label="_intact")
        for axes, value in ((left, "prob_kept"), (right, "stop_step")):
            for converged, face in ((True, BLUE), (False, "none")):
                some = rows.loc[rows["converged"] == converged, value]
                axes.plot(some, [height] * len(some), "o", color=BLUE, markerfacecolor=face, alpha=0.5, markersize=4)
    names = [f"prompt {key[0]} “{token_label(str(rows['target'].iat[0]))}”" for key, rows in shown]
    left.set_yticks(heights, names, fontsize=8)
    left.set_ylim(-0.6, len(shown) - 0.4)
    left.set_xlabel("probability of the target (line: intact prompt)", fontsize=9)
    right.set_xlabel("step at which the probe stopped", fontsize=9)
    for axes in (left, right):
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25)
    canvas.title("the target, where replaced tokens were found not to matter")
    canvas.caption(
        "every point is one probe, all are drawn: no interval",
        "hollow: not converged" if not frame["converged"].all() else "",
        f"the first {len(shown)} of {len(targets)} targets" if len(shown) < len(targets) else "",
    )
