"""Linear maps between residual states, the angles they turn by, and the similarity of two layers' covariances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interp.authoring import NumericalError
from interp.stats.least_squares import Moments


@dataclass(frozen=True)
class RidgeMap:
    """An affine map, x -> (x - before) @ coefficients + after, all float64.

    Attributes:
        coefficients: [p, q].
        before, after: mean states, [p] and [q].
    """

    coefficients: Tensor
    before: Tensor
    after: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Map states [..., p] to [..., q]."""
        return (x.double() - self.before) @ self.coefficients + self.after


def ridge_maps(moments: Moments, widths: list[int], alpha: float) -> list[RidgeMap]:
    """Fit ridge regressions on x of several responses, columns of y with these widths; intercepts are not penalised."""
    scatter = moments.centred()
    ridge = alpha * torch.eye(len(scatter.xx), dtype=torch.float64, device=scatter.xx.device)
    coefficients = torch.linalg.solve(scatter.xx + ridge, scatter.xy)
    before, after = moments.x / moments.n, moments.y / moments.n
    pairs = zip(torch.split(coefficients, widths, dim=1), torch.split(after, widths), strict=True)
    return [RidgeMap(slope, before, end) for slope, end in pairs]


def median_angle(coefficients: Tensor) -> float:
    """Return the median angle by which the eigenvalues of a square map turn, degrees 0..180.

    A positive real eigenvalue turns by 0, a negative one by 180. The eigenvalues of a map without structure lie in all
    directions, with a median of about 90: an angle of 90 means no particular rotation, not a rotation by 90 degrees.

    >>> median_angle(torch.eye(3)), median_angle(-torch.eye(3))
    (0.0, 180.0)

    Raises:
        NumericalError: the map holds NaN or infinity.
    """
    if not torch.isfinite(coefficients).all():
        raise NumericalError("a map between layers holds NaN or infinity; check the model's residuals.")
    eigenvalues = torch.linalg.eigvals(coefficients.double().cpu())
    return float(np.degrees(np.median(eigenvalues.angle().abs().numpy())))


def unrelated_map(xx: Tensor, yy: Tensor, n: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Draw the ridge map [p, q] that random pairing of the same states would give.

    Pairing n centred rows of x and y in random order gives products with mean 0 and covariance xx ⊗ yy / (n - 1). They
    are drawn from the normal distribution with that covariance, which is the limit, so that no states must be kept.

    Args:
        xx: products of centred x, [p, p].
        yy: of centred y, [q, q].
        n: rows.
        alpha: ridge.
        generator: of the draw, on the CPU.
    """
    noise = torch.randn(len(xx), len(yy), generator=generator, dtype=torch.float64).to(xx.device)
    products = _root(xx) @ noise @ _root(yy) / (n - 1) ** 0.5
    ridge = alpha * torch.eye(len(xx), dtype=torch.float64, device=xx.device)
    return torch.linalg.solve(xx + ridge, products)


def without_largest(scatter: Tensor, n_dropped: int = 1) -> Tensor:
    """Remove the directions of largest variance from a scatter matrix [d, d], and divide it by its Frobenius norm.

    The inner product of two results is their `similarity`; NaN if nothing is left.
    """
    values, vectors = torch.linalg.eigh(scatter)
    kept = vectors[:, : len(values) - n_dropped]
    rest = (kept * values[: len(values) - n_dropped].clamp(min=0.0)) @ kept.T
    return rest / rest.norm()


def similarity(one: Tensor, other: Tensor) -> float:
    """Return the Frobenius inner product of two scatter matrices of norm 1."""
    return min(float((one * other).sum()), 1.0)


def _root(scatter: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(scatter)
    return (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T
