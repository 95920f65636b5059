"""Figures of the vocabulary: indicators of token health, and the probability of a token that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.authoring import InputError
from interp.display.plotting import BLUE, GREY, RED, new_figure, new_grid, require_one, token_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LISTED = 24
_FONT = "monospace"
_WIDEST = 26  # characters of a token in a table


def token_health(frame: pd.DataFrame) -> Figure:
    """Draw the deciding indicator of ordinary and other tokens, and list the tokens that are worst by it.

    Args:
        frame: of `token_health`, one model.
    """
    require_one(frame, "run_id")
    name = next((name for name in ("direction", "ceiling", "norm") if frame[name].notna().any()), None)
    if name is None:
        raise InputError("the frame holds no indicator to draw.")
    figure, grid = new_grid(1, 2, (9.6, 4.4))
    axes = grid[0, 0]
    ordinary, candidate = frame["category"] == "ok", frame["is_candidate"]
    edges = np.histogram_bin_edges(frame[name].replace(-np.inf, np.nan).dropna(), bins=60)
    for rows, colour, label in (
        (ordinary & ~candidate, BLUE, "ordinary tokens"),
        (candidate, RED, "candidates"),
        (~ordinary, GREY, "special, unreachable, pieces"),
    ):
        axes.hist(frame.loc[rows, name], bins=edges, histtype="stepfilled", alpha=0.6, color=colour, label=label)
    axes.set_yscale("log")
    axes.set_xlabel(f"{name} (low is suspicious)")
    axes.set_ylabel("tokens")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(frame["model"].iat[0], fontsize=10)
    _list(grid[0, 1], _worst(frame[candidate].nsmallest(_LISTED, name), name, "9.4f"))
    return figure


def _worst(frame: pd.DataFrame, name: str, format: str) -> list[str]:
    """Return a table's lines: the value, what kind of token it is, its script, and its text with visible escapes."""
    labels = [token_label(token, _WIDEST, family=_FONT) for token in frame["token"]]
    rows = zip(frame[name], frame["category"], frame["script"].replace("", "–"), labels, strict=True)
    n = len(f"{0.0:{format}}")
    return [
        f"{name:>{n}}  {'category':<11} {'script':<10} token",
        *(f"{value:{format}}  {kind:<11} {script:<10} {label}" for value, kind, script, label in rows),
    ]


def _list(axes: Axes, lines: list[str]) -> None:
    axes.axis("off")
    axes.text(0, 1, "\n".join(lines), family=_FONT, fontsize=7.5, va="top", transform=axes.transAxes)


def token_repetition(frame: pd.DataFrame) -> Figure:
    """Draw each token's largest probability by its direction, and list the candidates that are least probable.

    Args:
        frame: of `token_repetition`, one model.
    """
    require_one(frame, "run_id")
    best = frame.sort_values("log_prob").groupby(["control", "token_id"], sort=False).tail(1)
    figure, grid = new_grid(1, 2, (9.6, 4.4))
    axes = grid[0, 0]
    for control, colour, label in (
        ("frequent", GREY, "frequent tokens"),
        ("random", BLUE, "random tokens"),
        ("none", RED, "candidates"),
    ):
        rows = best[best["control"] == control]
        axes.scatter(rows["direction"], rows["log_prob"] / np.log(10), s=9, color=colour, label=label, alpha=0.7)
    for log10 in (-3, -2, -1):
        axes.axhline(log10, color=GREY, linewidth=0.6, linestyle=":")
    axes.set_xlabel("direction (low is suspicious)")
    axes.set_ylabel("largest probability (log10)")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(frame["model"].iat[0], fontsize=10)
    worst = best[best["control"] == "none"].nsmallest(_LISTED, "log_prob")
    _list(grid[0, 1], _worst(worst, "prob", "9.1e"))
    return figure


def first_tokens(frame: pd.DataFrame) -> Figure:
    """Draw how probable the continuation of every first token is, and list what follows the best of them.

    Args:
        frame: of `first_tokens`, one model.
    """
    require_one(frame, "run_id")
    figure, grid = new_grid(1, 2, (9.6, 4.4))
    axes = grid[0, 0]
    axes.hist(frame["geometric"], bins=np.linspace(0, 1, 51), color=BLUE)
    axes.set_yscale("log")
    axes.set_xlabel("probability of the most probable continuation (geometric mean)")
    axes.set_ylabel("first tokens")
    axes.set_title(frame["model"].iat[0], fontsize=10)
    best = frame[frame["continued"] == "best"].nlargest(_LISTED, "geometric")
    texts = [
        token_label(one + two, 52, family=_FONT) for one, two in zip(best["token"], best["continuation"], strict=True)
    ]
    looped = ["" if length == 0 else f"{length}" for length in best["period"]]
    lines = [f"{p:5.3f} {loop:>4}  {text}" for p, loop, text in zip(best["geometric"], looped, texts, strict=True)]
    _list(grid[0, 1], [f"{'prob':>5} {'loop':>4}  text", *lines])
    return figure


def loss_by_frequency(frame: pd.DataFrame) -> Figure:
    """Draw the loss of each bin of frequency beside that of the frequencies alone.

    Args:
        frame: of `loss_by_frequency`, one model.
    """
    require_one(frame, "run_id")
    figure, axes = new_figure((6.4, 3.8))
    model = frame[frame["control"] == "none"].sort_values("bin")
    axes.plot(model["bin"], model["unigram_loss"], "--", marker="o", color=GREY, label="the frequencies alone")
    axes.plot(model["bin"], model["loss"], marker="o", color=BLUE, label=model["model"].iat[0])
    axes.plot(model["bin"], model["entropy"], ":", marker="o", color=RED, label="its own entropy there")
    axes.set_xticks(model["bin"])
    axes.set_xlabel("frequency of the next token (bin, rarest first)")
    axes.set_ylabel("loss (nats)")
    axes.legend(frameon=False, fontsize=8)
    return figure
