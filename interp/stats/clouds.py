"""Second moments of a cloud of points in row chunks, its isotropy, and clouds of the same moments as controls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interp.stats.least_squares import Moments

_ROWS = 8192  # of points that are float64 at a time


@dataclass
class CloudSums:
    """Sums over the points of a cloud, [n, d], float64.

    Attributes:
        moments: of the coordinates; its y has no columns.
        units: sum of the points scaled to length 1, [d]; a point at 0 has no direction and is left out.
        n_units: points that are not 0.
        norms: sum of the points' lengths.
    """

    moments: Moments
    units: Tensor
    n_units: int
    norms: float

    @classmethod
    def zeros(cls, d: int, device: torch.device | str = "cpu") -> CloudSums:
        """Return the sums of no points."""
        return cls(Moments.zeros(d, 0, device), torch.zeros(d, dtype=torch.float64, device=device), 0, 0.0)

    @classmethod
    def of(cls, points: np.ndarray) -> CloudSums:
        """Sum up points [n, d]."""
        sums = cls.zeros(points.shape[1])
        for chunk in _chunks(points):
            sums.add(torch.from_numpy(chunk))
        return sums

    def add(self, points: Tensor) -> None:
        """Add points [n, d], float64."""
        lengths = points.norm(dim=1)
        self.moments.add(points, points[:, :0])
        self.units += torch.where(lengths > 0, 1 / lengths, 0.0) @ points
        self.n_units += int((lengths > 0).sum())
        self.norms += float(lengths.sum())

    def __add__(self, other: CloudSums) -> CloudSums:
        return self._with(other, 1)

    def __sub__(self, other: CloudSums) -> CloudSums:
        """Return the sums without points that are among these: a part is left out without reading the others again."""
        return self._with(other, -1)

    def _with(self, other: CloudSums, sign: int) -> CloudSums:
        own, more = self.moments, other.moments
        moments = Moments(
            own.n + sign * more.n, own.x + sign * more.x, own.y, own.xx + sign * more.xx, own.xy, own.yy
        )  # fmt: skip
        return CloudSums(
            moments, self.units + sign * other.units, self.n_units + sign * other.n_units,
            self.norms + sign * other.norms,
        )  # fmt: skip

    @property
    def n(self) -> int:
        """Number of points."""
        return self.moments.n

    @property
    def mean(self) -> Tensor:
        """The mean point, [d]."""
        return self.moments.x / self.n

    def covariance(self) -> Tensor:
        """Return the covariance, divided by n - 1, [d, d]."""
        return self.moments.centred().xx / (self.n - 1)

    def participation(self, *, debiased: bool = False) -> float:
        """Return the participation ratio (tr C)² / ‖C‖², the number of axes over which the variance is spread evenly.

        Few points give too low a ratio. `debiased` divides unbiased estimates of (tr C)² and ‖C‖² for Gaussian points.

        Returns:
            The ratio; NaN if nothing varies, or if too few points are left to tell.
        """
        scatter = self.moments.centred().xx
        return participation(self.n, float(scatter.trace()), float(scatter.square().sum()), debiased=debiased)

    def isoscore(self, *, debiased: bool = False) -> float:
        """Return IsoScore (Rudman et al. 2022) in closed form: (participation - 1) / (d - 1); see `participation`.

        >>> square = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> CloudSums.of(square).isoscore(), CloudSums.of(square * [1, 0]).isoscore()
        (1.0, 0.0)
        """
        d = len(self.units)
        return (self.participation(debiased=debiased) - 1) / (d - 1) if d > 1 else float("nan")

    def mean_cosine(self) -> float:
        """Return the mean cosine of two different points, (‖Σ x/|x|‖² - n) / (n (n - 1)); NaN of fewer than two.

        >>> CloudSums.of(np.array([[1.0, 0.0], [0.0, 2.0]])).mean_cosine()
        0.0
        """
        n = self.n_units
        return (float(self.units.square().sum()) - n) / (n * (n - 1)) if n > 1 else float("nan")

    def mean_norm(self) -> float:
        """Return the mean length of the points."""
        return self.norms / self.n if self.n else float("nan")


def participation(n: int, trace: float, squares: float, *, debiased: bool) -> float:
    """Return the participation ratio of n points; see `CloudSums.participation`.

    Args:
        n: number of points.
        trace: of their scatter, or of the products of the centred points, which is the same.
        squares: sum of its squares, or of those of the products.
        debiased: without the bias of few points, as for Gaussian ones.
    """
    if n < 2 or not trace > 0:
        return float("nan")
    if not debiased:
        return trace**2 / squares
    if n < 3:
        return float("nan")
    above, below = n * trace**2 - 2 * squares, (n - 1) * squares - trace**2  # the other factors are equal
    return above / below if below > 0 else float("nan")


def log_partition(points: np.ndarray, sums: CloudSums) -> float:
    """Return the log of Mu and Viswanath's (2018) score of isotropy: min over c of Z(c), over its maximum; 0 is even.

    Z(c) = Σ exp(c · x) over the points; c are the eigenvectors of Σ x xᵀ with either sign.

    Args:
        points: [n, d].
        sums: of these points.
    """
    _, vectors = torch.linalg.eigh(sums.moments.xx)
    total = np.full(2 * len(vectors), -np.inf)
    for chunk in _chunks(points):
        along = chunk @ vectors.numpy()
        for part, sign in ((slice(None, len(vectors)), 1), (slice(len(vectors), None), -1)):
            total[part] = np.logaddexp(total[part], np.logaddexp.reduce(sign * along, axis=0))
    return float(total.min() - total.max())


def matched_gaussian(points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw as many Gaussian points of the mean and covariance of points [n, d], in their dtype.

    This is what a cloud's second moments alone would give: compare every other statistic of the cloud with its.

    >>> drawn = matched_gaussian(np.array([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0]]), np.random.default_rng(0))
    >>> drawn.shape, bool((drawn[:, 1] == 5.0).all()), bool(drawn[:, 0].std() > 0)
    ((3, 2), True, True)
    """
    n, d = points.shape
    if n <= d:  # the points themselves, mixed, have this covariance
        mean = points.mean(axis=0, dtype=np.float64)
        root = (points - mean) / np.sqrt(max(1, n - 1))
    else:
        sums = CloudSums.of(points)
        mean = sums.mean.numpy()
        covariance = sums.covariance()
        values, vectors = torch.linalg.eigh(covariance)
        # The symmetric root: it does not hang on the signs of eigenvectors.
        root = ((vectors * values.clamp(min=0.0).sqrt()) @ vectors.T).numpy()
        root[:, covariance.diagonal().numpy() <= 0] = 0.0
    drawn = np.empty_like(points)
    for part in _parts(n):
        draws = generator.standard_normal((part.stop - part.start, len(root)))
        drawn[part] = draws @ root + mean
    return drawn


