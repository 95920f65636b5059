"""Least-squares fits from sums over rows, so that the rows need not be kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

# Eigenvalues of a correlation matrix below this share of the largest are squared float32 rounding errors: a direction
# that a norm removed from the states appears as about 1e-14.
_NO_VARIANCE = 1e-12
# Far from that: a correlation matrix in which every direction varies so much is inverted without its eigenvectors.
_ALL_VARY = 1e-10

Accumulate: TypeAlias = Callable[[Tensor, Tensor, Tensor], None]
"""(total [p, q], x [n, p], y [n, q]): a function that adds the products of columns to the total, see `add_products`."""


def add_products(total: Tensor, x: Tensor, y: Tensor) -> None:
    """Add to `total` [p, q] the products of every column of x [n, p] with every column of y [n, q], summed over rows.

    On a CPU numpy's BLAS is faster in float64 than torch's, and computes only half of the product of x with itself.
    """
    if x.device.type == "cpu":
        left = x.numpy()
        total += torch.from_numpy(left.T @ (left if y is x else y.numpy()))
    else:
        total += x.T @ y


@dataclass
class Moments:
    """Sums over rows of x [n, p] and y [n, q], float64.

    Attributes:
        n: number of rows.
        x, y: sums, [p] and [q].
        xx, xy: sums of products, [p, p] and [p, q].
        yy: sums of squares, [q].
    """

    n: int
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    def __add__(self, other: Moments) -> Moments:
        pairs = zip(self._sums(), other._sums(), strict=True)
        return Moments(self.n + other.n, *(one + another for one, another in pairs))

    @property
    def n_bytes(self) -> int:
        """Memory of the sums."""
        return sum(one.nbytes for one in self._sums())

    def state(self) -> dict[str, Tensor]:
        """Return all sums by name, `n` as a tensor too, as `merge` takes them."""
        names = ("x", "y", "xx", "xy", "yy")
        return {"n": torch.tensor([float(self.n)], dtype=torch.float64), **dict(zip(names, self._sums(), strict=True))}

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Add the sums over other rows to these.

        >>> one, other = (Moments.zeros(2, 1, "cpu") for _ in range(2))
        >>> other.add(torch.ones(3, 2).double(), torch.ones(3, 1).double())
        >>> one.merge(other.state())
        >>> one.n, one.xx.tolist()
        (3, [[3.0, 3.0], [3.0, 3.0]])
        """
        self.n += int(state["n"])
        for name, own in self.state().items():
            if name != "n":
                own += state[name].to(own.device)

    @classmethod
    def zeros(cls, p: int, q: int, device: torch.device | str = "cpu") -> Moments:
        """Return the moments of no rows."""
        shapes: tuple[tuple[int, ...], ...] = ((p,), (q,), (p, p), (p, q), (q,))
        return cls(0, *(torch.zeros(shape, dtype=torch.float64, device=device) for shape in shapes))

    def add(
        self,
        x: Tensor,
        y: Tensor,
        runs: tuple[Tensor, Tensor] | None = None,
        accumulate: Accumulate = add_products,
    ) -> None:
        """Add rows, float64.

        Args:
            x: [n, p].
            y: [n, q], or only its first columns.
            runs: the remaining columns of y, if they are constant over runs of consecutive rows: the values of each run
                [r, s] and its number of rows [r]. Then there is one product per run, not per row.
            accumulate: the function that adds up products.
        """
        own = y.shape[1]
        self.n += len(x)
        self.x += x.sum(0)
        accumulate(self.xx, x, x)
        self.y[:own] += y.sum(0)
        accumulate(self.xy[:, :own], x, y)
        self.yy[:own] += y.square().sum(0)
        if runs is None or not len(x):
            return
        values, lengths = runs
        self.y[own:] += lengths.double() @ values
        accumulate(self.xy[:, own:], torch.segment_reduce(x, "sum", lengths=lengths), values)
        self.yy[own:] += lengths.double() @ values.square()

    def about(self, x: Tensor, y: Tensor) -> Scatter:
        """Return sums of products of differences from the points x [p] and y [q]."""
        return Scatter(
            self.n,
            self.xx - torch.outer(self.x, x) - torch.outer(x, self.x) + self.n * torch.outer(x, x),
            self.xy - torch.outer(self.x, y) - torch.outer(x, self.y) + self.n * torch.outer(x, y),
            (self.yy - 2 * self.y * y + self.n * y.square()).clamp_(min=0.0),
        )

    def centred(self) -> Scatter:
        """Return sums of products of differences from the means."""
        return self.about(self.x / self.n, self.y / self.n)

    def _sums(self) -> tuple[Tensor, ...]:
        return self.x, self.y, self.xx, self.xy, self.yy


