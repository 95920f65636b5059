"""Correlation of two surprisals, alone and given a third, with intervals over prompts."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from interp.authoring import InputError, UnknownName
from interp.stats import count_draws, draws_in_parts, interval

Infinite: TypeAlias = Literal["max", "drop"]
"""Rule for tokens that were never counted, whose surprisal is infinite: take the largest finite one, or leave out."""

_NAMES = ("r", "partial_r", "baseline_r")
# A squared correlation this near 1 counts as 1: what the third variable leaves is rounding.
_DETERMINED = 1 - 1e-12


def finite(surprisals: NDArray[np.float64], rule: Infinite) -> NDArray[np.float64]:
    """Replace infinite surprisals by the largest finite one ("max"), or by NaN ("drop").

    >>> finite(np.array([1.0, np.inf, 3.0]), "max").tolist(), finite(np.array([1.0, np.inf]), "drop").tolist()
    ([1.0, 3.0, 3.0], [1.0, nan])

    Raises:
        UnknownName: `rule` is something else.
        InputError: no surprisal is finite.
    """
    if rule not in ("max", "drop"):
        raise UnknownName("rule for infinite surprisals", str(rule), ("max", "drop"))
    known = np.isfinite(surprisals)
    if not known.any():
        raise InputError("no token's bigram surprisal is finite; count a corpus that holds some of these pairs.")
    return np.where(known, surprisals, surprisals[known].max() if rule == "max" else np.nan)


def correlate(
    prompts: NDArray[np.int64],
    measured: NDArray[np.float64],
    bigram: NDArray[np.float64],
    unigram: NDArray[np.float64],
    *,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """Compute Pearson correlations over all tokens [n] together, with intervals over resampled prompts.

    Frequent tokens are unsurprising to every model, and that alone correlates any two models. `partial_r` is the
    correlation that is left once the unigram surprisal is known; `baseline_r` is the unigram surprisal's own.

    Args:
        prompts: prompt of each token.
        measured: surprisals of the model under study.
        bigram: surprisals of the bigram model; tokens where it is NaN are left out.
        unigram: surprisals of the unigram model.
        level: of the intervals, which need two prompts.
        n_resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        `r`, `partial_r`, `baseline_r`, each with `_low` and `_high`, and `n`, the number of tokens used. NaN if
        undefined: without variance, or with nothing left given the unigram surprisal.
    """
    kept = ~np.isnan(bigram)
    _, which = np.unique(prompts[kept], return_inverse=True)
    sums = _sums_by_prompt(which, np.stack([measured[kept], bigram[kept], unigram[kept]]))
    n_prompts = len(sums)
    drawn = np.concatenate([count_draws(draws) @ sums for _, draws in draws_in_parts(n_prompts, n_resamples, seed)])
    whole, resampled = _coefficients(sums.sum(0)[None]), _coefficients(drawn)
    found: dict[str, float] = {"n": int(kept.sum())}
    for name in _NAMES:
        found[name] = float(whole[name][0])
        low, high = interval(resampled[name][None], n_prompts, level)
        found[f"{name}_low"], found[f"{name}_high"] = float(low[0]), float(high[0])
    return found


def _sums_by_prompt(which: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the number of tokens, three sums and nine sums of products per prompt, [prompts, 13]."""
    centred = values - values.mean(axis=1, keepdims=True)  # a large mean would cost digits in the products
    products = (centred[:, None] * centred[None]).reshape(9, -1)
    terms = [np.ones(values.shape[1]), *centred, *products]
    return np.stack([np.bincount(which, weights=term) for term in terms], axis=1)


def _coefficients(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Compute correlations from rows of sums [resamples, 13]."""
    n, means = sums[:, :1], sums[:, 1:4] / sums[:, :1]
    covariance = (sums[:, 4:] / n).reshape(-1, 3, 3) - means[:, :, None] * means[:, None]
    spread = np.sqrt(np.clip(np.diagonal(covariance, axis1=1, axis2=2), 0, None))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = covariance / (spread[:, :, None] * spread[:, None])
        with_bigram, with_unigram, baseline = r[:, 0, 1], r[:, 0, 2], r[:, 1, 2]
        left = (1 - with_unigram**2) * (1 - baseline**2)
        partial = (with_bigram - with_unigram * baseline) / np.sqrt(left)
    determined = np.maximum(with_unigram**2, baseline**2) > _DETERMINED
    return {"r": with_bigram, "partial_r": np.where(determined, np.nan, partial), "baseline_r": baseline}