def permuted_columns(points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Permute every coordinate of points [n, d] by itself: each keeps its distribution, and all are independent."""
    drawn = np.empty_like(points)
    for column in range(points.shape[1]):
        drawn[:, column] = generator.permutation(points[:, column])
    return drawn


def random_directions(points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Give every point [n, d] a random direction, and leave it its distance from 0."""
    drawn = np.empty_like(points)
    for part in _parts(len(points)):
        draws = generator.standard_normal((part.stop - part.start, points.shape[1]))
        lengths = np.linalg.norm(points[part].astype(float), axis=1, keepdims=True)
        drawn[part] = draws * (lengths / np.linalg.norm(draws, axis=1, keepdims=True))
    return drawn


def whitened(points: np.ndarray, sums: CloudSums, *, least: float = 1e-10) -> np.ndarray:
    """Whiten points [n, d] by the moments of a cloud: mean 0, and variance 1 in every direction in which that varies.

    Args:
        points: to be whitened.
        sums: of the cloud that decides how.
        least: directions with less than this share of the largest variance are left out.

    Returns:
        [n, k], one column for each of the k directions that are left.
    """
    values, vectors = torch.linalg.eigh(sums.covariance())
    kept = values > least * values[-1]
    return _mapped(points, sums.mean, vectors[:, kept] * values[kept].rsqrt())


def without_top(points: np.ndarray, sums: CloudSums, n: int) -> np.ndarray:
    """Centre points [n, d] and take out the n directions in which a cloud varies most (Mu and Viswanath 2018)."""
    vectors = torch.linalg.eigh(sums.covariance())[1][:, len(sums.units) - n :]
    return _mapped(points, sums.mean, torch.eye(len(vectors), dtype=torch.float64) - vectors @ vectors.T)


def _mapped(points: np.ndarray, mean: Tensor, by: Tensor) -> np.ndarray:
    return np.concatenate([(chunk - mean.numpy()) @ by.numpy() for chunk in _chunks(points)])


def _parts(n: int) -> Iterator[slice]:
    for start in range(0, n, _ROWS):
        yield slice(start, min(start + _ROWS, n))


def _chunks(points: np.ndarray) -> Iterator[np.ndarray]:
    """Yield points as float64, some rows at a time."""
    for part in _parts(len(points)):
        yield np.ascontiguousarray(points[part], dtype=np.float64)
