"""Figures of next bytes: by byte, by method, and along a text."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.display.plotting import (
    BLUE,
    GREEN,
    GREY,
    PINK,
    RED,
    Canvas,
    dodged,
    figure,
    one_prompt,
    over_prompts,
    require_one,
    token_label,
)

_COLOURS = {"exact": BLUE, "aligned": PINK, "healed": GREEN, "naive": RED}
_NAMES = {"exact": "exact", "aligned": "token alignment", "healed": "token healing", "naive": "as usual"}
_MOST_BYTES, _MOST_BARS = 12, 80


@figure
def next_byte(frame: pd.DataFrame, canvas: Canvas, *, cut: int | None = None) -> None:
    """Draw the most probable next bytes at one cut of one prompt by each method.

    Args:
        frame: of `next_byte`.
        canvas: to draw on.
        cut: the place; by default the prompt's first.
    """
    one = one_prompt(frame)
    chosen = one["cut"].iat[0] if cut is None else cut
    one = one[one["cut"] == chosen]
    require_one(one, "run_id")
    axes = canvas.one((7.2, 3.4))
    wide = one.pivot_table(index="text", columns="method", values="prob", fill_value=0.0, sort=False)
    n_bytes = len(wide)
    wide = wide.loc[wide.max(axis=1).sort_values(ascending=False).index[:_MOST_BYTES]]
    names = [name for name in _COLOURS if name in wide.columns]
    for n, method in enumerate(names):
        at = np.arange(len(wide)) + (n - (len(names) - 1) / 2) * 0.8 / len(names)
        axes.bar(at, wide[method], 0.8 / len(names), color=_COLOURS[method], label=_NAMES[method])
    axes.set_xticks(range(len(wide)), [token_label(text) for text in wide.index])
    axes.set_xlabel("next byte", fontsize=9)
    axes.set_ylabel("probability of the next byte")
    axes.legend(frameon=False, fontsize=9)
    canvas.title(f"prompt {one['prompt_id'].iat[0]}, after byte {chosen}")
    canvas.caption(f"the {len(wide)} most probable of {n_bytes} bytes", "one place: no interval")


@figure
def tokenization_bias(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the true next byte's log-probability and the distance from the exact distribution, by method and cut."""
    require_one(frame, "run_id")
    grid = canvas.grid(1, 2, (8.2, 3.4))
    summary = frame.interp.summary()
    methods = [name for name in _COLOURS if name in set(summary["method"])]
    labels = {"log_prob": "log-probability of the next byte (nats)", "tv": "total variation from exact"}
    cuts = {"none": ("cut inside a token", -0.1, "o", None), "boundary": ("control: cut at its end", 0.1, "s", GREY)}
    for axes, (value, label) in zip(grid[0], labels.items(), strict=True):
        for control, (name, shift, mark, grey) in cuts.items():
            for method in methods:
                rows = summary[(summary["control"] == control) & (summary["method"] == method)]
                colour = grey or _COLOURS[method]
                named = name if method == methods[0] else None
                dodged(
                    axes, [methods.index(method) + shift] * len(rows), rows, value, fmt=mark, color=colour, label=named
                )
        axes.set_xticks(range(len(methods)), [_NAMES[method] for method in methods])
        axes.set_xlim(-0.5, len(methods) - 0.5)
        axes.set_ylabel(label)
    grid[0, 0].legend(frameon=False, fontsize=8)
    canvas.title("the next byte, by ways to read it")
    canvas.caption(over_prompts(summary, "log_prob", "bars"))


@figure
def byte_log_prob(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the surprise of every byte along a prompt, and that of its own tokens where they end."""
    one = one_prompt(frame)
    require_one(one, "run_id")
    shown = one.head(_MOST_BARS)
    axes = canvas.one((max(5.0, 0.14 * len(shown) + 1.5), 3.2))
    axes.bar(range(len(shown)), shown["bits"], color=BLUE, label="over all tokenisations")
    by_tokens = shown["bits_by_tokens"].to_numpy()
    ends = np.flatnonzero(by_tokens > 0)
    axes.plot(ends, by_tokens[ends], "_", color=RED, markersize=8, label="of the token that ends here")
    axes.set_xticks(range(len(shown)), [token_label(text, 4) for text in shown["text"]], fontsize=7)
    axes.set_ylabel("surprise (bits)")
    axes.legend(frameon=False, fontsize=9)
    canvas.title(f"surprise of every byte, prompt {one['prompt_id'].iat[0]}")
    canvas.caption(
        f"the first {len(shown)} of {len(one)} bytes" if len(shown) < len(one) else "", "one prompt: no interval"
    )
