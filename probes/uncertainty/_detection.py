"""Scores of uncertainty from a trajectory over layers, and how well each tells wrong answers from right ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from interp.authoring import InputError

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
"""Scores, all of them higher for less certainty. The first three read the last layer alone; `output_loss`, minus the
log-probability of the generated token, is the paper's detector. Of the rest, all ours, `slope` (of the generated
token's loss over layers, least squares) and `area` (its mean over layers) read the whole trajectory; `loss_layer`,
`kl_layer` and `top1_layer` are the first layer from which on the loss is below a threshold, the divergence from the
output is, or the generated token is the most probable; L + 1 where that never comes."""

_KEYS = ["model", "run_id", "prompt_id"]


def uncertainty_scores(frame: pd.DataFrame, kl_below: float = 0.1, loss_below: float = 0.69) -> pd.DataFrame:
    """`SCORES` of every prompt of an `iterative_inference` frame, beside `correct`.

    Args:
        frame: rows of every layer 0..L.
        kl_below: divergence from the output that counts as converged, nats.
        loss_below: loss of the generated token that counts as converged, nats.
    """
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
    """The first index from which on all are true; their number where the last is not.

    >>> settled(np.array([True, False, True, True])), settled(np.array([True, False]))
    (2, 2)
    """
    return len(holds) - int(np.cumprod(holds[::-1].astype(int)).sum())


def auc(score: np.ndarray, wrong: np.ndarray) -> float:
    """Probability that a wrong answer's score is above a right one's, ties counting half; NaN without both.

    >>> auc(np.array([0.1, 0.9, 0.9]), np.array([False, True, False]))
    0.75
    """
    n_wrong = int(wrong.sum())
    n_right = len(wrong) - n_wrong
    if not n_wrong or not n_right:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[wrong].sum() - n_wrong * (n_wrong + 1) / 2) / (n_wrong * n_right))


def compare_scores(scores: pd.DataFrame, n_resamples: int = 1000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """AUC of every score, side by side on the same resampled prompts.

    Args:
        scores: of `uncertainty_scores`.
        n_resamples: bootstrap draws, and draws of shuffled answers.
        level: of the intervals.
        seed: of both.

    Returns:
        Per run and score: `n_prompts`, `n_wrong`, `auc`, `auc_low`, `auc_high`; `gain` over the AUC of `output_loss`,
        paired, with its interval; `control_high`, the upper end of the AUC of answers shuffled among prompts.

    Raises:
        InputError: an argument out of range.
    """
    if not 0 < level < 1 or n_resamples < 1:
        raise InputError(f"level={level}, n_resamples={n_resamples}: give a level between 0 and 1, and some resamples.")
    rows = [
        row | {"model": model, "run_id": run_id}
        for (model, run_id), one in scores.groupby(_KEYS[:2], sort=False)
        for row in _compare(one, n_resamples, level, seed)
    ]
    return pd.DataFrame(rows)[["model", "run_id", *(name for name in rows[0] if name not in _KEYS)]]


def _compare(scores: pd.DataFrame, n_resamples: int, level: float, seed: int) -> list[dict[str, object]]:
    wrong, generator = ~scores["correct"].to_numpy(bool), np.random.default_rng(seed)
    values = scores[list(SCORES)].to_numpy(float)
    n = len(values)
    draws = [generator.integers(0, n, n) for _ in range(n_resamples)]
    shuffles = [generator.permutation(n) for _ in range(n_resamples)]
    resampled = np.array([[auc(column[draw], wrong[draw]) for column in values.T] for draw in draws])
    shuffled = np.array([[auc(column, wrong[shuffle]) for column in values.T] for shuffle in shuffles])
    observed = np.array([auc(column, wrong) for column in values.T])
    gain, gains = observed - observed[0], resampled - resampled[:, :1]
    return [
        {"score": name, "n_prompts": n, "n_wrong": int(wrong.sum()), "auc": observed[at]}
        | dict(zip(("auc_low", "auc_high"), _interval(resampled[:, at], level), strict=True))
        | {"gain": gain[at]}
        | dict(zip(("gain_low", "gain_high"), _interval(gains[:, at], level), strict=True))
        | {"control_high": _interval(shuffled[:, at], level)[1]}
        for at, name in enumerate(SCORES)
    ]


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
    """Percentile interval; resamples that hold only right or only wrong answers have no AUC and are left out."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
