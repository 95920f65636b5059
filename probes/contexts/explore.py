"""Nearest contexts as a page to look into: hovering over a state shows the sentences it is most like."""

from __future__ import annotations

from typing import Any

import pandas as pd

from interp.display.interactive import Grid, Measure, Page, explorer
from interp.display.plotting import require_one
from probes.contexts.plots import side_by_side

_MOST_CELLS = 20_000  # of all prompts together: a page of a few megabytes
_AT = ["layer", "pos"]


def nearest_contexts(frame: pd.DataFrame) -> Page:
    """Return a `nearest_contexts` frame as a grid of layers by positions for every prompt, or of layers by vectors.

    A cell holds the token of the nearest context; hovering shows all neighbours in their sentences, another occurrence
    of the nearest one's token (its control), and what the logit lens says.
    """
    require_one(frame, "model", "run_id")
    vectors = bool(frame["vector"].notna().all())
    frame = side_by_side(frame)
    grids: list[Grid] = []
    left, prompts = _MOST_CELLS, frame["prompt_id"].unique()
    for prompt in prompts:
        rows = frame[frame["prompt_id"] == prompt]
        n_cells = rows["layer"].nunique() * rows["pos"].nunique()
        if grids and n_cells > left:
            break
        left -= n_cells
        grids.append(_grid(rows, "vectors" if vectors else f"prompt {prompt}"))
    note = f"The first {len(grids)} of {len(prompts)} prompts." if len(grids) < len(prompts) else ""
    return explorer(f"{frame['model'].iat[0]}: nearest contexts", grids, note)


def _grid(rows: pd.DataFrame, label: str) -> Grid:
    own = rows[rows["control"] == "none"].sort_values("rank_neighbour", kind="stable")
    first = own[own["rank_neighbour"] == 0]
    layers, places = sorted(first["layer"].unique()), sorted(first["pos"].unique())
    whole = pd.MultiIndex.from_product([layers, places], names=_AT)
    shape = len(layers), len(places)
    by_place = first.set_index(_AT).reindex(whole)
    same = rows[(rows["control"] == "same_token") & (rows["rank_neighbour"] == 0)].set_index(_AT).reindex(whole)
    several = dict(tuple(own.groupby(_AT)))
    hints = [
        _hint(place, several[place], by_place.loc[place], same.loc[place]) if place in several else ["not read"]
        for place in whole
    ]

    def table(values: Any) -> list[list[Any]]:
        found = list(values)
        return [found[start : start + shape[1]] for start in range(0, len(found), shape[1])]

    measures = [
        Measure("z of the cosine", "root", True, table(by_place["z"].clip(lower=0))),
        Measure("cosine", "linear", True, table(by_place["cosine"])),
    ]
    inputs = first.drop_duplicates("pos").set_index("pos").loc[places, "token"].tolist()
    words = table("" if pd.isna(word) else word for word in by_place["neighbour"])
    return Grid(label, inputs, [f"layer {layer}" for layer in layers], words, table(hints), measures)


def _hint(place: tuple[Any, ...], found: pd.DataFrame, first: pd.Series, same: pd.Series) -> list[str]:
    """Return what hovering over a cell says."""
    layer, pos = place
    lines = [f"layer {layer}, at “{first['token']}” (position {pos})"]
    for n, one in enumerate(found.itertuples(), start=1):
        elsewhere = "" if one.bank_layer == layer else f", layer {one.bank_layer}"
        lines.append(f"{n}. {one.context} (cosine {one.cosine:.2f}, z {one.z:.1f}{elsewhere})")
    lines.append(f"control, same token: {same['context']} (cosine {same['cosine']:.2f})")
    lines.append(f"logit lens: “{first['lens']}”")
    return lines
