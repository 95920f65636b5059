"""Find where an answer arises: the first layers from which on the lens says what the model says at its end."""

from __future__ import annotations

from typing import Any

import pandas as pd

from interp.authoring import InputError
from interp.stats import bootstrap_over_prompts

LAYERS = ("target_layer", "convergence_layer", "kl_layer")
_RUN = ["model", "run_id"]


def arrivals(frame: pd.DataFrame, kl_below: float) -> pd.DataFrame:
    """Return one row per prompt, position and target, with the first layer from which on each of `LAYERS` holds.

    Scanning down from the last layer that was read, a criterion holds as long as no layer has broken it.

    Args:
        frame: of `logit_lens`.
        kl_below: the bound of `kl_layer`, in nats.

    Raises:
        InputError: the bound is not above 0.
    """
    if not kl_below > 0:
        raise InputError(f"kl_below={kl_below}: give a number of nats above 0, as the last layer's KL to itself is 0.")
    keys = [*_RUN, "prompt_id", "pos", "lens", "target_id"]
    at = frame[frame["sublayer"] != "mid"].drop_duplicates([*keys, "layer"])
    at = at.sort_values([*keys, "layer"], ascending=[True] * len(keys) + [False])
    criteria = (at["rank"] == 0).fillna(False), at["agrees_final"], at["kl_to_final"] < kl_below
    groups = [at[key] for key in keys]
    for name, holds in zip(LAYERS, criteria, strict=True):
        unbroken = holds.astype(int).groupby(groups, dropna=False).cumprod().astype(bool)
        at[name] = at["layer"].astype("Int64").where(unbroken)
    first = at.groupby([*keys, "token", "target"], dropna=False)[list(LAYERS)].min()
    return first.reset_index().sort_values(keys, ignore_index=True)


def mean_arrivals(frame: pd.DataFrame, kl_below: float, targets_apart: bool, **options: Any) -> pd.DataFrame:
    """Average `arrivals` over prompts, per run and lens, and the share of places whose target arrives.

    Args:
        frame: of `logit_lens`.
        kl_below: see `arrivals`.
        targets_apart: keep the targets apart, as where every prompt has the same several.
        options: of `bootstrap_over_prompts`.
    """
    first = arrivals(frame[frame["pos"] > 0], kl_below)
    arrives = first["target_layer"].notna().astype("Float64").where(first["target_id"].notna())
    by = [*_RUN, "lens", *(("target_id", "target") if targets_apart else ())]
    return bootstrap_over_prompts(first.assign(target_arrives=arrives), by, [*LAYERS, "target_arrives"], **options)
