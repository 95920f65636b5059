"""Steering as a page to look into: a slider of doses, with effect, damage and what the model then writes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.display.interactive import Doses, Page, explorer
from interp.display.plotting import require_one
from probes.neurons.plots import CONDITIONS

_MOST_TEXTS = 12


def steer(frame: pd.DataFrame) -> Page:
    """Return a `steer` frame as curves of effect against damage, with a slider that picks the dose."""
    require_one(frame, "run_id")
    by_alpha = frame.interp.summary(by="alpha")
    alphas = sorted(by_alpha["alpha"].unique())
    columns = ["kl", "delta_log_prob", "delta_log_prob_low", "delta_log_prob_high"]
    curves = {}
    for control, (_, _, name) in CONDITIONS.items():
        rows = by_alpha[by_alpha["control"] == control].set_index("alpha")
        if len(rows):
            points = rows.reindex(alphas)[columns].to_numpy(dtype=float).tolist()
            curves[name] = [None if np.isnan(point[0]) else point for point in points]
    one = frame.iloc[0]
    written = frame[(frame["control"] == "none") & frame["text"].notna()].drop_duplicates(["alpha", "prompt_id"])
    n_prompts = written["prompt_id"].nunique()
    texts = [
        [
            f"prompt {row.prompt_id}: {row.text}"
            for row in written[written["alpha"] == alpha].head(_MOST_TEXTS).itertuples()
        ]
        for alpha in alphas
    ]
    item = Doses(
        f"{one['n_neurons']} neurons of “{one['concept']}”",
        [f"α = {alpha:g}" for alpha in alphas],
        "damage: KL(unsteered || steered), nats per token",
        "effect: change of log P(held-out words), nats",
        curves,
        texts,
    )
    note = "Bars and brackets: 95 % bootstrap over prompts."
    if n_prompts > _MOST_TEXTS:
        note += f" Texts of the first {_MOST_TEXTS} of {n_prompts} prompts."
    return explorer(f"{one['model']}: steering by {one['n_neurons']} neurons of “{one['concept']}”", [item], note)
