"""Attributions as a page to look into: a strip of tokens for every method, for every prompt and target."""

from __future__ import annotations

import pandas as pd

from interp.display.interactive import Page, Strip, Strips, explorer
from interp.display.plotting import require_one, worded

_MOST = 200  # prompts and targets


def attribution(frame: pd.DataFrame) -> Page:
    """Return a frame of `attribute` or of one method as strips of tokens, coloured by their score."""
    require_one(frame, "model")
    by = ["prompt_id", "target_pos", "target_id"]
    targets = list(frame.groupby(by, sort=False))
    items = [_strips(rows) for _, rows in targets[:_MOST]]
    note = "Blue: for the target, vermilion: against it. Position 0 does not set a strip's scale."
    if len(items) < len(targets):
        note += f" The first {len(items)} of {len(targets)} targets."
    return explorer(f"{frame['model'].iat[0]}: scores of tokens", items, note)


def _strips(rows: pd.DataFrame) -> Strips:
    first = rows.iloc[0]
    keys = ["method", *(["layer"] if "layer" in rows and rows["layer"].nunique() > 1 else []), "run_id"]
    strips = []
    for key, one in rows.groupby(keys, sort=False):
        one = one.sort_values("pos")
        later = one.loc[one["pos"] > 0, "score"].abs().max() if (one["pos"] > 0).any() else one["score"].abs().max()
        layer = f" at layer {key[1]}" if len(key) > 2 else ""
        scores = one["score"].astype(float).tolist()
        hints = [
            [f"“{token}” (position {pos})", f"score {score:.4g}"]
            for token, pos, score in zip(one["token"], one["pos"], scores, strict=True)
        ]
        limit = float(later) if later > 0 else 1.0
        strips.append(Strip(worded(str(key[0])) + layer, one["token"].tolist(), scores, hints, limit))
    return Strips(f"prompt {first['prompt_id']}: “{first['target']}” after position {first['target_pos']}", strips)
