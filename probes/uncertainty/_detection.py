"""Scores of uncertainty from a trajectory over layers, and their AUC for telling wrong from right answers."""

from __future__ import annotations

from numbers import Real

import numpy as np
import pandas as pd

from interp.authoring import InputError
from interp.stats import auc, check_resampling, draw_units, interval

SCORES = (
    "output_loss",
    "output_entropy",
    "output_margin",
    "slope",
    "area",
    "loss_layer",
    "kl_layer",
    "top1_layer",
)
"""Scores, each higher for less certainty. The first three read the last layer alone; `output_loss`, minus the
log-probability of the generated token, is the paper's detector. The others are ours. `slope` (of the generated token's
loss over layers, least squares) and `area` (its mean over layers) read the whole trajectory. `loss_layer`, `kl_layer`
and `top1_layer` are the first layer from which on the loss is below a threshold, the divergence from the output is
below a threshold, or the generated token is the most probable; L + 1 if there is no such layer."""

LEAST = 6
"""Right answers, and wrong ones, that an interval of an AUC needs: fewer can be resampled in too few ways."""

_KEYS = ["model", "run_id", "prompt_id"]


def uncertainty_scores(frame: pd.DataFrame, kl_below: float = 0.1, loss_below: float = 0.69) -> pd.DataFrame:
    """Compute the `SCORES` and `correct` of every prompt of an `iterative_inference` frame.

    Args:
        frame: of `iterative_inference`, with rows of every layer 0..L.
        kl_below: divergence from the output that counts as converged, nats.
        loss_below: loss of the generated token that counts as converged, nats.

    Raises:
        InputError: a threshold is not a finite number above 0.
    """
    for name, value in (("kl_below", kl_below), ("loss_below", loss_below)):
        if not (isinstance(value, Real) and 0 < value < float("inf")):
            raise InputError(f"{name}={value!r}: give a finite number of nats above 0.")
    rows = []
    for keys, one in frame.groupby(_KEYS, sort=False):
        one = one.sort_values("layer")
        last, layer, loss = one.iloc[-1], one["layer"].to_numpy(float), one["loss_generated"].to_numpy()
        rows.append(
            dict(zip(_KEYS, keys, strict=True))
            | {
                "correct": bool(last["correct"]),
                "output_loss": loss[-1],
                "output_entropy": last["entropy"],
                "output_margin": -last["margin"],
                "slope": np.polyfit(layer, loss, 1)[0],
                "area": loss.mean(),
                "loss_layer": settled(loss <= loss_below),
                "kl_layer": settled(one["kl_to_final"].to_numpy() <= kl_below),
                "top1_layer": settled(one["agrees_final"].to_numpy()),
            }
        )
    return pd.DataFrame(rows)


def settled(holds: np.ndarray) -> int:
    """Return the first index from which on all are true; the number of values if the last is not.

    >>> settled(np.array([True, False, True, True])), settled(np.array([True, False]))
    (2, 2)
    """
    return len(holds) - int(np.cumprod(holds[::-1].astype(int)).sum())


def compare_scores(scores: pd.DataFrame, n_resamples: int = 1000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Compare the AUC of all scores on the same resampled prompts.

    Args:
        scores: of `uncertainty_scores`.
        n_resamples: bootstrap draws, and draws of shuffled answers.
        level: of the intervals.
        seed: of the resampling and the shuffling.

    Returns:
        Per run and score: `n_prompts`, `n_right`, `n_wrong`, `auc`, `auc_low`, `auc_high`; `gain` over the AUC of
        `output_loss`, paired, with its interval; `control_high`, the upper end of the AUC with answers shuffled among
        prompts. With fewer than six right or six wrong answers there is no interval, and `note` says so.

    Raises:
        InputError: an argument is out of range.
    """
    check_resampling(level, n_resamples)
    rows = [
        row | {"model": model, "run_id": run_id}
        for (model, run_id), one in scores.groupby(_KEYS[:2], sort=False)
        for row in _compare(one, n_resamples, level, seed)
    ]
    return pd.DataFrame(rows)[["model", "run_id", *(name for name in rows[0] if name not in _KEYS)]]


def _compare(scores: pd.DataFrame, n_resamples: int, level: float, seed: int) -> list[dict[str, object]]:
    wrong = ~scores["correct"].to_numpy(bool)
    values = scores[list(SCORES)].to_numpy(float)
    n = len(values)
    shuffles = np.random.default_rng([seed, 1]).permuted(np.tile(np.arange(n), (n_resamples, 1)), axis=1)
    # Draws that hold only right or only wrong answers have no AUC.
    draws = draw_units(n, n_resamples, seed)
    resampled = np.array([[auc(column[draw], wrong[draw]) for column in values.T] for draw in draws])
    shuffled = np.array([[auc(column, wrong[shuffle]) for column in values.T] for shuffle in shuffles])
    observed = np.array([auc(column, wrong) for column in values.T])
    gain, gains = observed - observed[0], resampled - resampled[:, :1]
    ends, gain_ends = interval(resampled.T, n, level), interval(gains.T, n, level)
    note = too_few(wrong)
    if note:
        ends = gain_ends = (np.full(len(SCORES), np.nan),) * 2
    return [
        {"score": name, "n_prompts": n, "n_right": int((~wrong).sum()), "n_wrong": int(wrong.sum())}
        | {"auc": observed[at]}
        | {"auc_low": ends[0][at], "auc_high": ends[1][at]}
        | {"gain": gain[at], "gain_low": gain_ends[0][at], "gain_high": gain_ends[1][at]}
        | {"control_high": float(np.quantile(shuffled[:, at], (1 + level) / 2)), "note": note}
        for at, name in enumerate(SCORES)
    ]


def too_few(wrong: np.ndarray) -> str:
    """Return why an AUC has no interval; "" if there are enough right and wrong answers.

    >>> too_few(np.array([True] * 9 + [False] * 3))
    '9 of 12 answers are wrong: an AUC needs six or more of each kind'
    """
    n_wrong, n = int(wrong.sum()), len(wrong)
    if min(n_wrong, n - n_wrong) >= LEAST:
        return ""
    return f"{n_wrong} of {n} answers are wrong: an AUC needs six or more of each kind"
