"""The law of next-token prediction: planted truth, the published formula, direct computation, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import InputError
from interp.runs.holdout import held_out_prompts
from probes import next_token_law
from probes.geometry.next_token_law import fit_line

pytestmark = pytest.mark.trained


def test_a_planted_ladder_has_its_slope(normal, left):
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


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "phi", "olmo2"])
@pytest.mark.parametrize("backend", ["bridge", "nnsight"])
def test_the_law_is_as_published(texts, residuals, left_directly, small_subject, architecture, backend):
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


def test_streaming_equals_direct_computation(texts, residuals, left_directly, subject, monkeypatch):
    ids = texts()
    whole = next_token_law(subject, ids, normalised=False, draws=1)
    monkeypatch.setattr(interp.Subject, "batch_tokens", lambda self, states_per_layer=1: 200)
    pieces = next_token_law(subject, ids, normalised=False, draws=1)
    held_out = held_out_prompts(list(ids), 0.2, 0)
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


def test_the_order_of_prompts_decides_nothing(texts, subject):
    ids = texts()
    frames = [next_token_law(subject, given, draws=2).drop(columns="run_id") for given in (ids, ids.flip(0))]
    # Sums of float32 states in another order; held out, errors are of coefficients fitted to them.
    pd.testing.assert_frame_equal(*frames, check_exact=False, atol=1e-4)


def test_shuffled_tokens_leave_the_null(texts, subject):
    frame = next_token_law(subject, texts(200), draws=20)
    control = frame.query("control == 'shuffled_tokens' and sample == 'in_sample'")
    # Standard deviation of one draw about sqrt(2 d) / n = 0.0014; 20 draws.
    assert control["residual"].mean() == pytest.approx(control["null"].mean(), abs=4 * 0.0014 / 20**0.5 + 1e-4)
    assert (frame.query("sample == 'in_sample'")["residual"] <= 1).all()


def test_the_summary_has_a_line_with_and_without_the_last_layer(texts, subject):
    frame = next_token_law(subject, texts(), draws=2)
    summary = frame.interp.summary().set_index(["response", "sample", "control", "layers"])
    curve = published(frame)["log10_residual"]
    line = summary.loc["next", "in_sample", "none", "1..L"]
    assert line["slope"] == pytest.approx(np.polyfit(np.arange(1, 5), curve.loc[1:], 1)[0])
    shorter = summary.loc["next", "in_sample", "none", "1..L-1"]
    assert shorter["slope"] == pytest.approx(np.polyfit(np.arange(1, 4), curve.loc[1:3], 1)[0])
    assert len(summary) == (3 + 1) * 2 * 2  # curves of the id and of the unembedding, samples, lines


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"held_out": 0.0}, "held_out=0.0"),
        ({"draws": 0}, "draws=0"),
        ({"tokens_per_dim": 1000}, r"tokens are too few to regress on 32 dimensions: .* 32000 in all"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(texts, subject, monkeypatch, arguments, says):
    monkeypatch.setattr(interp.Subject, "run", lambda *args, **kwargs: pytest.fail("computed before checking"))
    with pytest.raises(InputError, match=says):
        next_token_law(subject, texts(), **arguments)


def test_one_prompt_is_refused(subject, texts):
    with pytest.raises(InputError, match="at least two"):
        next_token_law(subject, texts(1))