@dataclass(frozen=True)
class Scatter:
    """Sums of products of centred x and y: `xx` [p, p], `xy` [p, q], `yy` [q] squares only; n rows."""

    n: int
    xx: Tensor
    xy: Tensor
    yy: Tensor

    def fit(self) -> Fit:
        """Fit y on x by least squares, over the directions in which x varies."""
        scaled = self._factor()
        if scaled is None:
            path = self.path()
            return Fit(path.coefficients(0.0), path.loadings.square().sum(0), len(path.variances))
        scale, factor = scaled
        loadings = torch.linalg.solve_triangular(factor, scale[:, None] * self.xy, upper=False)
        coefficients = scale[:, None] * torch.linalg.solve_triangular(factor.T, loadings, upper=True)
        return Fit(coefficients, loadings.square().sum(0), len(scale))

    def explained(self, dims: Tensor) -> tuple[Explained, Explained]:
        """Return what x explains of y, and what the dimensions `dims`, bool [p], do: what `of(dims)` explains.

        One decomposition serves both: with these dimensions first, their Cholesky factor is part of the whole one.
        """
        chosen = dims if len(self.yy) else dims[:0]
        order = (~dims).long().argsort(stable=True)
        ordered = Scatter(self.n, self.xx[order][:, order], self.xy[order], self.yy)
        scaled = ordered._factor()
        if scaled is None:
            paths = [self.path()] if dims.all() else [self.path(), self.of(dims).path()]
            found = [Explained(path.loadings.square().sum(0), len(path.variances)) for path in paths]
            return found[0], found[-1]
        scale, factor = scaled
        squares = torch.linalg.solve_triangular(factor, scale[:, None] * ordered.xy, upper=False).square()
        n_dims = int(dims.sum())
        return Explained(squares.sum(0), len(dims)), Explained(squares[:n_dims, chosen].sum(0), n_dims)

    def _factor(self) -> tuple[Tensor, Tensor] | None:
        """Return the scales [p] that give x variance 1, and the Cholesky factor of its correlations [p, p].

        None unless x surely varies in all directions. This is some ten times as fast as `path`.
        """
        scale = self.xx.diagonal().clamp(min=0.0).rsqrt().nan_to_num(posinf=0.0)
        factor, failed = torch.linalg.cholesky_ex(scale[:, None] * self.xx * scale)
        # The largest eigenvalue is at most the trace, p; the smallest at least 1 / the trace of the inverse.
        if failed or not len(scale) * float(torch.cholesky_inverse(factor).trace()) < 1 / _ALL_VARY:
            return None
        return scale, factor

    def path(self) -> Path:
        """Return the fits of y on x by least squares under every ridge penalty."""
        scale = self.xx.diagonal().clamp(min=0.0).rsqrt().nan_to_num(posinf=0.0)
        # Decompose the correlations: otherwise the rounding of a few dimensions of huge variance would hide all others.
        values, vectors = torch.linalg.eigh(scale[:, None] * self.xx * scale)
        kept = values > _NO_VARIANCE * values[-1].clamp(min=0.0)
        roots = scale[:, None] * vectors[:, kept] * values[kept].rsqrt()
        return Path(values[kept], roots, roots.T @ self.xy)

    def of(self, dims: Tensor) -> Scatter:
        """Return the scatter of some dimensions, bool [p], of x and, if y has any, the same of y."""
        both = dims if len(self.yy) else torch.zeros_like(self.yy, dtype=torch.bool)
        return Scatter(self.n, self.xx[dims][:, dims], self.xy[dims][:, both], self.yy[both])

    def standardised(self) -> Scatter:
        """Return the scatter with all dimensions of x and y scaled to equal variance; those without variance stay 0."""
        x, y = (squares.rsqrt().nan_to_num(posinf=0.0) for squares in (self.xx.diagonal().clamp(min=0.0), self.yy))
        return Scatter(self.n, x[:, None] * self.xx * x, x[:, None] * self.xy * y, self.yy * y * y)

    def residual(self, coefficients: Tensor) -> Tensor:
        """Return the squared error [q] of predicting y by x times any coefficients [p, q]."""
        explained = 2 * self.xy - self.xx @ coefficients
        return (self.yy - (coefficients * explained).sum(0)).clamp_(min=0.0)


@dataclass(frozen=True)
class Fit:
    """A least-squares fit: `coefficients` [p, q], `explained` sums of squares [q], `rank` of x."""

    coefficients: Tensor
    explained: Tensor
    rank: int


@dataclass(frozen=True)
class Explained:
    """The part that a least-squares fit explains: `squares`, the sums of squares of each y [q], by x of a `rank`."""

    squares: Tensor
    rank: int


@dataclass(frozen=True)
class Path:
    """The least-squares fits under every ridge penalty, from one decomposition of x's correlations.

    Attributes:
        variances: of the k directions in which x varies, all dimensions of x scaled to variance 1, [k].
        directions: [p, k].
        loadings: of y on the directions, [k, q].
    """

    variances: Tensor
    directions: Tensor
    loadings: Tensor

    def coefficients(self, penalty: float) -> Tensor:
        """Return the coefficients [p, q]; 0 is plain least squares.

        Args:
            penalty: added to the variance of every direction; 1 is the variance of one dimension.
        """
        shrunk = self.variances / (self.variances + penalty)
        return self.directions @ (shrunk[:, None] * self.loadings)
