"""Isotropy: of planted embeddings, against plain NumPy on states, groups of tokens, intervals, invariances."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import InputError
from probes import isotropy
from probes.geometry.clouds.isotropy import _measured

TEXTS = torch.randint(3, 61, (14, 9), generator=torch.Generator().manual_seed(0))


def values(frame: pd.DataFrame, control: str = "none") -> pd.Series:
    """The metrics of a frame of one cloud."""
    return frame[frame["control"] == control].set_index("metric")["value"]


@pytest.mark.parametrize("k", [1, 3, 6])
def test_equal_axes_planted_in_the_embedding_are_counted(with_embedding, k):
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * k)).reshape(k, -1).T
    points = np.pad(np.tile(corners, (2, 1)), ((0, 0), (0, 6 - k)))  # each point twice
    frame = isotropy(with_embedding(np.vstack([points, points[:1]])), where=["embedding"], debiased=False, controls=[])
    found = values(frame)
    assert found["participation"] == pytest.approx(k) and found["isoscore"] == pytest.approx((k - 1) / 5, abs=1e-9)
    assert set(frame["n_points"]) == {2**k} and set(frame["n_dims"]) == {6}
    # Every corner has one corner opposite, so the directions of all others add up to minus its own.
    assert found["mean_cosine"] == pytest.approx(-1 / (2**k - 1)) and found["mean_norm"] == pytest.approx(np.sqrt(k))


def test_a_shift_moves_the_mean_cosine_and_not_isoscore(with_embedding):
    points = np.random.default_rng(0).normal(size=(400, 8))
    first, second = (values(isotropy(with_embedding(one), where=["embedding"])) for one in (points, points + 2))
    assert second["isoscore"] == pytest.approx(first["isoscore"], abs=1e-5)  # weights are float32
    assert abs(first["mean_cosine"]) < 0.01 and second["mean_cosine"] > 0.7


def test_a_gaussian_embedding_is_what_its_control_is(with_embedding):
    """The control of a Gaussian cloud is a second draw: they differ by sampling alone, of about 1 / √n."""
    random = np.random.default_rng(1)
    points = random.normal(size=(2000, 8)) * np.linspace(0.5, 2, 8) + 1
    frame = isotropy(with_embedding(points), where=["embedding"])
    for metric in ("isoscore", "mean_cosine", "mean_norm"):
        assert values(frame, "gaussian")[metric] == pytest.approx(values(frame)[metric], rel=6 / np.sqrt(2000))
    heavy = points * random.pareto(2.5, size=(2000, 1))  # the same directions, of very unlike norms
    frame = isotropy(with_embedding(heavy), where=["embedding"])
    assert values(frame)["mean_norm"] < 0.8 * values(frame, "gaussian")["mean_norm"]


def test_layers_are_clouds_of_all_tokens_but_the_first(small_subject, any_backend):
    subject = small_subject("llama", any_backend)
    frame = isotropy(subject, where=[], texts=TEXTS, layers=[0, 3], debiased=False, controls=[])
    states = subject.run(TEXTS, lambda tape: torch.stack([tape.residual(layer) for layer in (0, 3)])).double()
    for layer, state in zip((0, 3), states[:, :, 1:].flatten(1, 2).numpy(), strict=True):
        points = np.unique(state, axis=0)
        spectrum = np.linalg.eigvalsh(np.cov(points.T))
        units = points / np.linalg.norm(points, axis=1, keepdims=True)
        found = values(frame[frame["layer"] == layer])
        assert found["participation"] == pytest.approx(spectrum.sum() ** 2 / (spectrum**2).sum(), rel=1e-6)
        cosines = (units @ units.T)[~np.eye(len(units), dtype=bool)]
        assert found["mean_cosine"] == pytest.approx(cosines.mean(), abs=1e-6)
        assert set(frame.loc[frame["layer"] == layer, "n_points"]) == {len(points)}


def test_the_order_of_prompts_decides_nothing(small_subject):
    subject = small_subject("gpt2", "bridge")
    frames = [
        isotropy(subject, where=[], texts=one, n_points=40).drop(columns="run_id") for one in (TEXTS, TEXTS.flip(0))
    ]
    pd.testing.assert_frame_equal(*frames, rtol=1e-5, atol=1e-6)  # float32 states of other batches


def test_groups_are_clouds_of_their_own_and_of_equal_numbers(with_embedding):
    random = np.random.default_rng(0)
    even, flat = random.normal(size=(500, 6)), random.normal(size=(40, 6)) * [1, 1, 0.01, 0.01, 0.01, 0.01]
    subject = with_embedding(np.vstack([even, flat]))
    groups = {"even": range(500), "flat": [*range(500, 540), 500]}
    frame = isotropy(subject, where=["embedding"], groups=groups, controls=[])
    sizes = frame.groupby("group")["n_points"].first()
    assert sizes.to_dict() == {"all": 540, "even": 40, "flat": 40}  # 500 are more than ten times 40
    score = frame[frame["metric"] == "participation"].set_index("group")
    assert score.loc["flat", "high"] < score.loc["even", "low"] and score.loc["flat", "value"] == pytest.approx(
        2, abs=0.2
    )
    whole = isotropy(subject, where=["embedding"], groups={"even": range(390), "flat": groups["flat"]}, match_n=False)
    assert whole.groupby("group")["n_points"].first()["even"] == 390
    with pytest.raises(InputError, match="groups of 40 and of 500 rows are too unlike"):
        isotropy(subject, where=["embedding"], groups=groups, match_n=False)


def test_whitening_leaves_no_axis_above_another(with_embedding):
    points = np.random.default_rng(0).normal(size=(300, 5)) * [9, 3, 1, 1, 0.1] + 4
    subject = with_embedding(points)
    white = values(isotropy(subject, where=["embedding"], whiten=True, debiased=False))
    assert white["isoscore"] == pytest.approx(1, abs=1e-9)
    rest = isotropy(subject, where=["embedding"], remove_top=2, debiased=False, controls=[])
    variance = np.sort(np.linalg.eigvalsh(np.cov(subject.W_E.double().numpy().T)))[:3]
    assert values(rest)["participation"] == pytest.approx(variance.sum() ** 2 / (variance**2).sum(), rel=1e-6)


def test_the_interval_covers_the_truth():
    """95 % of intervals should, of 200 Gaussian clouds: .88 is four and a half standard errors below."""
    scales = np.array([2.0, 1.0, 1.0, 0.5])
    true = (scales**2).sum() ** 2 / (scales**4).sum()
    covered = 0
    for seed in range(200):
        points = np.random.default_rng(seed).normal(size=(360, 4)) * scales
        rows = {one["metric"]: one for one in _measured(points, np.arange(360) % 12, True, 199, seed)}
        covered += rows["participation"]["low"] <= true <= rows["participation"]["high"]
    assert covered / 200 > 0.88


def test_the_figure_has_a_mark_for_the_control(with_embedding):
    points = np.random.default_rng(0).normal(size=(61, 6))
    groups = {"first": range(30), "last": range(30, 61)}
    frame = isotropy(with_embedding(points), groups=groups, controls=["gaussian", "columns", "directions"])
    figure = frame.interp.plot()
    assert [one.get_text() for one in figure.axes[0].get_yticklabels()][:3] == ["embedding", "first", "last"]
    assert "Gaussian of the same covariance" in [one.get_text() for one in figure.legends[0].get_texts()]
    both = interp.concat([frame, isotropy(with_embedding(2 * points))])
    with pytest.raises(InputError, match="select one to draw"):
        both.interp.plot()


def test_prompts_of_one_token_leave_no_cloud(small_subject):
    with pytest.raises(InputError, match="the texts have 0 tokens after the first of each; give at least 3"):
        isotropy(small_subject("gpt2", "bridge"), where=[], texts=torch.tensor([[3], [4]]))
