"""Claims about lenses, on ladders and on a frame written by hand."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

import interp
from interp import planted
from interp.findings import findings, get
from probes.lens import claims


def test_a_ladder_approaches_its_output(state_of, planted_texts):
    ladder = interp.load(planted.bias_ladder(n_layers=8, a=6.0).model)
    # Every prompt's correlation is -1. That eleven agree leaves one in four open, and 154 one in forty.
    assert state_of(ladder, "lens.approach") == "undecided"
    assert state_of(ladder, "lens.approach", planted_texts * 14) == "holds"
    assert state_of(ladder, "lens.late_agreement") == "holds"
    assert state_of(ladder, "stages.entropy_falls") == "holds"


def test_a_low_ladder_decides_at_its_last_rung(state_of):
    """1.1 in all: at three quarters the target has 0.825, less than the current token's 1."""
    low = interp.load(planted.bias_ladder(n_layers=8, a=1.1).model)
    assert state_of(low, "lens.late_agreement") == "fails"


def test_the_tuned_lens_is_compared_layer_by_layer():
    rows = [
        (prompt, 1, layer, kind, kl)
        for prompt in range(8)
        for kind, kls in (("logit", (9.0, 4.0, 2.0, 1.0, 0.0)), ("tuned", (3.0, 1.0, 0.5, 0.2, 0.0)))
        for layer, kl in enumerate(kls)
    ]
    frame = pd.DataFrame(rows, columns=["prompt_id", "pos", "layer", "lens", "kl_to_final"])
    nearer, beside = claims.tuned_is_nearer(frame)
    assert nearer.tolist() == pytest.approx([1.7 / 3] * 8) and beside.tolist() == pytest.approx([7 / 3] * 8)
    early, embedding = claims.tuned_reads_layers(frame)
    assert early.tolist() == [0.75] * 8 and embedding.tolist() == [3.0] * 8


def test_the_jacobian_lens_is_compared_layer_by_layer():
    kls = {
        "logit": (9.0, 4.0, 2.0, 1.0, 0.0),
        "tuned": (3.0, 1.0, 0.5, 0.2, 0.0),
        "jacobian": (6.0, 3.0, 1.0, 0.1, 0.0),
    }
    rows = [
        (prompt, 1, layer, kind, kl) for prompt in range(8) for kind, of in kls.items() for layer, kl in enumerate(of)
    ]
    frame = pd.DataFrame(rows, columns=["prompt_id", "pos", "layer", "lens", "kl_to_final"])
    found = {
        "nearer": claims.jacobian_is_nearer(frame),
        "early": claims.jacobian_beside_tuned(frame, 0),
        "late": claims.jacobian_beside_tuned(frame, 1),
        "reads": claims.jacobian_reads_layers(frame),
    }
    known = {"nearer": (4.1 / 3, 7 / 3), "early": (2.0, 0.75), "late": (0.1, 0.2), "reads": (2.0, 6.0)}
    for name, (one, control) in found.items():
        assert (one.iloc[0], control.iloc[0]) == pytest.approx(known[name])


def test_another_models_jacobian_lens_is_made_only_where_asked(planted_texts):
    frame = findings(
        interp.load(planted.bias_ladder(n_layers=8).model),
        [replace(get("jacobian_lens.nearer"), texts=planted_texts)],
    )
    assert frame["state"].tolist() == ["skipped"]
    assert "takes 12 backward passes over 1,600 tokens" in frame["reason"].iat[0]
