"""Figures of pairs of texts: the part of every pair of tokens."""

from __future__ import annotations

import pandas as pd

from interp.display.plotting import Canvas, figure, one_prompt, require_one, token_label

_MOST = 40  # tokens of a text whose names can be read


@figure
def pair_attribution(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the scores of one pair of texts, the tokens of the first down and those of the second across."""
    require_one(frame, "run_id")
    one = one_prompt(frame)
    panels = [one[one["control"] == control] for control in ("none", "other")]
    titles = ["the pair", "control: another second text"]
    shown = [(rows, title) for rows, title in zip(panels, titles, strict=True) if len(rows)]
    tables = [rows.pivot(index="pos_a", columns="pos_b", values="score").iloc[:_MOST, :_MOST] for rows, _ in shown]
    limit = max(float(table.abs().max(axis=None)) for table in tables) or 1.0
    wide = sum(max(2.2, 0.34 * table.shape[1]) for table in tables)
    grid = canvas.grid(1, len(shown), (1.8 + 1.1 * len(shown) + wide, max(2.8, 1.6 + 0.28 * len(tables[0]))))[0]
    for axes, table, (rows, title) in zip(grid, tables, shown, strict=True):
        image = axes.imshow(table, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
        for side, axis in (("b", axes.set_xticks), ("a", axes.set_yticks)):
            names = rows.drop_duplicates(f"pos_{side}").set_index(f"pos_{side}")[f"token_{side}"]
            places = table.columns if side == "b" else table.index
            turned = {"rotation": 40, "ha": "right"} if side == "b" else {}
            axis(range(len(places)), [token_label(names[pos]) for pos in places], fontsize=8, **turned)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(f"cosine of the texts {rows['cosine'].iat[0]:.2f}", fontsize=8)
    canvas.colour_bar(image, "part of the dot product")
    canvas.title(f"which tokens make two texts alike, pair {one['prompt_id'].iat[0]}")
    error = float(one["completeness"].abs().max())
    canvas.caption(f"blue: alike, red: unlike; sums are complete to {error:.1%}; one pair: no interval")
