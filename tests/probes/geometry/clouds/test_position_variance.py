"""Variance by position: even attention and attention to oneself, planted, and slopes with a prompt left out in turn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import InputError
from interp.model.sites import recording
from probes import position_variance, random_model

TEXTS = torch.randint(3, 61, (150, 40), generator=torch.Generator().manual_seed(0))


def attending(small_model, scale: float) -> interp.Subject:
    """A model of one head without positions; its scores are `scale` times the product of two tokens."""
    model = small_model("gpt2", n_head=1, n_layer=1)
    attention, width = model.transformer.h[0].attn, model.config.n_embd
    with torch.no_grad():
        model.transformer.wpe.weight.zero_()
        model.transformer.wte.weight.normal_(generator=torch.Generator().manual_seed(1))
        attention.c_attn.weight[:, : 2 * width] = torch.eye(width).repeat(1, 2) * scale**0.5
        attention.c_attn.bias[: 2 * width] = 0
    return interp.load(model)


def slope(frame: pd.DataFrame, control: str) -> pd.Series:
    return frame.interp.summary().set_index("control").loc[control]


@pytest.mark.parametrize(("scale", "expected"), [(0.0, -1.0), (1e4, 0.0)])
def test_even_attention_has_slope_minus_one_and_attention_to_oneself_none(small_model, scale, expected):
    """Variances of 150 values in 32 dimensions have errors of a few percent, over 1.9 in log position."""
    frame = position_variance(attending(small_model, scale), TEXTS, controls=["iid"])
    for control in ("none", "iid"):  # the texts are random tokens too
        row = slope(frame, control)
        assert row["slope_low"] - 0.02 <= expected <= row["slope_high"] + 0.02 and abs(row["slope"] - expected) < 0.06
    rows = frame[frame["control"] == "none"].set_index("pos")["variance"]
    assert rows[24] / rows[4] == pytest.approx((25 / 5) ** expected, rel=0.15)


def test_variance_and_slope_are_those_written_out(small_subject):
    subject = small_subject("gpt2", "bridge")
    given = [one[: 12 + number] for number, one in enumerate(TEXTS[:12])]
    frame = position_variance(subject, given, layers=[2], sites=["attn_out", "mlp_out"], controls=[])
    site = subject.site("mlp_out", 2)
    values = np.full((12, 23, subject.d_model), np.nan)
    for number, ids in enumerate(given):
        with recording([site]) as seen:
            subject.run(ids[None], lambda tape: None)
        values[number, : len(ids)] = seen[0][0].numpy()
    own = frame[frame["site"] == "mlp_out"]
    n = (~np.isnan(values[:, :, 0])).sum(axis=0)
    assert own["n_prompts"].tolist() == n.tolist()
    variance = np.array(
        [
            np.var(values[:, pos][: len(values)], axis=0, ddof=1, where=~np.isnan(values[:, pos])).mean()
            for pos in range(22)
        ]
    )
    np.testing.assert_allclose(own["variance"][:22], variance, rtol=1e-4)
    kept = np.arange(4, 21)  # three prompts reach position 20
    assert n[20] == 3
    line = np.polyfit(np.log(kept + 1), np.log(variance[kept]), 1, w=np.sqrt(n[kept] - 1))
    assert own["slope"].iat[0] == pytest.approx(line[0], rel=1e-4)
    assert own["slope_low"].iat[0] < line[0] < own["slope_high"].iat[0]


def test_the_untrained_model_is_the_random_one_and_reads_the_random_tokens(small_subject):
    subject = small_subject("gpt2", "bridge")
    frame = position_variance(subject, TEXTS[:5], controls=["untrained"], seed=3)
    fresh = position_variance(random_model(subject, seed=3), TEXTS[:5], controls=["iid"], seed=3)
    for name in ("variance", "slope"):
        found = frame.loc[frame["control"] == "untrained", name]
        np.testing.assert_allclose(found, fresh.loc[fresh["control"] == "iid", name], rtol=1e-6)


def test_the_order_of_texts_decides_nothing(small_subject):
    subject = small_subject("llama", "bridge")
    frames = [
        position_variance(subject, one, controls=["iid"]).drop(columns="run_id")
        for one in (TEXTS[:8], TEXTS[:8].flip(0))
    ]
    means = [frame.drop(columns=["slope_low", "slope_high"]) for frame in frames]  # draws of the interval are by place
    pd.testing.assert_frame_equal(*means, rtol=1e-3)


def test_without_a_variance_there_is_no_slope(small_subject):
    """Equal texts have no variance but that of roundings in another batch; too short ones no line."""
    short = position_variance(small_subject("gpt2", "bridge"), TEXTS[:6, :5], controls=[])
    assert short["slope"].isna().all() and (short["variance"] > 0).all()
    with pytest.raises(InputError, match="a variance over 2 texts says little; give at least 3"):
        position_variance(small_subject("gpt2", "bridge"), TEXTS[:2])


def test_the_figure_has_first_and_last_block_and_all_slopes(small_subject):
    figure = position_variance(small_subject("gpt2", "bridge"), TEXTS[:6]).interp.plot()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["variance of attn_out, block 0", "variance of attn_out, block 3"] and len(titles) == 3
