"""Claims about confidence, on trajectories written by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import interp
from interp.findings import judge
from probes.uncertainty import claims


def trajectories(n: int = 40) -> pd.DataFrame:
    """Wrong answers of output loss 2, right ones of 1, a few exchanged; the middle layer knows nothing."""
    random = np.random.default_rng(0)
    rows = []
    for prompt in range(n):
        correct = prompt % 2 == 0
        loss = (1.0 if correct else 2.0) + 0.3 * random.normal()
        for layer, value in enumerate((3.0 + random.normal(), 3.0 + random.normal(), loss)):
            rows.append((prompt, layer, correct, value))
    frame = pd.DataFrame(rows, columns=["prompt_id", "layer", "correct", "loss_generated"])
    return frame.assign(model="m", run_id="r", entropy=1.0, margin=1.0, kl_to_final=0.0, agrees_final=True)


def test_confidence_that_tells_right_from_wrong_holds_and_a_trajectory_of_noise_fails():
    frame = trajectories()
    assert judge(claims.confidence(frame), at_least=0.9).state == "holds"
    values, control = claims.trajectory(frame)
    assert judge(values, control=control, above="control").state == "fails"
    with pytest.raises(interp.InterpError, match="an AUC needs six or more of each kind"):
        claims.confidence(frame[frame["correct"] | (frame["prompt_id"] < 8)])
