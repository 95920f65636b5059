"""Fits from sums against fits from the rows themselves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.trained

EXACT = 1e-9  # float64 sums of a few thousand terms of order one


def test_moments_of_pieces_regress_as_the_whole_does(normal, left, left_directly):
    # Means of 100 standard deviations and scales over six orders of magnitude, as massive dimensions have.
    x = 100 + normal(500, 12) * torch.logspace(-3, 3, 12, dtype=torch.float64)
    y = x @ normal(12, 4, seed=1) / 100 + normal(500, 4, seed=2)
    assert left(x, y) == pytest.approx(left_directly(x.numpy(), y.numpy()), abs=1e-8)


def test_a_direction_without_variance_is_left_out(normal, moments):
    x = normal(300, 8)
    x = x - x.mean(1, keepdim=True)  # as a norm leaves them: rank 7
    fit = moments(x, normal(300, 1, seed=1)).centred().fit()
    assert fit.rank == 7 and torch.isfinite(fit.coefficients).all()


@pytest.mark.parametrize(("smallest", "quick"), [(1.0, True), (1e-3, True), (1e-5, False), (1e-9, False)])
def test_both_decompositions_give_one_fit(normal, moments, smallest, quick):
    """Dimensions that are nearly the same differ by `smallest`; its square is the least variance, about."""
    x = normal(400, 6)
    x = torch.cat([x, x[:, :1] + smallest * normal(400, 1, seed=1)], dim=1) * torch.logspace(-3, 3, 7, dtype=x.dtype)
    step = moments(x, normal(400, 3, seed=2) + x[:, :1]).centred()
    assert (step._factor() is not None) is quick
    fit, path = step.fit(), step.path()
    assert fit.rank == len(path.variances) == (7 if smallest > 1e-7 else 6)
    # Roundings grow with the condition of the correlations, 4e6 at 1e-3.
    torch.testing.assert_close(fit.explained, path.loadings.square().sum(0), rtol=1e-8, atol=EXACT)
    torch.testing.assert_close(fit.coefficients, path.coefficients(0.0), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("smallest", [1.0, 1e-9])
def test_one_decomposition_explains_as_the_fits_of_all_and_of_some_dimensions_do(normal, moments, smallest):
    """With and without a dimension that is nearly another: by Cholesky factors, and by eigenvectors."""
    x = normal(400, 7)
    x = torch.cat([x, x[:, :1] + smallest * normal(400, 1, seed=1)], dim=1)
    step = moments(x, normal(400, 8, seed=2) + x).centred()
    dims = torch.tensor([False, True, True, False, True, True, True, True])
    for found, fit in zip(step.explained(dims), (step.fit(), step.of(dims).fit()), strict=True):
        assert found.rank == fit.rank
        torch.testing.assert_close(found.squares, fit.explained, rtol=1e-8, atol=EXACT)


def test_unrelated_states_leave_one_minus_d_over_n_minus_one(normal, moments):
    n, d, draws = 400, 50, 400
    x = normal(n, d)
    scatter = moments(x, normal(n, draws, seed=1)).centred()
    found = 1 - scatter.fit().explained / scatter.yy
    # Beta distributed with standard deviation 0.0165: the mean of 400 draws lies within four of its errors.
    assert float(found.mean()) == pytest.approx(1 - d / (n - 1), abs=4 * 0.0165 / 20)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-50, 50), scale=st.floats(0.01, 100))
def test_residuals_do_not_see_affine_maps_and_never_grow_with_features(
    normal, left, seed: int, shift: float, scale: float
) -> None:
    x, y = normal(120, 6, seed=seed), normal(120, 1, seed=seed + 1)
    y = y + x[:, :1]
    mapped = x @ (normal(6, 6, seed=seed + 2) + 4 * torch.eye(6, dtype=torch.float64)) + shift
    assert left(mapped, scale * y + shift) == pytest.approx(left(x, y), abs=1e-7)
    assert left(x[:, :3], y) >= left(x, y) - EXACT


def test_held_out_errors_are_those_of_the_fitted_coefficients(normal, moments):
    x, y = normal(300, 5), normal(300, 2, seed=1)
    fitted, tested = moments(x[:200], y[:200]), moments(x[200:], y[200:])
    centre = fitted.x / fitted.n, fitted.y / fitted.n
    coefficients = fitted.about(*centre).fit().coefficients
    predicted = (x[200:] - centre[0]) @ coefficients + centre[1]
    error = (y[200:] - predicted).square().sum(0)
    torch.testing.assert_close(tested.about(*centre).residual(coefficients), error, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("penalty", [0.0, 0.3, 50.0])
def test_a_ridge_penalty_is_that_of_dimensions_of_variance_one(normal, moments, penalty):
    """Against the textbook's formula on standardised rows; scales over six orders of magnitude do not matter."""
    x = (100 + normal(200, 6)) * torch.logspace(-3, 3, 6, dtype=torch.float64)
    y = normal(200, 3, seed=1)
    size = (x - x.mean(0)).norm(dim=0)
    unit = (x - x.mean(0)) / size
    gram = unit.T @ unit + penalty * torch.eye(6, dtype=torch.float64)
    known = torch.linalg.solve(gram, unit.T @ (y - y.mean(0))) / size[:, None]
    found = moments(x, y).centred().path().coefficients(penalty)
    torch.testing.assert_close(
        found * size[:, None], known * size[:, None], rtol=1e-8, atol=1e-8
    )  # squares of 100 cancel
