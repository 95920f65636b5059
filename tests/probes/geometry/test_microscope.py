"""The microscope: laws of linearity, known clouds, direct computation, bad input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import interp
from interp.errors import InputError
from probes import law_and_microscope, microscope, microscope_tokens, next_token_law
from probes.geometry._linearity import StepMap, anisotropy, linearity, massive_dimensions
from probes.geometry._two_nn import intrinsic_dimension

pytestmark = pytest.mark.trained

EXACT = 1e-9  # float64 sums of a few thousand terms of order one


@pytest.fixture(scope="module")
def scores(moments) -> Callable[[Tensor, Tensor], dict[str, float]]:
    """`scores(x, y)`: the linearity of the step from x to y."""

    def found(x: Tensor, y: Tensor) -> dict[str, float]:
        step = moments(x, y).centred()
        return linearity(step, step.explained(torch.ones(x.shape[1], dtype=torch.bool))[0])

    return found


def test_linear_steps_are_linear(scores, normal):
    x = normal(400, 10)
    affine = x @ normal(10, 10, seed=1) + normal(10, seed=2)
    assert scores(x, affine)["linearity"] == pytest.approx(1, abs=EXACT)
    turned = scores(x, -x)
    assert turned["linearity"] == pytest.approx(1, abs=EXACT)
    assert turned["linearity_centred"] == pytest.approx(1, abs=EXACT)
    still = scores(x, x)
    assert still["linearity"] == pytest.approx(1, abs=EXACT) and np.isnan(still["linearity_centred"])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_laws_of_linearity(scores, normal, moments, seed: int) -> None:
    x, noise = normal(200, 6, seed=seed), normal(200, 6, seed=seed + 1)
    y = x + 0.5 * noise
    found = scores(x, y)
    invertible = normal(6, 6, seed=seed + 2) + 4 * torch.eye(6, dtype=torch.float64)
    rotation = torch.linalg.qr(normal(6, 6, seed=seed + 3)).Q
    assert scores(x @ invertible, 3 * y @ rotation)["linearity"] == pytest.approx(found["linearity"], abs=1e-8)
    # The update's own regression, of which the score is computed without.
    assert scores(x, y - x)["linearity"] == pytest.approx(found["linearity_centred"], abs=1e-8)
    # Singular vectors, as the paper defines it.
    centred = [part - part.mean(0) for part in (x, y)]
    basis = torch.linalg.svd(centred[0], full_matrices=False).U
    by_vectors = float((basis.T @ centred[1]).square().sum() / centred[1].square().sum())
    assert found["linearity"] == pytest.approx(by_vectors, abs=1e-8)
    # Each token's distances add up to what the map leaves.
    missed, stepped, moved = StepMap.of(moments(x, y)).distances(x, y)
    assert float(missed.square().mean()) == pytest.approx(1 - found["linearity"], abs=1e-8)
    assert float(moved.square().mean()) == pytest.approx(1, abs=1e-8)
    update = (y - x) - (y - x).mean(0)
    assert float(stepped.square().mean() / moved.square().mean()) == pytest.approx(
        float(update.square().sum() / centred[1].square().sum()), abs=1e-8
    )


def test_shuffled_states_have_the_null_and_are_adjusted_to_zero(scores, normal):
    x, y = normal(300, 20), normal(300, 20, seed=1)
    generator = torch.Generator().manual_seed(2)
    found = [scores(x, y[torch.randperm(300, generator=generator)]) for _ in range(100)]
    null = found[0]["linearity_null"]
    assert null == pytest.approx(20 / 299)
    # One draw has a standard deviation of about 0.0045; 100 draws.
    assert np.mean([one["linearity"] for one in found]) == pytest.approx(null, abs=4 * 0.0045 / 10)
    assert abs(np.mean([one["linearity_adjusted"] for one in found])) < 4 * 0.005 / 10


def test_anisotropy_and_massive_dimensions_of_known_clouds(normal, moments):
    line = normal(500, 1) @ normal(1, 8, seed=1)
    assert anisotropy(moments(line, line).centred().xx) == pytest.approx(1, abs=EXACT)
    round_cloud = normal(20_000, 8)
    share = anisotropy(moments(round_cloud, round_cloud).centred().xx)
    assert 1 / 8 <= share <= (1 + (8 / 20_000) ** 0.5) ** 2 / 8 * 1.02
    round_cloud[:, 3] *= 30
    assert massive_dimensions([moments(round_cloud, round_cloud)], 10).nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("n_dims", [63, 64, 200])
def test_anisotropy_is_that_of_all_eigenvalues(normal, n_dims):
    states = normal(300, n_dims) * torch.logspace(0, 2, n_dims, dtype=torch.float64)
    apart = torch.block_diag(torch.eye(n_dims - 2), torch.tensor([[0.9, 0.8], [0.8, 0.9]])).double()
    for scatter in (states.T @ states, apart, torch.eye(n_dims, dtype=torch.float64)):
        values = torch.linalg.eigvalsh(scatter)
        # Both are right to the rounding of float64, that of a sum of up to 200 products.
        assert anisotropy(scatter) == pytest.approx(float(values[-1] / values.sum()), rel=1e-12)


def test_the_microscope_equals_direct_computation(texts, residuals, left_directly, small_subject, any_backend):
    subject = small_subject("llama", any_backend)
    ids = texts()
    frame = microscope(subject, ids, n_points=300, massive=1.3).set_index(["layer", "control"])
    states = residuals(subject, ids)
    squares = torch.stack([state[:, 1:].flatten(0, 1).square().mean(0) for state in states])
    usual = ~(squares > 1.3**2 * squares.median(dim=1, keepdim=True).values).any(0)
    assert 0 < int((~usual).sum()) < 32
    for layer in range(len(states)):
        for control, start, dims, scaled in (
            ("none", 0, slice(None), False),
            ("without_first", 1, slice(None), False),
            ("without_massive", 0, usual, False),
            ("without_both", 1, usual, False),
            ("standardised", 1, slice(None), True),
        ):
            row = frame.loc[layer, control]
            chosen = [one[:, start:].flatten(0, 1)[:, dims].numpy() for one in states[layer : layer + 2]]
            chosen = [(one - one.mean(0)) / (one.std(0) if scaled else 1) for one in chosen]
            spectrum = np.linalg.svd(chosen[0], compute_uv=False) ** 2
            assert row["anisotropy"] == pytest.approx(spectrum[0] / spectrum.sum(), abs=1e-8)
            assert row["n_tokens"] == len(chosen[0]) and row["n_dims"] == chosen[0].shape[1]
            if layer < subject.n_layers:
                assert row["linearity"] == pytest.approx(1 - left_directly(*chosen), abs=1e-8)
                update = chosen[1] - chosen[0]
                assert row["linearity_centred"] == pytest.approx(1 - left_directly(chosen[0], update), abs=1e-8)
            else:
                assert np.isnan(row["linearity"])


def test_the_dimension_is_of_all_tokens_where_all_are_drawn(texts, residuals, subject):
    ids = texts()
    frame = microscope(subject, ids).set_index(["layer", "control"])
    for layer, state in enumerate(residuals(subject, ids)):
        found = frame.loc[layer, "without_first"]
        dimension, n_points = intrinsic_dimension(state[:, 1:].flatten(0, 1).numpy())
        assert found["n_points"] == n_points
        assert found["intrinsic_dimension"] == pytest.approx(dimension, rel=1e-3)  # float32 states near each other


def test_the_order_of_prompts_decides_nothing(texts, subject):
    ids = texts()
    frames = [microscope(subject, given, n_points=200).drop(columns="run_id") for given in (ids, ids.flip(0))]
    # Sums of float32 states in another order; two points at nearly the same distance may change places.
    pd.testing.assert_frame_equal(*frames, check_exact=False, rtol=1e-4)


def test_tokens_add_up_to_the_layer(texts, subject):
    ids = texts()
    tokens = microscope_tokens(subject, ids)
    layers = microscope(subject, ids, n_points=10).query("control == 'without_first'").set_index("layer")
    mean_square = tokens[tokens["pos"] > 0].groupby("layer")["nonlinearity"].agg(lambda e: (e**2).mean())
    np.testing.assert_allclose(mean_square, 1 - layers["linearity"].dropna(), atol=1e-8)
    # Of the same error the update explains another share: 1 - error / its own mean square.
    carried = tokens[tokens["pos"] > 0].groupby("layer")["update"].agg(lambda e: (e**2).mean())
    np.testing.assert_allclose(1 - mean_square / carried, layers["linearity_centred"].dropna(), atol=1e-8)
    assert len(tokens) == ids.numel() * subject.n_layers
    assert set(tokens.interp.summary()["layer"]) == set(range(subject.n_layers))


def test_one_pass_gives_both_frames(texts, subject):
    ids = texts(80)
    law, layers = law_and_microscope(subject, ids)
    pd.testing.assert_frame_equal(law, next_token_law(subject, ids))
    pd.testing.assert_frame_equal(layers, microscope(subject, ids))


def test_figures_show_controls(texts, subject):
    law, layers = law_and_microscope(subject, texts(80))
    (axes,) = law.interp.plot().axes
    labels = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert "control: ids shuffled" in labels and "log10" in axes.get_ylabel()
    assert len(layers.interp.plot().axes) == 4
    both = interp.concat([law, next_token_law(subject, texts(80), seed=1)])
    with pytest.raises(InputError, match="select one to draw"):
        both.interp.plot()


@pytest.mark.parametrize(
    ("probe", "arguments", "says"),
    [
        (microscope, {"tokens_per_dim": 1000}, "too few"),
        (microscope, {"massive": 1.0}, "massive=1.0"),
        (microscope, {"n_points": 0}, "n_points=0"),
        (microscope_tokens, {"tokens_per_dim": 1000}, "too few"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(texts, subject, monkeypatch, probe, arguments, says):
    monkeypatch.setattr(interp.Subject, "run", lambda *args, **kwargs: pytest.fail("computed before checking"))
    with pytest.raises(InputError, match=says):
        probe(subject, texts(), **arguments)


def test_too_few_tokens_are_refused(subject, texts):
    with pytest.raises(InputError, match="29 tokens are too few"):
        microscope(subject, texts(1), tokens_per_dim=0)  # no more tokens than dimensions, whatever is asked
