"""The path of integrated gradients: a sum over its points, and the sum over every other one as a check."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probes.attribution._embedding import Forward


def rule(n_parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points and weights of the Clenshaw-Curtis rule on 0..1, float64 [n_parts + 1] each.

    It is exact for polynomials of degree `n_parts`, and the points of half as many parts are every other one of its
    own (Clenshaw & Curtis 1960, Numerische Mathematik 2).

    >>> points, weights = rule(2)  # Simpson's
    >>> points.round(6).tolist(), (6 * weights).round(6).tolist()
    ([0.0, 0.5, 1.0], [1.0, 4.0, 1.0])
    """
    k = np.arange(n_parts + 1)
    j = np.arange(1, n_parts // 2 + 1)
    of_term = np.where(2 * j == n_parts, 1.0, 2.0) / (4 * j**2 - 1)
    weights = 1 - np.cos(2 * np.pi * np.outer(k, j) / n_parts) @ of_term
    weights[[0, -1]] /= 2
    return (1 - np.cos(np.pi * k / n_parts)) / 2, weights / n_parts


@dataclass(frozen=True)
class Path:
    """The integrals of a batch.

    Attributes:
        scores: of all parts, [batch, pos].
        half: of half as many.
        change: of the output from the start of the path to its end, [batch].
    """

    scores: Tensor
    half: Tensor
    change: Tensor

    def gaps(self) -> Tensor:
        """Return how far each target is from convergence, relative to its change in output (at least 1), [batch, 3].

        The sum of its scores from the change, the same with half the parts, and the largest difference between a
        token's two scores.
        """
        missed = torch.stack(
            [
                (self.scores.sum(dim=-1) - self.change).abs(),
                (self.half.sum(dim=-1) - self.change).abs(),
                (self.scores - self.half).abs().amax(dim=-1),
            ],
            dim=-1,
        )
        return missed / self.change.abs().clamp(min=1.0)[:, None]


def integrate(forward: Forward, added: Tensor, n_steps: int, variants: int) -> Path:
    """Integrate the gradient from 0 to `added` [batch, pos, d_model].

    Args:
        forward: the output of copies of the batch.
        added: the end of the path.
        n_steps: parts of the path, rounded up to an even number.
        variants: points to run at once.
    """
    n_parts = n_steps + n_steps % 2
    points, weights = rule(n_parts)
    halves = np.zeros(n_parts + 1)
    halves[::2] = rule(n_parts // 2)[1]
    scores, half = (torch.zeros_like(added[..., 0], dtype=torch.float64) for _ in range(2))
    outputs = []
    for start in range(0, n_parts + 1, variants):
        these = slice(start, start + variants)
        at = torch.as_tensor(points[these], dtype=added.dtype, device=added.device)
        inputs = (at[:, None, None, None] * added.detach()).flatten(0, 1).requires_grad_()
        with torch.enable_grad():
            output = forward(inputs)
            (gradient,) = torch.autograd.grad(output.sum(), inputs)
        products = (gradient.view(-1, *added.shape) * added).sum(dim=-1).double()
        for total, weight in ((scores, weights), (half, halves)):
            total += torch.einsum("k,kbp->bp", torch.as_tensor(weight[these]).to(products), products)
        outputs.append(output.detach().view(-1, len(added)))
    ends = torch.cat(outputs)
    return Path(scores, half, (ends[-1] - ends[0]).double())
