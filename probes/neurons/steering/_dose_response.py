"""Summarise dose-response curves: is there an effect, is it monotone, does it exceed the controls at equal damage?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import InputError
from interp.stats import bootstrap_over_prompts, count_draws, draw_units, interval

_KEYS = ["model", "run_id", "concept", "control"]
# The prediction holds where the mean measured change of logits is within this share of the mean prediction, or within
# so many logits where the prediction is near zero.
_SHARE, _LOGITS = 0.25, 0.1


def summarise_steering(
    frame: pd.DataFrame,
    by: str = "control",
    *,
    at_kl: float = 0.1,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Summarise a steering frame, with bootstrap intervals over prompts.

    Args:
        frame: of `steer`.
        by: "control": one row per condition, at the model's output:
            `effect`, the change of the concept's log-probability at the largest alpha, with the `kl` it costs there;
            `monotone`, Spearman's correlation of alpha and effect per prompt, missing where the effect never changes;
            `effect_at_kl`, interpolated along the curve of effect against KL where the mean KL is `at_kl`, missing
            where no alpha costs as much; `excess`, the measurement's minus the condition's at that same KL;
            `slope` and `r`, measured on predicted change of logits over prompts and alphas; `linear_until`, the largest
            |alpha| up to which the mean prediction holds within 25 % or 0.1 logits, missing where it never does.
            "alpha": means per condition and alpha, at the output. "layer": also per layer.
        at_kl: nats at which conditions are compared.
        level: of the intervals.
        n_resamples: bootstrap draws.
        seed: of the draws.

    Raises:
        InputError: another `by`, or no rows.
    """
    if frame.empty:
        raise InputError("the frame has no rows to summarise; give one of steer.")
    output = frame[frame["layer"] == frame.groupby("run_id")["layer"].transform("max")]
    options: dict[str, Any] = {"level": level, "n_resamples": n_resamples, "seed": seed}
    if by in ("alpha", "layer"):
        values = ["delta_log_prob", "delta_logit_predicted", "delta_logit", "kl", "loss_ratio", "concept_frequency"]
        chosen, keys = (output, []) if by == "alpha" else (frame, ["layer"])
        return bootstrap_over_prompts(chosen, [*_KEYS, "alpha", *keys], values, **options)
    if by != "control":
        raise InputError(f"by={by!r}: choose 'control', 'alpha' or 'layer'.")
    rows = []
    for _, one in output.groupby(["model", "run_id", "concept"], sort=False):
        rows += _conditions(one, at_kl, **options)
    return pd.DataFrame(rows)


def _conditions(
    frame: pd.DataFrame, at_kl: float, *, level: float, n_resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Return one row per condition of one run."""
    n_prompts = frame["prompt_id"].nunique()
    # The first row of weights is the sample itself, the others are resamples.
    counts = count_draws(draw_units(n_prompts, n_resamples, seed))
    weights = np.vstack([np.ones(n_prompts), counts]) / n_prompts

    def with_interval(name: str, values: np.ndarray) -> dict[str, float]:
        low, high = interval(values[None, 1:], n_prompts, level)
        return {name: values[0], f"{name}_low": low[0], f"{name}_high": high[0]}

    rows, measured = [], None
    for control in frame["control"].unique():
        one = frame[frame["control"] == control]
        curves = {
            name: one.pivot(index="prompt_id", columns="alpha", values=name).to_numpy()
            for name in ("delta_log_prob", "kl", "delta_logit", "delta_logit_predicted")
        }
        alphas = np.sort(one["alpha"].unique())
        largest = int(np.abs(alphas).argmax())
        effect, kl = weights @ curves["delta_log_prob"], weights @ curves["kl"]
        matched = np.array([effect_at(*curve, at_kl) for curve in zip(kl, effect, strict=True)])
        measured = matched if measured is None else measured  # "none" comes first
        head = one.iloc[0][_KEYS].to_dict() | {"n_neurons": one["n_neurons"].iat[0], "n_prompts": n_prompts}
        monotone = _weighted_mean(weights, _spearman(alphas, curves["delta_log_prob"]))
        rows.append(
            head
            | {"alpha": alphas[largest]}
            | with_interval("effect", effect[:, largest])
            | {"kl": kl[0, largest]}
            | with_interval("monotone", monotone)
            | {"at_kl": at_kl}
            | with_interval("effect_at_kl", matched)
            | (with_interval("excess", measured - matched) if control != "none" else dict.fromkeys(_EXCESS, np.nan))
            | _linearity(alphas, curves["delta_logit"], curves["delta_logit_predicted"])
        )
    return rows


_EXCESS = ("excess", "excess_low", "excess_high")


def effect_at(kl: np.ndarray, effect: np.ndarray, target: float) -> float:
    """Interpolate the effect at a KL on the curve of effect against KL, from (0, 0); NaN beyond its end.

    >>> effect_at(np.array([0.1, 0.4]), np.array([1.0, 2.0]), 0.25)
    1.5
    >>> effect_at(np.array([0.1, 0.4]), np.array([1.0, 2.0]), 0.5)
    nan
    """
    order = np.argsort(kl, kind="stable")
    kl, effect = np.concatenate([[0.0], kl[order]]), np.concatenate([[0.0], effect[order]])
    return float(np.interp(target, kl, effect)) if target <= kl[-1] else float("nan")


def _spearman(alphas: np.ndarray, effect: np.ndarray) -> np.ndarray:
    """Compute Spearman's correlation of alpha and effect per prompt, [prompts]; NaN where either is constant."""
    from scipy.stats import rankdata

    ranks, order = rankdata(effect, axis=1), rankdata(alphas)
    ranks, order = ranks - ranks.mean(axis=1, keepdims=True), order - order.mean()
    with np.errstate(invalid="ignore"):
        found: np.ndarray = (ranks @ order) / np.sqrt((ranks**2).sum(axis=1) * (order**2).sum())
    return found


def _weighted_mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Average over prompts under each row of weights, leaving missing values out."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means: np.ndarray = (weights @ np.where(known, values, 0.0)) / (weights @ known)
    return means


def _linearity(alphas: np.ndarray, measured: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Compare the predicted change of logits with the measured one, [prompts, alphas] each."""
    nothing = dict.fromkeys(("slope", "r", "linear_until"), float("nan"))
    if np.isnan(predicted).any() or not (predicted**2).sum() > 0:
        return nothing
    slope = float((measured * predicted).sum() / (predicted**2).sum())
    varies = measured.std() > 0 and predicted.std() > 0
    r = float(np.corrcoef(measured.ravel(), predicted.ravel())[0, 1]) if varies else float("nan")
    until = float("nan")
    for index in np.argsort(np.abs(alphas), kind="stable"):
        mean, note = measured[:, index].mean(), predicted[:, index].mean()
        if abs(mean - note) > max(_SHARE * abs(note), _LOGITS):
            break
        until = float(abs(alphas[index]))
    return {"slope": slope, "r": r, "linear_until": until}
