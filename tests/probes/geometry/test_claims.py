"""Claims about the law and the microscope, on frames written by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.findings import judge
from probes.geometry import claims


def law_frame(slope: float, shuffled: float, bend: float = 0.0, noise: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        (part, layer, control, of * layer + bend * (layer % 2) + noise * random.normal())
        for part in range(12)
        for control, of in (("none", slope), ("shuffled_vocabulary", shuffled))
        for layer in range(9)
    ]
    frame = pd.DataFrame(rows, columns=["part", "layer", "control", "log10_residual"])
    return frame.assign(response="next", sample="in_sample")


def test_the_law_holds_of_a_line_and_fails_of_a_zigzag():
    values, control = claims.straightness(law_frame(-0.05, -0.01))
    assert values.tolist() == pytest.approx([-1.0] * 12) == control.tolist()
    line, zigzag = (law_frame(-0.05, -0.01, bend=bend, noise=0.003) for bend in (0.0, 0.5))
    assert judge(claims.straightness(line)[0], at_most=-0.95).state == "holds"
    assert judge(claims.straightness(zigzag)[0], at_most=-0.95).state == "fails"
    slopes, renamed = claims.steepness(law_frame(-0.05, -0.01))
    assert slopes.tolist() == pytest.approx([-0.05] * 12) and renamed.tolist() == pytest.approx([-0.01] * 12)


def test_linearity_is_what_the_map_explains_of_a_prompt():
    frame = pd.DataFrame(
        {"prompt_id": 0, "pos": [0, 1, 2], "layer": 0, "nonlinearity": [9.0, 1.0, 2.0], "size": [9.0, 5.0, 5.0]}
    )
    linear, carried = claims.linearity(frame.assign(update=[9.0, 3.0, 4.0]))
    assert linear.tolist() == [1 - (1 + 4) / (25 + 25)] and carried.tolist() == [1 - (9 + 16) / (25 + 25)]
