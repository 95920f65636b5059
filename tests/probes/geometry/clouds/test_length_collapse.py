"""Pooled texts of several lengths: against plain NumPy, prefixes against cut texts, controls and the figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from interp.errors import InputError
from interp.stats.clouds import CloudSums
from probes import length_collapse

TEXTS = torch.randint(3, 61, (10, 24), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_metrics_are_those_of_plain_states(small_subject, any_backend, pooling):
    subject = small_subject("gpt2", any_backend)
    frame = length_collapse(subject, TEXTS, lengths=[6, 20], layers=[3], pooling=pooling, controls=())
    states = subject.run(TEXTS, lambda tape: tape.residual(3)).double().numpy()
    for n in (6, 20):
        tokens = states[:, 1:n]
        pooled = tokens.mean(axis=1) if pooling == "mean" else tokens[:, -1]
        units = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        rest = tokens - tokens.mean(axis=1, keepdims=True)
        expected = {
            "mean_cosine": (units @ units.T)[~np.eye(10, dtype=bool)].mean(),
            "isoscore": CloudSums.of(pooled).isoscore(debiased=True),
            "high_frequency": (np.linalg.norm(rest, axis=(1, 2)) / np.linalg.norm(tokens, axis=(1, 2))).mean(),
        }
        found = frame[frame["n_tokens"] == n].set_index("metric")
        for metric, value in expected.items():
            assert found.loc[metric, "value"] == pytest.approx(value, rel=1e-4)
            assert found.loc[metric, "low"] < value < found.loc[metric, "high"]
    assert set(frame["n_prompts"]) == {10}


def test_the_states_of_a_prefix_are_those_of_a_cut_text(small_subject):
    subject = small_subject("llama", "bridge")
    long = length_collapse(subject, TEXTS, lengths=[8, 24], controls=["gaussian"])
    cut = length_collapse(subject, TEXTS[:, :8], lengths=[8], controls=["gaussian"])
    kept = long[long["n_tokens"] == 8].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept.drop(columns="run_id"), cut.drop(columns="run_id"), rtol=1e-3, atol=1e-4)


def test_shuffled_tokens_have_the_mean_of_their_text_where_there_are_no_positions_yet(small_subject):
    frame = length_collapse(small_subject("llama", "bridge"), TEXTS, lengths=[20], layers=[0, 4], controls=["shuffled"])
    values = frame.pivot(index=["layer", "metric"], columns="control", values="value")
    np.testing.assert_allclose(values.loc[0, "shuffled"], values.loc[0, "none"], rtol=1e-5)
    assert (np.abs(values.loc[4, "shuffled"] - values.loc[4, "none"]) > 1e-6).all()


def test_shorter_texts_are_left_out_of_every_length(small_subject):
    subject = small_subject("gpt2", "bridge")
    mixed = [*TEXTS[:6], TEXTS[6][:10], TEXTS[7][:10]]
    frame = length_collapse(subject, mixed, lengths=[8, 20], controls=[])
    whole = length_collapse(subject, TEXTS[:6], lengths=[8, 20], controls=[])
    pd.testing.assert_frame_equal(frame.drop(columns="run_id"), whole.drop(columns="run_id"), rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="0 of 8 texts have 25 tokens; give at least 4"):
        length_collapse(subject, mixed, lengths=[25])


def test_the_figure_has_a_colour_for_each_length(small_subject):
    figure = length_collapse(small_subject("gpt2", "bridge"), TEXTS, lengths=[8, 16]).interp.plot()
    labels = {one.get_text() for one in figure.legends[0].get_texts()}
    assert {"8 tokens", "16 tokens", "8 tokens, tokens shuffled"} <= labels and len(figure.axes) == 3
