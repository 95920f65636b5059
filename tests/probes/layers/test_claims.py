"""Claims about blocks, on models whose blocks are known."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

import interp
from interp import planted
from interp.findings import NotApplicable, findings, get
from probes.layers import claims


def test_a_ladder_can_lose_or_swap_any_rung(state_of):
    """Eight rungs of 0.75: without one the target still leads by more than 1, and rungs commute."""
    ladder = interp.load(planted.bias_ladder(n_layers=8, a=6.0).model)
    assert state_of(ladder, "robustness.delete") == "holds"
    assert state_of(ladder, "robustness.swap") == "holds"
    # All rungs are alike: the first is not worse to lose than another, to the last bit.
    assert state_of(ladder, "robustness.first_block") == "fails"


def test_a_chain_of_steps_can_not(state_of, planted_texts):
    """Blocks 0 and 2 of five carry the two steps: 2 is a middle block, and nothing is predicted right without it."""
    model = planted.two_step(noise_blocks=3)
    assert model.truth.layout.planted == (0, 3) and model.truth.layout.n_layers == 5
    chain = interp.load(model.model)
    frame = findings(chain, replace(get("robustness.delete"), texts=planted_texts), n_resamples=499)
    # Middle blocks are 2 and 3 of 0..4; deleting 2 (noise) changes nothing, deleting 3 everything: half is kept.
    assert frame["effect"].iat[0] == pytest.approx(0.5) and frame["state"].iat[0] == "fails"
    assert state_of(chain, "robustness.last_block") == "fails"  # the last block is noise, a middle one is not


def robustness_frame(accuracies: dict[tuple[str, str, int, int], tuple[float, float]]) -> pd.DataFrame:
    """Rows of ten positions per (intervention, control, layer, prompt), of which these shares are predicted."""
    rows = []
    for (intervention, control, layer, prompt), (intact, modified) in accuracies.items():
        for place in range(12):
            known = 0 < place < 11  # position 0 is left out, and the last one has no next token
            rows.append(
                {
                    "intervention": intervention, "control": control, "layer": layer, "prompt_id": prompt, "pos": place,
                    "target_rank_intact": 0 if place <= 10 * intact else 7 if known else pd.NA,
                    "target_rank": 0 if place <= 10 * modified else 7,
                }
            )  # fmt: skip
    frame = pd.DataFrame(rows)
    frame.loc[frame["pos"] == 11, ["target_rank", "target_rank_intact"]] = pd.NA
    return frame.astype({"target_rank": "Int64", "target_rank_intact": "Int64"})


def test_accuracy_retained_is_a_ratio_of_means_over_prompts():
    """Six blocks, middle ones 2, 3 and 4; two prompts, of which the first is the easier one."""
    intact = {0: 0.8, 1: 0.2}
    shares: dict[tuple[str, str, int, int], tuple[float, float]] = {}
    for layer in range(6):
        for prompt, right in intact.items():
            lost = 0.4 if layer == 3 and prompt == 0 else 0.0 if layer in (2, 3, 4) else right
            shares["delete", "none", layer, prompt] = right, right - lost
            shares["resample", "resampled", layer, prompt] = right, 0.0
            if layer < 5:
                shares["swap", "none", layer, prompt] = right, 0.1
    frame = robustness_frame(shares)
    own, control = claims.deleted_accuracy(frame)
    # (0.8 + 0.4 + 0.8) / 3 and 0.2 are left of 0.8 and 0.2; the jackknife of two prompts leaves one of them out.
    whole = (2 / 3 + 0.2) / 1.0
    assert own.mean() == pytest.approx(2 * whole - (1.0 + (2 / 3) / 0.8) / 2) and own.index.tolist() == [0, 1]
    assert control.tolist() == [0.0, 0.0]
    swapped, deleted = claims.swapped_accuracy(frame)  # blocks 2 and 3: 4 is the last that can be the second
    assert swapped.mean() == pytest.approx(2 * 0.2 - (0.5 + 0.125) / 2)
    assert deleted.mean() == pytest.approx(2 * 0.8 - (1.0 + 0.75) / 2)


def test_a_model_that_predicts_nothing_has_no_accuracy_to_retain():
    frame = robustness_frame({("delete", "none", layer, prompt): (0.0, 0.0) for layer in range(6) for prompt in (0, 1)})
    with pytest.raises(NotApplicable, match="predicts no next token of these texts"):
        claims.deleted_accuracy(frame)


def test_the_two_readings_differ_where_only_wrong_predictions_change():
    """Agreement is lost by every changed prediction, accuracy only by those that were right."""
    shares = {("delete", "none", layer, prompt): (0.5, 0.5) for layer in range(6) for prompt in range(8)}
    shares |= {("resample", "resampled", *key[2:]): value for key, value in shares.items()}
    frame = robustness_frame(shares).assign(top1_agrees=lambda rows: rows["target_rank_intact"].eq(0).fillna(False))
    assert claims.deleted(frame)[0].tolist() == pytest.approx([5 / 11] * 8)
    assert claims.deleted_accuracy(frame)[0].tolist() == pytest.approx([1.0] * 8)
