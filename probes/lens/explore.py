"""The lenses as a page to look into: what every layer would say at every position, and how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import InputError
from interp.display.interactive import Grid, Measure, Page, explorer
from interp.display.plotting import require_one
from probes.lens.plots import height_label, main_kind

_MOST_CELLS = 40_000  # of all prompts together: a page of a few megabytes
_ORDER = {"pre": 0.0, "mid": 0.5, "final": 0.0}
_AT = ["prompt_id", "pos", "height"]


def lens(frame: pd.DataFrame, *, top: pd.DataFrame | None = None) -> Page:
    """Return a `logit_lens` frame as a grid of layers by positions for every prompt.

    Hovering shows the most probable tokens, and the rank and probability of the target.

    Args:
        frame: of `logit_lens`.
        top: of `top_tokens` of the same model and texts, for more than the most probable token.

    Raises:
        InputError: `top` lacks places of the frame.
    """
    require_one(frame, "model", "run_id")
    kind = main_kind(frame)
    one = _placed(frame[frame["lens"] == kind]).drop_duplicates(_AT)
    one = one.assign(best=[[(token, prob)] for token, prob in zip(one["top1"], one["top1_prob"], strict=True)])
    if top is not None:
        listed = _best(_placed(top))
        one = one.drop(columns="best").merge(listed, on=_AT, how="left")
        if one["best"].isna().any():
            raise InputError("top= lacks places of this frame; make it with top_tokens of the same texts and layers.")
    measures = {
        "probability of the token shown": ("top1_prob", "share", True),
        "KL from the output (nats)": ("kl_to_final", "root", False),
        "entropy (nats)": ("entropy", "linear", False),
        "rank of the target": ("rank", "log", False),
        "log-probability of the target (nats)": ("log_prob", "linear", True),
    }
    return _page(one, "top1", measures, f"{frame['model'].iat[0]}: {kind} lens")


def top_tokens(frame: pd.DataFrame) -> Page:
    """Return a `top_tokens` frame as a grid: hovering shows its tokens, and where the next token stands among them."""
    require_one(frame, "model", "run_id")
    placed = _placed(frame)
    one = placed[placed["k"] == 0].merge(_best(placed), on=_AT)
    # What comes next in the text is the token at the next position, if that one was read.
    following = one.drop_duplicates(["prompt_id", "pos"])[["prompt_id", "pos", "token"]]
    following = following.assign(pos=following["pos"] - 1).rename(columns={"token": "target"})
    one = one.merge(following, on=["prompt_id", "pos"], how="left").assign(log_prob=np.nan)
    found = [[token for token, _ in best] for best in one["best"]]
    ranks = [
        tokens.index(target) if target in tokens else None for tokens, target in zip(found, one["target"], strict=True)
    ]
    one["rank"] = pd.array(ranks, dtype="Int64")
    measures = {"probability of the token shown": ("prob", "share", True)}
    return _page(one, "pred", measures, f"{frame['model'].iat[0]}: most probable tokens")


def _placed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(height=frame["layer"] + frame["sublayer"].map(_ORDER))


def _best(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the tokens of every place with their probabilities, the most probable first."""
    pairs = frame.assign(best=list(zip(frame["pred"], frame["prob"], strict=True))).sort_values("k", kind="stable")
    return pairs.groupby(_AT, sort=False)["best"].agg(list).reset_index()


def _page(one: pd.DataFrame, cell: str, measures: dict[str, tuple[str, Any, bool]], title: str) -> Page:
    grids: list[Grid] = []
    left = _MOST_CELLS
    prompts = one["prompt_id"].unique()
    for prompt in prompts:
        rows = one[one["prompt_id"] == prompt]
        if grids and len(rows) > left:
            break
        left -= len(rows)
        grids.append(_grid(rows, cell, measures, f"prompt {prompt}"))
    note = f"The first {len(grids)} of {len(prompts)} prompts." if len(grids) < len(prompts) else ""
    return explorer(title, grids, note)


def _grid(rows: pd.DataFrame, cell: str, measures: dict[str, tuple[str, Any, bool]], label: str) -> Grid:
    heights, places = sorted(rows["height"].unique()), sorted(rows["pos"].unique())
    rows = rows.set_index(["height", "pos"]).reindex(pd.MultiIndex.from_product([heights, places]))
    shape = len(heights), len(places)
    names = [f"layer {height_label(height, rows.assign(layer=rows['layer'].fillna(-1)))}" for height in heights]
    inputs = rows["token"].groupby(level=1).first().loc[places].tolist()

    def table(column: str) -> list[list[Any]]:
        return rows[column].to_numpy(dtype=object).reshape(shape).tolist()

    hints = [_hint(row, name) for name, part in zip(names, _split(rows, shape), strict=True) for row in part]
    shown = [
        Measure(
            name,
            kind,
            high,
            rows[column].astype("Float64").to_numpy(dtype=float, na_value=np.nan).reshape(shape).tolist(),
        )
        for name, (column, kind, high) in measures.items()
        if rows[column].notna().any()
    ]
    grouped = [hints[start : start + shape[1]] for start in range(0, len(hints), shape[1])]
    return Grid(
        label, inputs, names, [["" if pd.isna(one) else one for one in row] for row in table(cell)], grouped, shown
    )


def _split(rows: pd.DataFrame, shape: tuple[int, int]) -> list[list[dict[str, Any]]]:
    records = rows.reset_index(names=["height", "place"]).to_dict("records")
    return [records[start : start + shape[1]] for start in range(0, shape[0] * shape[1], shape[1])]


def _hint(row: dict[str, Any], name: str) -> list[str]:
    """Return what hovering over a cell says."""
    if not isinstance(row["best"], list):
        return [f"{name}, position {row['place']}: not read"]
    lines = [f"{name}, after “{row['token']}” (position {row['place']})"]
    lines += [f"{n}. “{token}” {prob:.1%}" for n, (token, prob) in enumerate(row["best"], start=1)]
    if not pd.isna(row["target"]):
        rank = f"rank {row['rank']}" if not pd.isna(row["rank"]) else f"not among these {len(row['best'])}"
        prob = "" if pd.isna(row["log_prob"]) else f", {np.exp(row['log_prob']):.2%}"
        lines.append(f"target “{row['target']}”: {rank}{prob}")
    return lines
