"""Figures of next bytes: by byte, by method, and along a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.display.plotting import BLUE, GREEN, GREY, RED, new_figure, new_grid, one_prompt, require_one, token_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"exact": BLUE, "healed": GREEN, "naive": RED}
_MOST = 12


def next_byte(frame: pd.DataFrame, *, prompt_id: int | None = None, cut: int | None = None) -> Figure:
    """Draw the most probable next bytes at one cut by each method.

    Args:
        frame: of `next_byte`, one model.
        prompt_id: the prompt; by default the first.
        cut: the place; by default the prompt's first.
    """
    one = one_prompt(frame, prompt_id)
    chosen = one["cut"].iat[0] if cut is None else cut
    one = one[one["cut"] == chosen]
    require_one(one, "run_id")
    wide = one.pivot_table(index="text", columns="method", values="prob", fill_value=0.0, sort=False)
    wide = wide.loc[wide.max(axis=1).sort_values(ascending=False).index[:_MOST]]
    figure, axes = new_figure((7.2, 3.4))
    names = [name for name in _COLOURS if name in wide.columns]
    for n, method in enumerate(names):
        at = np.arange(len(wide)) + (n - (len(names) - 1) / 2) * 0.8 / len(names)
        axes.bar(at, wide[method], 0.8 / len(names), color=_COLOURS[method], label=method)
    axes.set_xticks(range(len(wide)), [token_label(text) for text in wide.index])
    axes.set_ylabel("probability of the next byte")
    axes.set_title(f"{one['model'].iat[0]}: prompt {one['prompt_id'].iat[0]}, after byte {chosen}", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    return figure


def tokenization_bias(frame: pd.DataFrame) -> Figure:
    """Draw the true next byte's log-probability and the distance from the exact distribution, by method and cut.

    Args:
        frame: of `tokenization_bias`, one model.
    """
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    figure, grid = new_grid(1, 2, (8.2, 3.4))
    methods = [name for name in _COLOURS if name in set(summary["method"])]
    for axes, value, label in zip(
        grid[0],
        ("log_prob", "tv"),
        ("log-probability of the next byte (nats)", "total variation from exact"),
        strict=True,
    ):
        for shift, control, marker in ((-0.1, "none", "o"), (0.1, "boundary", "s")):
            rows = summary[summary["control"] == control].set_index("method")
            for place, method in enumerate(methods):
                if method in rows.index:
                    row = rows.loc[method]
                    spread = [[row[value] - row[f"{value}_low"]], [row[f"{value}_high"] - row[value]]]
                    colour = GREY if control == "boundary" else _COLOURS[method]
                    axes.errorbar([place + shift], [row[value]], spread, fmt=marker, color=colour, capsize=3)
        axes.set_xticks(range(len(methods)), methods)
        axes.set_ylabel(label)
    figure.suptitle(f"{frame['model'].iat[0]}: cuts inside a token, at its end (grey); 95 % over prompts", fontsize=10)
    return figure


def byte_log_prob(frame: pd.DataFrame, *, prompt_id: int | None = None) -> Figure:
    """Draw the surprise of every byte along a prompt, and that of its own tokens where they end.

    Args:
        frame: of `byte_log_prob`, one model.
        prompt_id: the prompt; by default the first.
    """
    one = one_prompt(frame, prompt_id)
    require_one(one, "run_id")
    shown = one.head(80)
    figure, axes = new_figure((max(5.0, 0.14 * len(shown) + 1.5), 3.2))
    axes.bar(range(len(shown)), shown["bits"], color=BLUE, label="over all tokenisations")
    by_tokens = shown["bits_by_tokens"].to_numpy()
    ends = np.flatnonzero(by_tokens > 0)
    axes.plot(ends, by_tokens[ends], "_", color=RED, markersize=8, label="of the token that ends here")
    axes.set_xticks(range(len(shown)), [token_label(text, 4) for text in shown["text"]], fontsize=7)
    axes.set_ylabel("bits")
    axes.set_title(f"{one['model'].iat[0]}: prompt {one['prompt_id'].iat[0]}", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    return figure
