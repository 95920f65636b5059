"""Prompt geometry: its clouds and losses against plain passes, shuffles, order of prompts, summary and figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

import interp
from interp.stats.correlation import rank_correlation
from probes import prompt_geometry
from probes.geometry.clouds._prompt_clouds import PromptCloud, measured

TEXTS = torch.randint(3, 61, (6, 24), generator=torch.Generator().manual_seed(0))


def value(frame: pd.DataFrame, control: str, metric: str, scale: int) -> np.ndarray:
    """One metric, [prompt, layer]."""
    kept = frame[(frame["control"] == control) & (frame["metric"] == metric) & (frame["scale"] == scale)]
    return kept.pivot(index="prompt_id", columns="layer", values="value").to_numpy()


def test_clouds_and_losses_are_those_of_plain_passes(small_subject, any_backend):
    subject = small_subject("gpt2", any_backend)
    frame = prompt_geometry(subject, TEXTS, layers=[0, 2, 4], scales=[2], k=[3], controls=())
    states = subject.run(TEXTS, lambda tape: torch.stack([tape.residual(layer) for layer in (0, 2, 4)])).numpy()
    expected = np.array(
        [measured([PromptCloud.of(one) for one in of[:, 1:]], (2,), (3,)) for of in states.swapaxes(0, 1)]
    )
    for place, key in enumerate([("dimension", 2), ("overlap", 3), ("mean_cosine", 0), ("neighbour_angle", 3)]):
        found = value(frame, "none", *key)
        np.testing.assert_allclose(found, expected[:, : found.shape[1], place], rtol=1e-4)
    logits = torch.stack(subject.logits(TEXTS)).log_softmax(-1)
    losses = -logits[:, 1:-1].gather(2, TEXTS[:, 2:, None])[..., 0].mean(1)
    np.testing.assert_allclose(frame.groupby("prompt_id")["loss"].first(), losses, rtol=1e-5)
    assert frame.groupby("prompt_id")["n_types"].first().tolist() == [len(set(one[1:].tolist())) for one in TEXTS]


def test_where_tokens_have_no_positions_yet_a_shuffle_changes_nothing(small_subject):
    frame = prompt_geometry(small_subject("llama", "bridge"), TEXTS, layers=[0, 4], shuffles=2, scales=[1], k=[2])
    for metric, scale in (("dimension", 1), ("mean_cosine", 0), ("neighbour_angle", 2)):
        natural, shuffled = (value(frame, control, metric, scale) for control in ("none", "shuffled"))
        np.testing.assert_allclose(shuffled[:, 0], natural[:, 0], rtol=1e-5)
        assert (np.abs(shuffled[:, 1] - natural[:, 1]) > 1e-6).all()
    first = frame[(frame["layer"] == 0) & (frame["control"] == "none")]
    assert (first["n_points"] == first["n_types"]).all()
    shuffled, natural = (
        frame[frame["control"] == name].groupby("prompt_id")["loss"].first() for name in ("shuffled", "none")
    )
    assert (shuffled != natural).all()


def test_blocks_stay_in_one_piece(small_subject, monkeypatch):
    seen = []
    subject = small_subject("gpt2", "bridge")
    run = type(subject).run
    monkeypatch.setattr(type(subject), "run", lambda self, ids, program: seen.append(ids) or run(self, ids, program))
    prompt_geometry(subject, TEXTS[:1], controls=["shuffled"], blocks=4, layers=[0])
    natural, shuffled = (ids[0].tolist() for ids in seen[-2:])
    assert shuffled[0] == natural[0] and shuffled != natural and sorted(shuffled) == sorted(natural)
    blocks = [natural[1:7], natural[7:13], natural[13:19], natural[19:]]
    rest = shuffled[1:]
    while rest:
        (block,) = [one for one in blocks if rest[: len(one)] == one]
        blocks.remove(block)
        rest = rest[len(block) :]


def test_neither_the_order_nor_the_number_of_prompts_decides_a_prompts_numbers(small_subject):
    subject = small_subject("gpt2", "bridge")
    mixed = [TEXTS[0], TEXTS[1][:11], TEXTS[2]]
    whole = prompt_geometry(subject, mixed).drop(columns=["run_id", "prompt_id"])
    turned = prompt_geometry(subject, mixed[::-1]).drop(columns=["run_id"])
    parts = [part.drop(columns="prompt_id") for _, part in turned.groupby("prompt_id")][::-1]
    # States of another batch differ by roundings of float32, which small differences of neighbours enlarge.
    pd.testing.assert_frame_equal(
        pd.concat(parts, ignore_index=True), whole.reset_index(drop=True), rtol=1e-3, atol=1e-3
    )


def test_the_summary_holds_distinct_tokens_fixed(small_subject):
    subject = small_subject("gpt2", "bridge")
    texts = torch.stack([3 + one % (5 + 3 * number) for number, one in enumerate(torch.cat([TEXTS, TEXTS.flip(1)]))])
    frame = prompt_geometry(subject, texts, layers=[2, 3], scales=[1], k=[2])
    summary = frame.interp.summary().set_index(["control", "metric", "scale", "layer"])
    prompts = frame.drop_duplicates("prompt_id").sort_values("prompt_id")
    x, loss = value(frame, "none", "dimension", 1)[:, 1], prompts["loss"].to_numpy()
    row = summary.loc["none", "dimension", 1, 3]
    assert row["value"] == pytest.approx(x.mean()) and row["r_loss"] == pytest.approx(spearmanr(x, loss).statistic)
    fixed = rank_correlation(x[None], loss, held=prompts["n_types"].to_numpy(float))
    assert row["r_loss_types"] == pytest.approx(fixed[0][0]) and row["r_loss_types"] != row["r_loss"]


def test_the_figure_shows_controls_and_without_a_loss_to_compare_two_panels(small_subject):
    subject = small_subject("gpt2", "bridge")
    frame = prompt_geometry(subject, TEXTS, scales=[1, 2])
    figure = frame.interp.plot()
    assert figure.axes[0].get_title() == "dimension (neighbours 2 and 4)" and len(figure.axes) == 3
    assert {"measured", "tokens shuffled"} <= {one.get_text() for one in figure.legends[0].get_texts()}
    assert len(prompt_geometry(subject, TEXTS[:1]).interp.plot().axes) == 2


def test_a_sweep_of_prompts_has_the_same_rows(small_subject, tmp_path):
    subject = small_subject("gpt2", "bridge")
    done = interp.sweep("prompt_geometry", subject, list(TEXTS), out=tmp_path, shard_tokens=60, scales=[1], k=[2])
    whole = prompt_geometry(subject, TEXTS, scales=[1], k=[2]).interp.summary()
    pd.testing.assert_frame_equal(
        done.summary().drop(columns="run_id"), whole.drop(columns="run_id"), rtol=1e-3, atol=1e-3
    )
