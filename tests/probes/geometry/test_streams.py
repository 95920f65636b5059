"""The law of next-token prediction and the microscope: planted truth, identities, direct computation, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import interp
from interp.errors import InputError
from interp.runs.holdout import held_out_prompts
from interp.runs.streams import in_background
from interp.stats.least_squares import Moments
from probes import law_and_microscope, microscope, microscope_tokens, next_token_law
from probes.geometry._linearity import StepMap, anisotropy, linearity, massive_dimensions
from probes.geometry._two_nn import intrinsic_dimension
from probes.geometry.next_token_law import fit_line

EXACT = 1e-9  # float64 sums of a few thousand terms of order one


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(x: Tensor, y: Tensor, pieces: int = 3) -> Moments:
    gathered = Moments.zeros(x.shape[1], y.shape[1])
    for rows in zip(x.chunk(pieces), y.chunk(pieces), strict=True):
        gathered.add(*rows)
    return gathered


def left(x: Tensor, y: Tensor) -> float:
    """Share of y's variance a regression on x leaves, by the moments."""
    scatter = moments(x, y).centred()
    return 1 - float(scatter.fit().explained.sum() / scatter.yy.sum())


def left_directly(x: np.ndarray, y: np.ndarray) -> float:
    """The same by numpy's least squares on the rows themselves."""
    design = np.column_stack([x, np.ones(len(x))])
    error = y - design @ np.linalg.lstsq(design, y, rcond=1e-10)[0]
    return float((error**2).sum() / ((y - y.mean(0)) ** 2).sum())


# -- moments ---------------------------------------------------------------------------------------------------------


def test_moments_of_pieces_regress_as_the_whole_does():
    # Means of 100 standard deviations and scales over six orders of magnitude, as massive dimensions have.
    x = 100 + normal(500, 12) * torch.logspace(-3, 3, 12, dtype=torch.float64)
    y = x @ normal(12, 4, seed=1) / 100 + normal(500, 4, seed=2)
    assert left(x, y) == pytest.approx(left_directly(x.numpy(), y.numpy()), abs=1e-8)


def test_sums_made_on_several_cores_are_those_made_on_one():
    x, y = normal(500, 12), normal(500, 4, seed=1)
    runs = normal(100, 3, seed=2), torch.full((100,), 5)
    inline, spread = Moments.zeros(12, 7), Moments.zeros(12, 7)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in range(20):  # more products than may wait at once
            inline.add(x, y, runs)
            with in_background(x.device) as accumulate:
                spread.add(x, y, runs, accumulate)
                assert torch.get_num_threads() == 1
        with pytest.raises(ValueError, match="mismatch"), in_background(x.device) as accumulate:
            accumulate(torch.zeros(12, 4), x, y[1:])  # an error in another thread is not lost
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(n_threads)
    torch.testing.assert_close(spread.xx, inline.xx, rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(spread.xy, inline.xy, rtol=EXACT, atol=EXACT)


def test_a_direction_without_variance_is_left_out():
    x = normal(300, 8)
    x = x - x.mean(1, keepdim=True)  # as a norm leaves them: rank 7
    fit = moments(x, normal(300, 1, seed=1)).centred().fit()
    assert fit.rank == 7 and torch.isfinite(fit.coefficients).all()


def test_unrelated_states_leave_one_minus_d_over_n_minus_one():
    n, d, draws = 400, 50, 400
    x = normal(n, d)
    scatter = moments(x, normal(n, draws, seed=1)).centred()
    found = 1 - scatter.fit().explained / scatter.yy
    # Beta distributed with standard deviation 0.0165: the mean of 400 draws lies within four of its errors.
    assert float(found.mean()) == pytest.approx(1 - d / (n - 1), abs=4 * 0.0165 / 20)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-50, 50), scale=st.floats(0.01, 100))
