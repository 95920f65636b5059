"""Linearity, anisotropy and massive dimensions, computed from moments alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from interp.authoring import Batch, Run, select_positions
from interp.model.tape import Tape
from interp.stats.least_squares import Accumulate, Explained, Moments, Scatter

_FEW = 64  # dimensions up to which all eigenvalues are as quick as one


def linearity(step: Scatter, explained: Explained) -> dict[str, float]:
    """Return the share of y's variance that the best linear map of x explains; NaN if y has no variance.

    The share is over all dimensions of y together. The update y - x needs no regression of its own: its best map leaves
    the same error, which is then a share of the update's variance.

    Args:
        step: the scatter of x and y.
        explained: what x explains of y.

    Returns:
        `linearity`; `linearity_adjusted`, 1 - (1 - s) (n - 1) / (n - 1 - rank), 0 on average for unrelated states;
        `linearity_null`, rank / (n - 1), the mean over all ways to shuffle the rows of y; `linearity_centred`, the
        share of the update's variance.
    """
    total = float(step.yy.sum())
    names = ("linearity", "linearity_adjusted", "linearity_null", "linearity_centred")
    if not total:
        return dict.fromkeys(names, float("nan"))
    left = min(max(1 - float(explained.squares.sum()) / total, 0.0), 1.0)
    free = step.n - 1 - explained.rank
    adjusted = 1 - left * (step.n - 1) / free if free > 0 else float("nan")
    update = total + float(step.xx.trace()) - 2 * float(step.xy.trace())
    # A smaller update is only the rounding of these sums.
    centred = max(1 - left * total / update, 0.0) if update > 1e-12 * total else float("nan")
    return dict(zip(names, (1 - left, adjusted, explained.rank / (step.n - 1), centred), strict=True))


def anisotropy(scatter: Tensor) -> float:
    """Divide the largest eigenvalue of a scatter matrix [d, d] by the sum of all; NaN if nothing varies.

    >>> anisotropy(torch.eye(4, dtype=torch.float64))
    0.25
    """
    total = float(scatter.trace())
    return min(_largest_eigenvalue(scatter) / total, 1.0) if total else float("nan")


def _largest_eigenvalue(scatter: Tensor) -> float:
    """Return the largest eigenvalue of a symmetric matrix [d, d], to the rounding of float64."""
    if len(scatter) < _FEW:
        return float(torch.linalg.eigvalsh(scatter)[-1])
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    start = np.random.default_rng(0).standard_normal(len(scatter))  # the same at every call
    try:
        (largest,) = eigsh(scatter.cpu().numpy(), 1, which="LA", v0=start, return_eigenvectors=False)
    except ArpackNoConvergence:
        return float(torch.linalg.eigvalsh(scatter)[-1])
    return float(largest)


def massive_dimensions(layers: Sequence[Moments], ratio: float) -> Tensor:
    """Flag dimensions whose root mean square is above `ratio` times the median dimension's in some layer, bool [d]."""
    squares = torch.stack([moments.xx.diagonal() for moments in layers])
    massive: Tensor = (squares > ratio**2 * squares.median(dim=1, keepdim=True).values).any(dim=0)
    return massive


