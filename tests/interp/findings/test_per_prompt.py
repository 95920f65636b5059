"""Numbers per prompt, as the statistics of claims take them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.findings.per_prompt import mean_of, rank_correlation


def test_position_0_is_left_out_and_every_prompt_counts_once():
    rows = pd.DataFrame({"prompt_id": [0, 0, 0, 1, 1], "pos": [0, 1, 2, 0, 1], "x": [9, 1, 3, 9, 5]})
    assert mean_of(rows, "x").to_dict() == {0: 2.0, 1: 5.0}


def test_a_constant_has_no_rank_correlation():
    rows = pd.DataFrame({"prompt_id": [0] * 3 + [1] * 3, "x": [1, 2, 3] * 2, "y": [5, 6, 9, 1, 1, 1]})
    found = rank_correlation(rows, "x", "y")
    assert found[0] == pytest.approx(1.0) and np.isnan(found[1])


def test_rows_that_are_there_twice_change_nothing():
    rows = pd.DataFrame({"prompt_id": [0] * 4 + [1] * 4, "pos": [0, 1, 2, 3] * 2, "x": [1, 2, 4, 3] * 2, "y": range(8)})
    twice = pd.concat([rows, rows])
    pd.testing.assert_series_equal(mean_of(twice, "x"), mean_of(rows, "x"))
    pd.testing.assert_series_equal(rank_correlation(twice, "x", "y"), rank_correlation(rows, "x", "y"))
