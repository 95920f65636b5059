"""Figures of the vocabulary: kinds and health of tokens, what follows them, and the loss by how frequent they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.authoring import InputError
from interp.display.plotting import BLUE, GREY, LINES, RED, Canvas, figure, require_one, token_label, worded

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LISTED = 24
_WIDEST = 26  # characters of a token in a table
_INDICATORS = {
    "direction": "1 - cosine with rows that are never used (low is suspicious)",
    "ceiling": "highest log-probability in texts, nats (low is suspicious)",
    "norm": "norm of the row (low is suspicious)",
}


@figure
def token_health(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the deciding indicator of ordinary and other tokens, and list the tokens that are worst by it."""
    require_one(frame, "run_id")
    name = next((name for name in ("direction", "ceiling", "norm") if frame[name].notna().any()), None)
    if name is None:
        raise InputError("the frame holds no indicator to draw.")
    axes, beside = canvas.grid(1, 2, (9.6, 4.4))[0]
    ordinary, candidate = frame["category"] == "ok", frame["is_candidate"]
    edges = np.histogram_bin_edges(frame[name].replace(-np.inf, np.nan).dropna(), bins=60)
    for rows, colour, label in (
        (ordinary & ~candidate, BLUE, "ordinary tokens"),
        (candidate, RED, "candidates"),
        (~ordinary, GREY, "special, unreachable, pieces"),
    ):
        axes.hist(frame.loc[rows, name], bins=edges, histtype="stepfilled", alpha=0.6, color=colour, label=label)
    axes.set_yscale("log")
    axes.set_xlabel(_INDICATORS[name])
    axes.set_ylabel("tokens")
    axes.legend(frameon=False, fontsize=8)
    worst = frame[candidate].nsmallest(_LISTED, name)
    _list(beside, _worst(worst, name, "9.4f"))
    canvas.title("tokens that the model has hardly learned")
    canvas.caption(
        f"all {len(frame):,} tokens, not a sample: no interval", _first(len(worst), int(candidate.sum()), "candidates")
    )


def _worst(frame: pd.DataFrame, name: str, format: str) -> list[str]:
    """Return a table's lines: the value, what kind of token it is, its script, and its text with visible escapes."""
    labels = [token_label(token, _WIDEST) for token in frame["token"]]
    rows = zip(frame[name], frame["category"], frame["script"].replace("", "–"), labels, strict=True)
    n = len(f"{0.0:{format}}")
    return [
        f"{name:>{n}}  {'category':<11} {'script':<10} token",
        *(f"{value:{format}}  {kind:<11} {script:<10} {label}" for value, kind, script, label in rows),
    ]


def _first(n: int, of: int, what: str) -> str:
    return f"listed: the worst {n} of {of:,} {what}" if n < of else f"listed: all {of} {what}"


def _list(axes: Axes, lines: list[str]) -> None:
    axes.axis("off")
    axes.text(0, 1, "\n".join(lines), family="monospace", fontsize=7.5, va="top", transform=axes.transAxes)


