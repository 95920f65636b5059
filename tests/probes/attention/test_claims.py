"""Claims about heads, on a frame written by hand."""

from __future__ import annotations

import pandas as pd

from probes.attention import claims


def test_early_heads_are_those_of_the_first_quarter():
    own = pd.DataFrame({"layer": [0, 1, 2, 3], "head": 0, "within": [0.5, 0.1, 0.0, 0.0], "across": [0.1, 0.2, 0, 0]})
    heads = pd.concat([own.assign(control="none"), own.assign(control="distance_only", within=0.3)])
    within, across = claims.early_heads(heads)
    assert within.tolist() == [0.5] and across.tolist() == [0.1]  # the first quarter of four blocks
