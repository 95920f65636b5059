"""Attribution patching: exact where the model is linear, the gradient of transformers itself, and the path's sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import interp
from interp.errors import InputError
from interp.planted import copying
from probes import attribution_patch, patch

CLOSE = 1e-5  # float32 logits of size ten, in sums of another order
CLEAN = [[4, 9, 33, 5, 17, 8, 8, 41], [7, 3, 12, 60, 5, 20]]
CORRUPT = [[4, 9, 21, 5, 17, 8, 30, 41], [7, 50, 12, 60, 5, 20]]
SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")


@pytest.mark.parametrize("mode", ["denoise", "noise"])
def test_in_a_linear_model_the_estimate_is_the_effect(mode):
    model = copying(noise_blocks=1).model
    frame = attribution_patch(
        model, "w5 w3 w4", "w6 w3 w4", sites=SITES, target="w5", against="w6", mode=mode, exact=1.0
    )
    ours = frame[frame["control"] == "none"]
    np.testing.assert_allclose(ours["estimate"], ours["effect"], atol=CLOSE)
    assert ours["effect"].abs().max() > 0.5
    summary = frame.interp.summary().set_index(["method", "control"])
    assert summary.loc[("gradient", "none"), "error"] < CLOSE < 0.1 < summary.loc[("gradient", "random"), "error"]


@pytest.mark.parametrize("metric", ["logit_diff", "log_prob", "kl"])
def test_the_gradient_is_that_of_transformers(small_model, any_backend, metric):
    model = small_model("llama")
    frame = attribution_patch(interp.load(model, backend=any_backend), CLEAN[:1], CORRUPT[:1], sites="resid_pre",
                              metric=metric, target=40, against=50, methods=("gradient",), exact=0.0)  # fmt: skip
    clean, corrupt = (model(torch.tensor(ids[:1]), output_hidden_states=True) for ids in (CLEAN, CORRUPT))
    last, reference = corrupt.logits[0, -1].log_softmax(0), clean.logits[0, -1].log_softmax(0).detach()
    value = {"logit_diff": last[40] - last[50], "log_prob": last[40],
             "kl": -(reference.exp() * (reference - last)).sum()}[metric]  # fmt: skip
    layers = range(model.config.num_hidden_layers)
    gradients = torch.autograd.grad(value, [corrupt.hidden_states[layer] for layer in layers])
    expected = [
        ((clean.hidden_states[layer] - corrupt.hidden_states[layer]) * gradients[layer]).sum(-1)[0] for layer in layers
    ]
    ours = frame[frame["control"] == "none"].pivot(index="layer", columns="pos", values="estimate")
    np.testing.assert_allclose(ours.to_numpy(dtype=float), torch.stack(expected).detach().numpy(), atol=CLOSE)
    assert frame["effect"].isna().all()
    with pytest.raises(InputError, match="give exact= a share above 0"):
        frame.interp.summary()


def test_the_path_adds_up_to_the_difference_of_both_runs(small_subject):
    frame = attribution_patch(small_subject("gpt2", "bridge"), CLEAN, CORRUPT, sites="resid_pre", layers=0,
                              methods=("path",), steps=64, exact=0.0)  # fmt: skip
    ours = frame[frame["control"] == "none"].groupby("prompt_id")
    difference = (ours["value_clean"].first() - ours["value_corrupt"].first()).to_numpy()
    # Midpoints of 64 parts of a smooth path: the rule's error falls with the square of their number.
    np.testing.assert_allclose(ours["estimate"].sum(), difference, rtol=2e-3)


@pytest.mark.parametrize("corruption", ["noise", "resample"])
def test_the_effects_are_those_of_patch(small_subject, any_backend, corruption):
    subject = small_subject("qwen3", any_backend)
    texts = None if corruption == "noise" else [[9, 8, 7, 6, 5, 4, 3, 20, 30], [11, 12, 13, 14, 15, 16, 17, 18]]
    given = {"sites": ("resid_mid", "attn_out", "neurons"), "corruption": corruption, "draws": 2, "positions": [1, -1]}
    exactly = patch(subject, CLEAN, texts, controls=(), **given)
    frame = attribution_patch(subject, CLEAN, texts, methods=("gradient",), exact=0.5, **given)
    ours = frame[frame["control"] == "none"].reset_index(drop=True)
    measured = ours["effect"].notna()
    assert 0.2 < measured.mean() < 0.8
    np.testing.assert_allclose(ours.loc[measured, "effect"], exactly.loc[measured, "effect"], atol=CLOSE)