def test_residuals_do_not_see_affine_maps_and_never_grow_with_features(seed: int, shift: float, scale: float) -> None:
    x, y = normal(120, 6, seed=seed), normal(120, 1, seed=seed + 1)
    y = y + x[:, :1]
    mapped = x @ (normal(6, 6, seed=seed + 2) + 4 * torch.eye(6, dtype=torch.float64)) + shift
    assert left(mapped, scale * y + shift) == pytest.approx(left(x, y), abs=1e-7)
    assert left(x[:, :3], y) >= left(x, y) - EXACT


def test_held_out_errors_are_those_of_the_fitted_coefficients():
    x, y = normal(300, 5), normal(300, 2, seed=1)
    fitted, tested = moments(x[:200], y[:200]), moments(x[200:], y[200:])
    centre = fitted.x / fitted.n, fitted.y / fitted.n
    coefficients = fitted.about(*centre).fit().coefficients
    predicted = (x[200:] - centre[0]) @ coefficients + centre[1]
    error = (y[200:] - predicted).square().sum(0)
    torch.testing.assert_close(tested.about(*centre).residual(coefficients), error, rtol=EXACT, atol=EXACT)


# -- the law ---------------------------------------------------------------------------------------------------------


def test_a_planted_ladder_has_its_slope():
    """x_l = s_l y u + noise leaves sigma² / (s_l² + sigma²); s_l is chosen so that this is rho^l."""
    n, rho, layers = 40_000, 0.8, np.arange(1, 9)
    y, noise = normal(n, 1), normal(n, 10, seed=1)
    direction = torch.nn.functional.normalize(normal(10, seed=2), dim=0)
    residuals = []
    for layer in layers:
        strength = (rho**-layer - 1) ** 0.5  # sigma = 1
        residuals.append(np.log10(left(strength * y * direction + noise, y)))
    fit = fit_line(layers.astype(float), np.array(residuals))
    assert fit["slope"] == pytest.approx(np.log10(rho), abs=2e-3)  # n = 40,000: each point to about 0.005 in ln
    assert fit["pearson_r"] < -0.9999 and fit["odd_deviation"] < 0.01


def test_a_line_through_a_parabola_says_that_it_strays():
    layer = np.arange(1.0, 9.0)
    fit = fit_line(layer, -(layer**2))
    assert fit["pearson_r"] < -0.97  # a monotone curve correlates whatever its shape
    assert fit["max_deviation"] == pytest.approx(7.0)  # slope -9, intercept 15: -1 - 6 at layer 1
    assert np.isnan(fit_line(layer[:2], layer[:2])["slope"])


def texts(n: int = 60, length: int = 30) -> Tensor:
    return torch.randint(3, 61, (n, length), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def subject(small_subject) -> interp.Subject:
    return small_subject("gpt2", "bridge")


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "phi", "olmo2"])
@pytest.mark.parametrize("backend", ["bridge", "nnsight"])
def test_the_law_is_as_published(small_subject, architecture, backend):
    """A fresh norm without gain, from the states themselves, and numpy's least squares."""
    subject = small_subject(architecture, backend)
    ids = texts()
    frame = next_token_law(subject, ids, draws=1)
    states = residuals(subject, ids)
    following = ids[:, 1:].reshape(-1, 1).numpy().astype(float)
    for layer, state in enumerate(states):
        x = state[:, :-1].flatten(0, 1)
        x = x - x.mean(1, keepdim=True) if architecture in ("gpt2", "phi") else x
        x = x / (x.square().mean(1, keepdim=True) + (1e-5 if architecture in ("gpt2", "phi") else 1e-6)).sqrt()
        row = published(frame).loc[layer]
        # The model's norm is computed in float32: about 1e-6 of the variance.
        assert row["residual"] == pytest.approx(left_directly(x.numpy(), following), abs=1e-5)
        vectors = subject.W_U.T.double()[ids[:, 1:].flatten()].numpy()
        unembedding = frame.query("response == 'unembedding' and sample == 'in_sample'").set_index("layer")
        assert unembedding["residual"][layer] == pytest.approx(left_directly(x.numpy(), vectors), abs=1e-5)


