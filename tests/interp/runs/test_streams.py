"""One pass, many collectors: sums made in other threads are the same sums."""

from __future__ import annotations

import pytest
import torch

from interp.runs.streams import in_background
from interp.stats.least_squares import Moments

EXACT = 1e-9  # float64 sums of a few thousand terms of order one


def test_sums_made_on_several_cores_are_those_made_on_one(normal):
    x, y = normal(500, 12), normal(500, 4, seed=1)
    runs = normal(100, 3, seed=2), torch.full((100,), 5)
    inline, spread = Moments.zeros(12, 7), Moments.zeros(12, 7)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in range(20):  # more products than may wait at once
            inline.add(x, y, runs)
            with in_background(x.device) as accumulate:
                spread.add(x, y, runs, accumulate)
                assert torch.get_num_threads() == 1
        with pytest.raises(ValueError, match="mismatch"), in_background(x.device) as accumulate:
            accumulate(torch.zeros(12, 4), x, y[1:])  # an error in another thread is not lost
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(n_threads)
    torch.testing.assert_close(spread.xx, inline.xx, rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(spread.xy, inline.xy, rtol=EXACT, atol=EXACT)
