"""Linear probes: ridge regression for all letters from one Gram matrix, and logistic regression for comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PENALTIES = tuple(10.0**power for power in range(-4, 3))
"""Penalties tried by cross-validation, in units of the features' mean variance."""

Features = Callable[[np.ndarray], Tensor]
"""A function from places of words, int64 [n], to features, float [n, d]."""


@dataclass(frozen=True)
class _Sums:
    """Counts, sums and products over a set of words that least squares needs, float64."""

    n: Tensor  # []
    total: Tensor  # [d]
    gram: Tensor  # [d, d]
    n_of: Tensor  # [2, k], of negatives and positives
    sum_of: Tensor  # [2, d, k]

    def __add__(self, other: _Sums) -> _Sums:
        return self._with(other, 1)

    def __sub__(self, other: _Sums) -> _Sums:
        return self._with(other, -1)

    def _with(self, other: _Sums, sign: int) -> _Sums:
        return _Sums(
            *(mine + sign * theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True))
        )


def fit_ridge(
    features: Features, folds: Sequence[np.ndarray], answers: np.ndarray, eligible: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Fit ridge regression to all folds, with a penalty from cross-validation over them, and score the test words.

    The Gram matrix is computed once per fold; that of all other folds is a difference. Every letter's direction is
    (covariance + penalty)⁻¹ (mean of positives - mean of negatives), the direction of least squares on labels 0 and 1.
    The score is 0 half-way between the two means, as equally frequent classes require. All letters of a labelling share
    one penalty, the one with the highest balanced accuracy on the left-out folds.

    Args:
        features: of words.
        folds: places of words; no lemma is in two folds.
        answers: labellings, bool [c, k, n_words].
        eligible: bool [k, n_words]; for a letter, other words count only in the covariance.
        test: places of the words to score.

    Returns:
        Scores, float64 [c, k, len(test)]; positive means yes.
    """
    n_labellings, n_letters = answers.shape[:2]
    yes = answers.reshape(-1, answers.shape[2])
    able = np.tile(eligible, (n_labellings, 1))
    members = [
        torch.from_numpy(np.stack([able[:, part] & ~yes[:, part], able[:, part] & yes[:, part]])) for part in folds
    ]
    sums = [_sums_of(features(part).double(), one) for part, one in zip(folds, members, strict=True)]
    whole = sums[0]
    for one in sums[1:]:
        whole = whole + one
    right = torch.zeros(len(PENALTIES), len(yes))
    for part, own, held_out in zip(folds, members, sums, strict=True):
        right += _balanced_accuracies(features(part), own, *_solve(whole - held_out, PENALTIES))
    best = right.view(len(PENALTIES), n_labellings, n_letters).mean(dim=2).argmax(dim=0).tolist()
    x = features(test).double()
    scores = []
    directions, thresholds = _solve(whole, [PENALTIES[place] for place in best])
    for labelling in range(n_labellings):
        own_letters = slice(labelling * n_letters, (labelling + 1) * n_letters)
        found = x @ directions[labelling, :, own_letters] - thresholds[labelling, own_letters]
        scores.append(found.T.cpu().numpy())
    return np.stack(scores)


def _sums_of(x: Tensor, members: Tensor) -> _Sums:
    """Sum over words x [n, d]; `members`, bool [2, k, n], marks the negatives and positives of each letter."""
    who = members.to(x)
    n = torch.tensor(float(len(x)), dtype=x.dtype, device=x.device)
    return _Sums(n, x.sum(dim=0), x.T @ x, who.sum(dim=2), (who @ x).transpose(1, 2))


def _solve(sums: _Sums, penalties: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return directions [penalty, d, k] and thresholds [penalty, k]."""
    mean = sums.total / sums.n
    covariance = sums.gram / sums.n - torch.outer(mean, mean)
    unit = float(covariance.diagonal().mean()) or 1.0
    added = unit * torch.tensor(penalties, dtype=mean.dtype, device=mean.device)
    penalised = covariance + torch.diag_embed(added[:, None].expand(-1, len(mean)))
    # A letter without positives or negatives here still gets a score, from a direction that means little.
    means = sums.sum_of / sums.n_of.clamp(min=1)[:, None]
    directions = torch.linalg.solve(penalised, means[1] - means[0])
    return directions, (directions * (means[0] + means[1]) / 2).sum(dim=1)


def _balanced_accuracies(x: Tensor, members: Tensor, directions: Tensor, thresholds: Tensor) -> Tensor:
    """Return each solution's balanced accuracy per letter on left-out words x [n, d]: float32 [penalty, k], CPU."""
    who = members.to(x)
    n_of = who.sum(dim=2).clamp(min=1)
    answered_yes = (directions.mT.to(x) @ x.T > thresholds.to(x)[:, :, None]).to(x)  # [penalty, k, n]
    n_yes = torch.einsum("akn,pkn->apk", who, answered_yes)  # answers yes among negatives, and among positives
    return (1 - n_yes[0] / n_of[0] + n_yes[1] / n_of[1]).cpu() / 2


def fit_logistic(x: Tensor, labels: np.ndarray, x_test: Tensor) -> np.ndarray:
    """Fit logistic regression with an L2 penalty of 1 to features of mean square 1; return logits [n_test], float64.

    All features are scaled by one number, so that a rotation of them changes nothing.

    Args:
        x: features [n_train, d].
        labels: bool [n_train].
        x_test: features [n_test, d].
    """
    from sklearn.linear_model import LogisticRegression

    train, test = (one.double().cpu().numpy() for one in (x, x_test))
    scale = np.sqrt(np.mean(train**2)) or 1.0
    model = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-6)
    return model.fit(train / scale, labels).decision_function(test / scale)
