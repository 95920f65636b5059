"""Claims about blocks, on models whose blocks are known."""

from __future__ import annotations

from dataclasses import replace

import pytest

import interp
from interp import planted
from interp.findings import findings, get


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