@figure
def token_repetition(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw each token's largest probability by its direction, and list the candidates that are least probable."""
    require_one(frame, "run_id")
    best = frame.sort_values("log_prob").groupby(["control", "token_id"], sort=False).tail(1)
    axes, beside = canvas.grid(1, 2, (9.6, 4.4))[0]
    for control, colour, label in (
        ("frequent", GREY, "frequent tokens"),
        ("random", BLUE, "random tokens"),
        ("none", RED, "candidates"),
    ):
        rows = best[best["control"] == control]
        axes.scatter(rows["direction"], rows["log_prob"] / np.log(10), s=9, color=colour, label=label, alpha=0.7)
    for log10 in (-3, -2, -1):
        axes.axhline(log10, color=GREY, linewidth=0.6, linestyle=":")
    axes.set_xlabel(_INDICATORS["direction"])
    axes.set_ylabel("largest probability (log10)")
    axes.legend(frameon=False, fontsize=8)
    worst = best[best["control"] == "none"].nsmallest(_LISTED, "log_prob")
    _list(beside, _worst(worst, "prob", "9.1e"))
    canvas.title("the probability of a token where a prompt asks for it")
    n = int((best["control"] == "none").sum())
    canvas.caption("every point is one token: no interval", _first(len(worst), n, "candidates"))


@figure
def first_tokens(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw how probable the continuation of every first token is, and list what follows the best of them."""
    require_one(frame, "run_id")
    axes, beside = canvas.grid(1, 2, (9.6, 4.4))[0]
    axes.hist(frame["geometric"], bins=np.linspace(0, 1, 51), color=BLUE)
    axes.set_yscale("log")
    axes.set_xlabel("probability of the most probable continuation (geometric mean)")
    axes.set_ylabel("first tokens")
    best = frame[frame["continued"] == "best"].nlargest(_LISTED, "geometric")
    texts = [token_label(one + two, 52) for one, two in zip(best["token"], best["continuation"], strict=True)]
    looped = ["" if length == 0 else f"{length}" for length in best["period"]]
    lines = [f"{p:5.3f} {loop:>4}  {text}" for p, loop, text in zip(best["geometric"], looped, texts, strict=True)]
    _list(beside, [f"{'prob':>5} {'loop':>4}  text", *lines])
    canvas.title("what the model says after one token")
    n = int((frame["continued"] == "best").sum())
    canvas.caption(
        f"all {len(frame):,} first tokens, not a sample: no interval",
        _first(len(best), n, "that were continued").replace("worst", "best"),
        "loop: the length of a repeated end",
    )


@figure(together=True)
def loss_by_frequency(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the loss of each bin of frequency beside that of the frequencies alone, several models in one figure."""
    own = frame[frame["control"] == "none"]
    for _, rows in own.groupby("model"):
        require_one(rows, "run_id")
    names = list(dict.fromkeys(own["model"]))
    axes = canvas.one((7.4, 3.8))
    for number, (name, colour) in enumerate(zip(names, LINES, strict=False)):
        rows = own[own["model"] == name].sort_values("bin")
        frequencies = GREY if number == 0 else colour
        more = "" if len(names) == 1 else f" ({name}'s tokens)"
        axes.plot(
            rows["bin"], rows["unigram_loss"], "--", marker="o", color=frequencies, label=f"the frequencies alone{more}"
        )
        axes.plot(rows["bin"], rows["loss"], marker="o", color=colour, label=name)
        axes.plot(
            rows["bin"],
            rows["entropy"],
            ":",
            marker="o",
            color=colour,
            fillstyle="none",
            label=f"entropy of {name} there",
        )
    axes.set_xticks(sorted(own["bin"].unique()))
    axes.set_xlabel("frequency of the next token (bin, rarest first)")
    axes.set_ylabel("loss (nats)")
    canvas.title("loss by how frequent the next token is")
    canvas.legend(axes)
    n_targets = own.groupby("model")["n_targets"].sum()
    canvas.caption(
        f"means over {' and '.join(f'{n:,}' for n in n_targets)} tokens, which are not independent: no interval",
        f"only the first {len(LINES)} of {len(names)} models" if len(names) > len(LINES) else "",
    )


@figure
def vocabulary(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the lengths of the embedding's rows by the kind of their token, and how many there are of each."""
    require_one(frame, "run_id")
    kinds = frame["kind"].value_counts()
    axes = canvas.one((7.2, 1.6 + 0.45 * len(kinds)))
    heights = list(range(len(kinds)))[::-1]
    for height, kind in zip(heights, kinds.index, strict=True):
        norms = frame.loc[frame["kind"] == kind, "norm"]
        axes.boxplot(
            [norms], positions=[height], widths=0.5, whis=(5, 95), sym=".", manage_ticks=False, patch_artist=True,
            orientation="horizontal", boxprops={"facecolor": BLUE, "alpha": 0.6}, medianprops={"color": "black"},
            flierprops={"markersize": 2, "alpha": 0.4},
        )  # fmt: skip
    axes.set_yticks(heights, [f"{worded(kind)} ({n:,})" for kind, n in kinds.items()])
    axes.set_xlabel("norm of the token's embedding")
    canvas.title("kinds of tokens")
    canvas.caption(
        "box: quartiles, line: median, whiskers: 5 to 95 % of tokens, points: the others",
        f"all {len(frame):,} tokens, not a sample: no interval",
    )
