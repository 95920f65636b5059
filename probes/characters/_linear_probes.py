"""Linear probes: ridge regression for all letters from one Gram matrix, and logistic regression for comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

PENALTIES = tuple(10.0**power for power in range(-4, 3))
"""Tried by cross-validation; in units of the features' mean variance."""

Features = Callable[[np.ndarray], Tensor]
"""Places of words, int64 [n] -> features, float [n, d]."""


@dataclass(frozen=True)
class _Sums:
    """What least squares needs of a set of words: counts, sums and products, float64."""

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
    """Ridge regression on the folds together, its penalty by cross-validation over them; scores of the test words.

    The Gram matrix is taken once, fold by fold; that of all folds but one is a difference. Every letter's direction is
    (covariance + penalty)⁻¹ (mean of positives - mean of negatives), which is where least squares on 0 and 1 points;
    the score is 0 half-way between the two means, as equally frequent classes ask. One penalty serves all letters of a
    labelling: that with the highest balanced accuracy on the folds left out.

    Args:
        features: of words.
        folds: places of words; no lemma is in two.
        answers: labellings, bool [c, k, n_words].
        eligible: bool [k, n_words]; other words lend a letter their covariance only.
        test: places of the words to score.

    Returns:
        float64 [c, k, len(test)], positive where the answer is taken to be yes.
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
    """Sums over words x [n, d], of which `members` bool [2, k, n] are a letter's negatives and positives."""
    who = members.to(x)
    n = torch.tensor(float(len(x)), dtype=x.dtype, device=x.device)
    return _Sums(n, x.sum(dim=0), x.T @ x, who.sum(dim=2), (who @ x).transpose(1, 2))


def _solve(sums: _Sums, penalties: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Directions [penalty, d, k] and thresholds [penalty, k]."""
    mean = sums.total / sums.n
    covariance = sums.gram / sums.n - torch.outer(mean, mean)
    unit = float(covariance.diagonal().mean()) or 1.0
    added = unit * torch.tensor(penalties, dtype=mean.dtype, device=mean.device)
    penalised = covariance + torch.diag_embed(added[:, None].expand(-1, len(mean)))
    # A letter that lacks one side here gets a direction that tells little, and still a score.
    means = sums.sum_of / sums.n_of.clamp(min=1)[:, None]
    directions = torch.linalg.solve(penalised, means[1] - means[0])
    return directions, (directions * (means[0] + means[1]) / 2).sum(dim=1)


def _balanced_accuracies(x: Tensor, members: Tensor, directions: Tensor, thresholds: Tensor) -> Tensor:
    """Of each solution on words x [n, d] left out, for each letter: float32 [penalty, k], on the CPU."""
    who = members.to(x)
    n_of = who.sum(dim=2).clamp(min=1)
    answered_yes = (directions.mT.to(x) @ x.T > thresholds.to(x)[:, :, None]).to(x)  # [penalty, k, n]
    n_yes = torch.einsum("akn,pkn->apk", who, answered_yes)  # said yes among negatives, and among positives
    return (1 - n_yes[0] / n_of[0] + n_yes[1] / n_of[1]).cpu() / 2


def fit_logistic(x: Tensor, labels: np.ndarray, x_test: Tensor) -> np.ndarray:
    """Logistic regression with an L2 penalty of 1 on features scaled to a mean square of 1: logits [n_test], float64.

    The scale is one number for all features, so that a rotation of them changes nothing.

    Args:
        x: features [n_train, d].
        labels: bool [n_train].
        x_test: features [n_test, d].
    """
    train, test = (one.double().cpu().numpy() for one in (x, x_test))
    scale = np.sqrt(np.mean(train**2)) or 1.0
    model = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-6)
    return model.fit(train / scale, labels).decision_function(test / scale)
