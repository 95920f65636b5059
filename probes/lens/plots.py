"""Figures of the lenses: the next token predicted at every layer and position, and every lens' divergence by layer."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from interp.authoring import InputError, Layers, Positions, numbered
from interp.display.plotting import (
    BLUE,
    GREEN,
    GREY,
    RED,
    Canvas,
    curve,
    figure,
    layer_axis,
    one_prompt,
    over_prompts,
    require_one,
    word_grid,
)

Value: TypeAlias = Literal["prob", "rank", "entropy", "kl", "log_prob"]
"""The colour's quantity: the probability of the token in the cell, the rank of the target, the entropy of the
distribution, its divergence from the output, or the log-probability of the target."""


class _Scale(NamedTuple):
    column: str
    label: str
    colours: str
    kind: Literal["share", "log", "root", "linear"]


_SCALES: dict[str, _Scale] = {
    "prob": _Scale("top1_prob", "probability of the token shown", "viridis", "share"),
    "rank": _Scale("rank", "rank of the target (0: argmax)", "viridis_r", "log"),
    "entropy": _Scale("entropy", "entropy (nats)", "viridis_r", "linear"),
    "kl": _Scale("kl_to_final", "KL from the output (nats)", "viridis_r", "root"),
    "log_prob": _Scale("log_prob", "log-probability of the target (nats)", "viridis", "linear"),
}


@figure
def lens(
    frame: pd.DataFrame,
    canvas: Canvas,
    *,
    layers: Layers = None,
    positions: Positions = None,
    value: Value = "prob",
    lens: str | None = None,
) -> None:
    """Draw layers x positions of one prompt, wrapped like text: the most probable next token in each cell.

    Args:
        frame: of `logit_lens`.
        canvas: to draw on.
        layers: the layer or layers to draw, 0..L, negative ones from the last that was read; None draws all of them.
        positions: the position or positions to draw, negative ones from the prompt's end, or a token's string; None
            draws all.
        value: what the colour shows; see `Value`.
        lens: the lens to draw, as in the frame's column `lens`; None draws the logit lens only if there is no other.
    """
    kind = main_kind(frame) if lens is None else lens
    if kind not in set(frame["lens"]):
        known = ", ".join(repr(one) for one in frame["lens"].unique())
        raise InputError(f"lens={kind!r}: the frame holds no such lens; give one of {known}, or None.")
    one = _chosen(one_prompt(frame[frame["lens"] == kind]), layers, positions)
    name = _TRAINED[kind][0] if kind in _TRAINED else f"{kind} lens"
    _grid(canvas, one, "top1", _SCALES[value], name)


def main_kind(frame: pd.DataFrame) -> str:
    """Return the lens to draw of a frame that holds several: not the logit lens, which is always beside another."""
    held = set(frame["lens"])
    return next((kind for kind in ("tuned", "jacobian") if kind in held), "logit")


@figure
def top_tokens(
    frame: pd.DataFrame,
    canvas: Canvas,
    *,
    layers: Layers = None,
    positions: Positions = None,
) -> None:
    """Draw the same grid from a `top_tokens` frame: its most probable token (k = 0).

    Args:
        frame: of `top_tokens`.
        canvas: to draw on.
        layers: see `lens`.
        positions: see `lens`.
    """
    one = _chosen(one_prompt(frame[frame["k"] == 0]), layers, positions)
    _grid(canvas, one, "pred", _SCALES["prob"]._replace(column="prob"), "most probable tokens")


def _chosen(one: pd.DataFrame, layers: Any, positions: Any) -> pd.DataFrame:
    """Return the rows of the layers and positions that were asked for, all of which must be there."""
    tokens = one.drop_duplicates("pos").set_index("pos")["token"].to_dict()
    for name, asked, known in (("layer", layers, one["layer"]), ("pos", positions, one["pos"])):
        if asked is None or (isinstance(asked, str) and asked == "all"):
            continue
        numbers = [asked] if np.ndim(asked) == 0 else list(asked)
        numbers = numbered(numbers, tokens, "the frame's prompt") if name == "pos" else numbers
        n = int(known.max()) + 1
        wanted = [number + n if number < 0 else number for number in numbers]
        lost = [number for number, place in zip(numbers, wanted, strict=True) if place not in set(known)]
        if lost or not wanted:
            what = "layers" if name == "layer" else "positions"
            holds = sorted(int(number) for number in known.unique())
            raise InputError(
                f"{what}={asked!r}: the frame holds {what} {holds[0]} to {holds[-1]} of this prompt; give some."
            )
        one = one[one[name].isin(wanted)]
    return one


def _grid(canvas: Canvas, one: pd.DataFrame, token: str, scale: _Scale, title: str) -> None:
    require_one(one, "run_id")
    several = one.duplicated(["pos", "layer", "sublayer"]).any()
    order = {"pre": 0.0, "mid": 0.5, "final": 0.0}
    one = one.assign(height=one["layer"] + one["sublayer"].map(order)).drop_duplicates(["pos", "height"])
    drawn = word_grid(
        canvas, one, words=token, value=scale.column, norm=lambda cells: _norm(cells, scale), colours=scale.colours,
        row="height", label=lambda height: height_label(height, one), up="layer read",
    )  # fmt: skip
    canvas.title(f"{title}, prompt {one['prompt_id'].iat[0]}")
    canvas.colour_bar(drawn.image, scale.label, fraction=0.04, pad=0.01, aspect=30)
    canvas.caption(
        "in each cell: the most probable next token; one prompt: no interval",
        "of the first of several targets" if several and scale.column in ("rank", "log_prob") else "",
        f"{drawn.left_out}: positions= draws others" if drawn.left_out else "",
        "grey: no target" if np.isnan(drawn.cells).any() else "",
    )


def _norm(cells: np.ndarray, scale: _Scale) -> Any:
    from matplotlib import colors

    found = cells[np.isfinite(cells)]
    if scale.kind == "share" or not found.size:
        return colors.Normalize(0, 1)
    if scale.kind == "log":
        return colors.AsinhNorm(linear_width=1.0, vmin=0, vmax=max(1.0, found.max()))
    if scale.kind == "root":
        return colors.PowerNorm(0.5, vmin=0, vmax=max(1e-6, found.max()))
    return colors.Normalize(min(found.min(), found.max() - 1e-6), found.max())


def height_label(height: float, one: pd.DataFrame) -> str:
    """Return the name of a row: a layer, or the place between attention and MLP of its block."""
    if height == 0:
        return "0 (embedding)"
    if (one["sublayer"] == "final").any() and height == one["layer"].max():
        return f"{int(height)} (output)"
    return f"{int(height)}" if height == int(height) else f"{int(height)} mid"


_TRAINED = {"tuned": ("tuned lens", BLUE, "o"), "jacobian": ("Jacobian lens", GREEN, "^")}


@figure
def lenses(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the KL from the output to every lens by layer, and to the lenses of layer 0, which read the token alone."""
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    held = [kind for kind in _TRAINED if (summary["lens"] == kind).any()]
    if not held:
        raise InputError("the frame holds no tuned or Jacobian lens; make it with logit_lens(..., lens=...).")
    axes = canvas.one((6.4, 3.8))
    for kind, (label, colour, mark) in {
        "logit": ("logit lens", RED, "s"),
        **{kind: _TRAINED[kind] for kind in held},
    }.items():
        rows = summary[(summary["lens"] == kind) & (summary["kl_to_final"] > 0)]  # the output's 0 has no logarithm
        curve(axes, rows, "layer", "kl_to_final", label=label, colour=colour, mark=mark)
    for kind in held:
        control = summary.loc[(summary["lens"] == kind) & (summary["layer"] == 0), "kl_to_final"]
        label, colour, _ = _TRAINED[kind]
        if len(control):
            axes.axhline(
                control.iat[0],
                color=GREY if len(held) == 1 else colour,
                linestyle="--",
                linewidth=1.2,
                label=f"{label} of layer 0: the token alone",
            )
    axes.set_yscale("log")
    layer_axis(axes, set(summary["layer"]) - {summary["layer"].max()})
    axes.set_ylabel("KL(output || lens), nats")
    axes.legend(frameon=False, fontsize=9)
    axes.grid(alpha=0.25)
    canvas.title("how far each lens is from the output")
    canvas.caption(over_prompts(summary, "kl_to_final"))
