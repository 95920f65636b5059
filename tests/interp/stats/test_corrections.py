"""Holm's correction against the textbook procedure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.stats.corrections import holm


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(deadline=None)
def test_holm_rejects_what_stepping_down_rejects(p):
    """The textbook procedure: from the smallest on, reject while p_(i) <= alpha / (n - i)."""
    adjusted, order = holm(np.array(p)), np.argsort(p, kind="stable")
    for alpha in (0.01, 0.05, 0.3):
        rejected = set()
        for step, index in enumerate(order):
            if p[index] * (len(p) - step) > alpha:
                break
            rejected.add(int(index))
        assert set(np.flatnonzero(adjusted <= alpha).tolist()) == rejected
    assert (adjusted >= np.array(p)).all() and (adjusted <= 1).all()


def test_holm_leaves_missing_values_out_of_the_count():
    assert holm(np.array([0.01, np.nan, 0.04])).tolist() == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)