def published(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.query("response == 'next' and sample == 'in_sample' and control == 'none'").set_index("layer")


def residuals(subject: interp.Subject, ids: Tensor) -> list[Tensor]:
    """States [prompt, pos, d_model] of layers 0..L, float64."""
    layers = range(subject.n_layers + 1)
    states = subject.run(ids, lambda tape: torch.stack([tape.residual(layer) for layer in layers]))
    return list(states.double())


def test_streaming_equals_direct_computation(subject, monkeypatch):
    ids = texts()
    whole = next_token_law(subject, ids, normalised=False, draws=1)
    monkeypatch.setattr(interp.Subject, "batch_tokens", lambda self, states_per_layer=1: 200)
    pieces = next_token_law(subject, ids, normalised=False, draws=1)
    held_out = held_out_prompts(len(ids), 0.2, 0)
    for layer, state in enumerate(residuals(subject, ids)):
        x, y = state[:, :-1], ids[:, 1:, None].double()
        direct = left_directly(x.flatten(0, 1).numpy(), y.flatten(0, 1).numpy())
        assert published(whole)["residual"][layer] == pytest.approx(direct, abs=1e-8)
        fitted = [part[~held_out].flatten(0, 1).numpy() for part in (x, y)]
        tested = [part[held_out].flatten(0, 1).numpy() for part in (x, y)]
        design = np.column_stack([fitted[0], np.ones(len(fitted[0]))])
        solution = np.linalg.lstsq(design, fitted[1], rcond=1e-10)[0]
        error = tested[1] - np.column_stack([tested[0], np.ones(len(tested[0]))]) @ solution
        share = (error**2).sum() / ((tested[1] - tested[1].mean()) ** 2).sum()
        row = whole.query(f"layer == {layer} and response == 'next' and sample == 'held_out' and control == 'none'")
        assert row["residual"].iat[0] == pytest.approx(share, abs=1e-8)
    # Batches of other shapes round float32 states differently.
    np.testing.assert_allclose(pieces["residual"], whole["residual"], atol=1e-5)
    pd.testing.assert_frame_equal(pieces[["layer", "control", "n_tokens"]], whole[["layer", "control", "n_tokens"]])


def test_shuffled_tokens_leave_the_null(subject):
    frame = next_token_law(subject, texts(200), draws=20)
    control = frame.query("control == 'shuffled_tokens' and sample == 'in_sample'")
    # Standard deviation of one draw about sqrt(2 d) / n = 0.0014; 20 draws.
    assert control["residual"].mean() == pytest.approx(control["null"].mean(), abs=4 * 0.0014 / 20**0.5 + 1e-4)
    assert (frame.query("sample == 'in_sample'")["residual"] <= 1).all()


def test_the_summary_has_a_line_with_and_without_the_last_layer(subject):
    frame = next_token_law(subject, texts(), draws=2)
    summary = frame.interp.summary().set_index(["response", "sample", "control", "layers"])
    curve = published(frame)["log10_residual"]
    line = summary.loc["next", "in_sample", "none", "1..L"]
    assert line["slope"] == pytest.approx(np.polyfit(np.arange(1, 5), curve.loc[1:], 1)[0])
    shorter = summary.loc["next", "in_sample", "none", "1..L-1"]
    assert shorter["slope"] == pytest.approx(np.polyfit(np.arange(1, 4), curve.loc[1:3], 1)[0])
    assert len(summary) == (3 + 1) * 2 * 2  # curves of the id and of the unembedding, samples, lines


# -- linearity -------------------------------------------------------------------------------------------------------


def scores(x: Tensor, y: Tensor) -> dict[str, float]:
    return linearity(moments(x, y).centred())


def test_linear_steps_are_linear():
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
def test_laws_of_linearity(seed: int) -> None:
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


def test_shuffled_states_have_the_null_and_are_adjusted_to_zero():
    x, y = normal(300, 20), normal(300, 20, seed=1)
    generator = torch.Generator().manual_seed(2)
    found = [scores(x, y[torch.randperm(300, generator=generator)]) for _ in range(100)]
    null = found[0]["linearity_null"]
    assert null == pytest.approx(20 / 299)
    # One draw has a standard deviation of about 0.0045; 100 draws.
    assert np.mean([one["linearity"] for one in found]) == pytest.approx(null, abs=4 * 0.0045 / 10)
    assert abs(np.mean([one["linearity_adjusted"] for one in found])) < 4 * 0.005 / 10


def test_anisotropy_and_massive_dimensions_of_known_clouds():
    line = normal(500, 1) @ normal(1, 8, seed=1)
    assert anisotropy(moments(line, line).centred().xx) == pytest.approx(1, abs=EXACT)
    round_cloud = normal(20_000, 8)
    share = anisotropy(moments(round_cloud, round_cloud).centred().xx)
    assert 1 / 8 <= share <= (1 + (8 / 20_000) ** 0.5) ** 2 / 8 * 1.02
    round_cloud[:, 3] *= 30
    assert massive_dimensions([moments(round_cloud, round_cloud)], 10).nonzero().flatten().tolist() == [3]


# -- the microscope --------------------------------------------------------------------------------------------------


def test_the_microscope_equals_direct_computation(small_subject, any_backend):
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


def test_the_dimension_is_of_all_tokens_where_all_are_drawn(subject):
    ids = texts()
    frame = microscope(subject, ids).set_index(["layer", "control"])
    for layer, state in enumerate(residuals(subject, ids)):
        found = frame.loc[layer, "without_first"]
        dimension, n_points = intrinsic_dimension(state[:, 1:].flatten(0, 1).numpy())
        assert found["n_points"] == n_points
        assert found["intrinsic_dimension"] == pytest.approx(dimension, rel=1e-3)  # float32 states near each other


def test_tokens_add_up_to_the_layer(subject):
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


def test_one_pass_gives_both_frames(subject):
    ids = texts(80)
    law, layers = law_and_microscope(subject, ids)
    pd.testing.assert_frame_equal(law, next_token_law(subject, ids))
    pd.testing.assert_frame_equal(layers, microscope(subject, ids))


def test_figures_show_controls(subject):
    law, layers = law_and_microscope(subject, texts(80))
    (axes,) = law.interp.plot().axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "control: ids shuffled" in labels and "log10" in axes.get_ylabel()
    assert len(layers.interp.plot().axes) == 4
    both = interp.concat([law, next_token_law(subject, texts(80), seed=1)])
    with pytest.raises(InputError, match="select one to draw"):
        both.interp.plot()


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probe", "arguments", "says"),
    [
        (next_token_law, {"held_out": 0.0}, "held_out=0.0"),
        (next_token_law, {"draws": 0}, "draws=0"),
        (next_token_law, {"tokens_per_dim": 1000}, r"tokens are too few to regress on 32 dimensions: .* 32000 in all"),
        (microscope, {"tokens_per_dim": 1000}, "too few"),
        (microscope, {"massive": 1.0}, "massive=1.0"),
        (microscope, {"n_points": 0}, "n_points=0"),
        (microscope_tokens, {"tokens_per_dim": 1000}, "too few"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(subject, monkeypatch, probe, arguments, says):
    monkeypatch.setattr(interp.Subject, "run", lambda *args, **kwargs: pytest.fail("computed before checking"))
    with pytest.raises(InputError, match=says):
        probe(subject, texts(), **arguments)


def test_one_prompt_and_few_tokens_are_refused(subject):
    with pytest.raises(InputError, match="at least two"):
        next_token_law(subject, texts(1))
    with pytest.raises(InputError, match="29 tokens are too few"):
        microscope(subject, texts(1), tokens_per_dim=0)  # no more tokens than dimensions, whatever is asked