@dataclass(frozen=True)
class StepMap:
    """A step's map: the best linear map from one layer's states to the next layer's.

    Attributes:
        coefficients: of the map, [d, d].
        before, after: mean states of the two layers, [d].
        scale: root mean square distance of the next layer's states from their mean.
    """

    coefficients: Tensor
    before: Tensor
    after: Tensor
    scale: Tensor

    @classmethod
    def of(cls, moments: Moments) -> StepMap:
        """Fit the map to the moments of a step."""
        step = moments.centred()
        scale = (step.yy.sum() / step.n).sqrt()
        return cls(step.fit().coefficients, moments.x / moments.n, moments.y / moments.n, scale)

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the distances of centred states y [n, d] from the mapped x, from x, and from 0, [3, n].

        They are in units of `scale`.
        """
        came, moved = x - self.before, y - self.after
        missed = moved - came @ self.coefficients
        return torch.stack([missed.norm(dim=1), (moved - came).norm(dim=1), moved.norm(dim=1)]) / self.scale


class StepMoments:
    """A sum of moments of every step from a layer to the next, with first positions apart from all others.

    The y of a step is the x of the next one: its sums are computed once.
    """

    def __init__(self, run: Run) -> None:
        d, n_states, device = run.subject.d_model, run.subject.n_layers + 1, run.subject.device
        self._layers = [[Moments.zeros(d, 0, device) for _ in range(n_states)] for _ in range(2)]
        self._steps = torch.zeros(2, n_states - 1, d, d, dtype=torch.float64, device=device)

    @property
    def n_bytes(self) -> int:
        """Memory of the sums."""
        return self._steps.nbytes + sum(one.n_bytes for part in self._layers for one in part)

    @property
    def first(self) -> list[Moments]:
        """Moments of position 0, [L + 1]; the last layer has no next layer, so its y has no columns."""
        return self._joined(0)

    @property
    def inner(self) -> list[Moments]:
        """Moments of all other positions."""
        return self._joined(1)

    def add(self, tape: Tape, batch: Batch, accumulate: Accumulate) -> None:
        """Add a batch to the moments."""
        row, pos = (one.to(tape.last.device) for one in select_positions(batch, None))
        order = (pos > 0).long().argsort(stable=True)  # sort first positions to the front, so that each part is a slice
        at, n_first = (row[order], pos[order]), int((pos == 0).sum())
        parts = slice(None, n_first), slice(n_first, None)
        before: list[Tensor] = []
        for layer in range(tape.n_layers + 1):
            whole = tape.residual(layer)[at].double()
            states = [whole[part] for part in parts]
            for part, own in enumerate(states):
                self._layers[part][layer].add(own, own[:, :0], accumulate=accumulate)
                if before:
                    accumulate(self._steps[part, layer - 1], before[part], own)
            before = states

    def state(self) -> dict[str, Tensor]:
        """Return the moments of the batches that were read."""
        of_layers = {
            f"{part}.{layer}.{name}": value
            for part, layers in enumerate(self._layers)
            for layer, one in enumerate(layers)
            for name, value in one.state().items()
        }
        return of_layers | {"steps": self._steps}

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Add the moments of other batches."""
        self._steps += state["steps"].to(self._steps.device)
        for part, layers in enumerate(self._layers):
            for layer, one in enumerate(layers):
                one.merge({name: state[f"{part}.{layer}.{name}"] for name in one.state()})

    def _joined(self, part: int) -> list[Moments]:
        layers = self._layers[part]
        steps = zip(pairwise(layers), self._steps[part], strict=True)
        return [*(Moments(x.n, x.x, y.x, x.xx, xy, y.xx.diagonal()) for (x, y), xy in steps), layers[-1]]


def step_distances(tape: Tape, at: tuple[Tensor, Tensor], maps: Sequence[StepMap]) -> Tensor:
    """Return `StepMap.distances` of every step at (row, pos) [n], float64 [3, n, L]."""
    row, pos = (one.to(tape.last.device) for one in at)
    each, state = [], tape.residual(0)[row, pos].double()
    for layer, one in enumerate(maps):
        after = tape.residual(layer + 1)[row, pos].double()
        each.append(one.distances(state, after))
        state = after
    return torch.stack(each, dim=2)


def inner_tokens(run: Run) -> int:
    """Count the tokens of a run after the first of each prompt."""
    return sum(len(ids) - 1 for ids in run.tokens.ids)


def step_products(run: Run) -> float:
    """Count the multiplications that the moments of all steps take, for `say_cost`: float64, half of x with itself."""
    per_token = 1.5 * run.subject.d_model**2 * run.subject.n_layers
    return 2 * per_token * sum(len(ids) for ids in run.tokens.ids)
