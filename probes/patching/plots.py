"""Heat maps of patches: what each layer carries at each position, or in each head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from interp.authoring import InputError
from interp.display.plotting import GREY, LINES, MARKS, Canvas, figure, require_one, token_label
from probes.patching._frames import compared

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Value: TypeAlias = Literal["recovered", "effect"]
"""The colour's meaning: the share of the difference of both runs that a patch brings along, or its effect."""

_LABELS = {"recovered": "share of the difference recovered", "effect": "effect on the metric"}
_CONTROLS = {"none": "patched", "other": "control: unrelated prompt", "random": "control: random"}
_SITES = {
    "resid_pre": "residual entering",
    "resid_mid": "residual between",
    "resid_post": "residual leaving",
    "attn_out": "attention's output",
    "mlp_out": "MLP's output",
    "norm1": "what attention reads",
    "norm2": "what the MLP reads",
    "neurons_pre": "neurons, before activation",
    "neurons": "neurons",
    "router": "router",
    "q": "queries",
    "k": "keys",
    "v": "values",
    "scores": "attention scores",
    "pattern": "attention patterns",
    "z": "what heads mixed",
    "head_out": "what heads write",
}
_CELL, _WIDEST = 0.34, 8.0
_MOST = 40  # columns that can be told apart


@figure
def patches(frame: pd.DataFrame, canvas: Canvas, *, value: Value | None = None) -> None:
    """Draw layers x positions (x heads, where a site has them): a row of panels per site, a column per control.

    Several prompts are averaged: by position from the end, as the next token is read at the last one.

    Args:
        frame: of `patch`.
        canvas: to draw on.
        value: what the colour shows; by default the share recovered, if it is known.
    """
    require_one(frame, "run_id")
    shown: str = value or ("recovered" if frame["recovered"].notna().any() else "effect")
    if frame[shown].isna().all():
        raise InputError(f"value={shown!r}: clean and corrupt run have the same metric, so nothing is known of it.")
    sites, controls = list(dict.fromkeys(frame["site"])), list(dict.fromkeys(frame["control"]))
    n_layers = int(frame["layer"].max() - frame["layer"].min()) + 1
    columns = {site: _columns(frame[frame["site"] == site]) for site in sites}
    widest = max(len(labels) for _, labels in columns.values())
    size = (
        min(_WIDEST, 1.6 + len(controls) * max(1.5, _CELL * widest)),
        0.9 + len(sites) * (0.75 + max(0.9, min(_CELL, 4.2 / n_layers) * n_layers)),
    )
    grid = canvas.grid(len(sites), len(controls), size)
    limit = _limit(frame, shown)
    empty = False
    for number, (row, site) in enumerate(zip(grid, sites, strict=True)):
        column, labels = columns[site]
        for axes, control in zip(row, controls, strict=True):
            rows = frame[(frame["site"] == site) & (frame["control"] == control)]
            image = _heat(axes, rows, column, labels, shown, limit)
            empty |= bool(np.isnan(image.get_array()).any())
            if not number:
                axes.set_title(_CONTROLS[control], fontsize=9)
        row[0].set_ylabel(f"{_SITES.get(site, site)}\nblock", fontsize=9)
        row[len(row) // 2].set_xlabel(_AXES[column], fontsize=9)
    canvas.title(f"what a patch brings along, {_prompts(frame)}")
    canvas.colour_bar(image, _LABELS[shown], fraction=0.04, pad=0.01, aspect=30)
    tokens = frame["target"].dropna().unique()
    canvas.caption(
        _averaged(frame) + ": no interval",
        f"next token asked for: {token_label(tokens[0], 20)}" if len(tokens) == 1 else "",
        "grey: not measured" if empty else "",
    )


_AXES = {"pos": "position", "to_end": "tokens behind it", "head": "head", "all": "all positions together"}


def _columns(rows: pd.DataFrame) -> tuple[str, dict[int, str]]:
    """Return the column that a site's panels run over, and the label of each of its values."""
    if rows["head"].notna().any() and rows["to_end"].nunique() <= 1:
        return "head", {int(head): str(head) for head in sorted(rows["head"].dropna().unique())}
    if rows["to_end"].isna().all():
        return "all", {0: ""}
    one = rows.drop_duplicates(["prompt_id", "to_end"]).dropna(subset="to_end")
    if one["prompt_id"].nunique() == 1:
        one = one.sort_values("pos")
        return "pos", {int(pos): _token(*pair) for pos, *pair in one[["pos", "token", "corrupt_token"]].to_numpy()}
    return "to_end", {int(place): str(place) for place in sorted(one["to_end"].unique(), reverse=True)}


def _token(clean: str, corrupt: object) -> str:
    """Label a position by its token, or by both where they differ."""
    if not isinstance(corrupt, str) or corrupt == clean:
        return token_label(clean)
    return f"{token_label(clean)} / {token_label(corrupt)}"


def _heat(axes: Axes, rows: pd.DataFrame, column: str, labels: dict[int, str], shown: str, limit: float) -> Any:
    """Draw one panel; heads are averaged over where positions are the columns."""
    rows = rows.assign(all=0)
    table = rows.astype({column: "int64"}).pivot_table(index="layer", columns=column, values=shown, aggfunc="mean")
    layers = range(int(rows["layer"].min()), int(rows["layer"].max()) + 1)
    cells = table.reindex(index=layers, columns=list(labels)).to_numpy(dtype=float)
    image = axes.imshow(cells, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto", origin="lower")
    axes.set_facecolor("0.85")
    step = -(-len(labels) // _MOST)
    angle: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if column == "pos" else {}
    axes.set_xticks(range(0, len(labels), step), list(labels.values())[::step], fontsize=7, **angle)
    ticks = range(0, len(layers), -(-len(layers) // 10))
    axes.set_yticks(ticks, [str(layers[tick]) for tick in ticks], fontsize=7.5)
    return image


def _limit(frame: pd.DataFrame, shown: str) -> float:
    """Return the value of the deepest colour: 1 for a share, or what the largest effect needs."""
    largest = float(np.nanmax(np.abs(frame.loc[frame["control"] == "none", shown].to_numpy(dtype=float)), initial=0.0))
    return 1.0 if shown == "recovered" else max(largest, 1e-6)


def _prompts(frame: pd.DataFrame) -> str:
    numbers = frame["prompt_id"].unique()
    return f"prompt {numbers[0]}" if len(numbers) == 1 else f"mean of {len(numbers)} prompts"


def _averaged(frame: pd.DataFrame) -> str:
    n = frame["prompt_id"].nunique()
    return "one prompt" if n == 1 else f"means over {n} prompts"


_METHODS = {"gradient": "gradient in the patched run", "path": "mean gradient along the path"}


@figure
def estimates(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the estimate of every place that was patched too against its effect, a panel per method, a colour per site.

    Args:
        frame: of `attribution_patch`.
        canvas: to draw on.
    """
    require_one(frame, "run_id")
    known = compared(frame)
    methods = list(dict.fromkeys(known["method"]))
    grid = canvas.grid(1, len(methods), (1.0 + 3.6 * len(methods), 3.9))
    summary = frame.interp.summary()
    summary = summary[summary["control"] == "none"].set_index("method")
    sites = list(dict.fromkeys(known["site"]))
    for axes, method in zip(grid[0], methods, strict=True):
        rows = known[known["method"] == method]
        random = rows[rows["control"] == "random"]
        axes.plot(random["effect"], random["estimate"], ".", color=GREY, markersize=3, label="control: random gradient")
        for index, site in enumerate(sites):
            one = rows[(rows["site"] == site) & (rows["control"] == "none")]
            look = {"color": LINES[index % len(LINES)], "markersize": 3.5, "alpha": 0.8}
            axes.plot(one["effect"], one["estimate"], MARKS[index % len(MARKS)], label=_SITES.get(site, site), **look)
        ends = [float(end(rows["effect"])) for end in (np.min, np.max)]
        axes.plot(ends, ends, "-", color="black", linewidth=0.8, label="equal")
        found = summary.loc[method]
        axes.set_title(f"{_METHODS[method]}\nrank correlation {found['spearman']:.2f}", fontsize=9)
        axes.set_xlabel("effect of the patch", fontsize=9)
        axes.grid(alpha=0.25)
    grid[0, 0].set_ylabel("estimate", fontsize=9)
    canvas.title("what one backward pass says of each patch")
    canvas.legend(grid[0, 0])
    low, high = summary["spearman_low"], summary["spearman_high"]
    intervals = "; ".join(
        f"{method} {low[method]:.2f} to {high[method]:.2f}" for method in methods if pd.notna(low[method])
    )
    n = known["prompt_id"].nunique()
    several = f"rank correlation, 95 % bootstrap over {n} prompts: {intervals}"
    canvas.caption(several if intervals else f"{_averaged(known)}: no interval")
