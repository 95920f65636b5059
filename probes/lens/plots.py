"""Figures of the lenses: the next token predicted at every layer and position."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.authoring import InputError
from interp.display.plotting import BLUE, GREY, RED, new_figure, one_prompt, require_one, token_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_POSITIONS = 40
_CELL_INCHES = (0.82, 0.42)


def lens(frame: pd.DataFrame, prompt_id: int | None = None) -> Figure:
    """Draw layers x positions of one prompt: the most probable next token in each cell, its probability as the colour.

    Args:
        frame: of `logit_lens`, one model.
        prompt_id: the prompt to draw; by default the first.
    """
    # Frames of a trained lens hold the logit lens beside it.
    kind = "tuned" if (frame["lens"] == "tuned").any() else "logit"
    return _grid(frame[frame["lens"] == kind], prompt_id, token="top1", prob="top1_prob", title=f"{kind} lens")


def lenses(frame: pd.DataFrame) -> Figure:
    """Draw the KL from the output to the logit and the tuned lens of every layer, and to the tuned lens of layer 0.

    Args:
        frame: of `logit_lens(..., lens=...)`, one model.
    """
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    tuned = summary[summary["lens"] == "tuned"]
    if tuned.empty:
        raise InputError("the frame holds no tuned lens; make it with logit_lens(..., lens=...).")
    figure, axes = new_figure((6.4, 3.8))
    for kind, colour, mark in (("logit", RED, "s"), ("tuned", BLUE, "o")):
        curve = summary[(summary["lens"] == kind) & (summary["kl_to_final"] > 0)]  # the output's 0 has no logarithm
        axes.plot(curve["layer"], curve["kl_to_final"], marker=mark, color=colour, label=f"{kind} lens", markersize=4)
        band = curve["kl_to_final_low"], curve["kl_to_final_high"]
        axes.fill_between(curve["layer"], *band, color=colour, alpha=0.18, linewidth=0)
    control = tuned.loc[tuned["layer"] == 0, "kl_to_final"].iat[0]
    axes.axhline(control, color=GREY, linestyle="--", linewidth=1.2, label="tuned lens of layer 0: the token alone")
    axes.set_yscale("log")
    axes.set_xticks(sorted(set(summary["layer"]) - {summary["layer"].max()}))
    axes.set_xlabel("layer (0 enters the first block)")
    axes.set_ylabel("KL(output || lens), nats")
    axes.set_title(f"{frame['model'].iat[0]}: bands 95 % over prompts", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    axes.grid(alpha=0.25)
    return figure


def top_tokens(frame: pd.DataFrame, prompt_id: int | None = None) -> Figure:
    """Draw the same grid from a `top_tokens` frame: its most probable token (k = 0)."""
    return _grid(frame[frame["k"] == 0], prompt_id, token="pred", prob="prob", title="top tokens")


def _grid(frame: pd.DataFrame, prompt_id: int | None, *, token: str, prob: str, title: str) -> Figure:
    one = one_prompt(frame, prompt_id)
    one = one[one["pos"].isin(np.sort(one["pos"].unique())[:_MAX_POSITIONS])]
    order = {"pre": 0.0, "mid": 0.5, "final": 0.0}
    one = one.assign(height=one["layer"] + one["sublayer"].map(order)).drop_duplicates(["pos", "height"])
    probs = one.pivot(index="height", columns="pos", values=prob)
    names = one.pivot(index="height", columns="pos", values=token)
    n_rows, n_columns = probs.shape
    size = (1.9 + _CELL_INCHES[0] * n_columns, 1.5 + _CELL_INCHES[1] * n_rows)
    figure, axes = new_figure(size)
    image = axes.imshow(probs.to_numpy(), cmap="viridis", vmin=0, vmax=1, aspect="auto", origin="lower")
    for y in range(n_rows):
        for x in range(n_columns):
            # viridis is dark below its middle: white letters there, black above.
            colour = "white" if float(probs.iat[y, x]) < 0.6 else "black"
            axes.text(x, y, token_label(str(names.iat[y, x])), ha="center", va="center", fontsize=8, color=colour)
    inputs = one.drop_duplicates("pos").set_index("pos")["token"].reindex(probs.columns)
    axes.set_xticks(range(n_columns), [token_label(text) for text in inputs], fontsize=8, rotation=40, ha="right")
    axes.set_yticks(range(n_rows), [_height_label(height, one) for height in probs.index], fontsize=8)
    axes.set_xlabel("input token")
    axes.set_ylabel("layer read")
    axes.set_title(f"{one['model'].iat[0]}: {title}, prompt {one['prompt_id'].iat[0]}", fontsize=10)
    figure.colorbar(image, ax=axes, label="probability of the token shown", fraction=0.05, pad=0.01)
    return figure


def _height_label(height: float, one: pd.DataFrame) -> str:
    if height == 0:
        return "0 (embedding)"
    if (one["sublayer"] == "final").any() and height == one["layer"].max():
        return f"{int(height)} (output)"
    return f"{int(height)}" if height == int(height) else f"{int(height)} mid"
