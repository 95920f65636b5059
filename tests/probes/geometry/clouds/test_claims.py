"""Claims about clouds, on planted ones."""

from __future__ import annotations

import numpy as np

from interp.findings import findings


def test_rows_where_a_stick_enters_a_ball_break_to_a_larger_dimension_and_gaussian_rows_do_not(with_embedding):
    """A quarter of the rows are on short sticks that leave the surface of the ball of all others."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(30, 8))
    rows = random.normal(size=(30, 100, 1)) * 0.02 * random.normal(size=(30, 1, 8)) + centres[:, None]
    sticks = np.vstack([rows.reshape(-1, 8), random.normal(size=(3000, 8))])
    found = findings(with_embedding(sticks), ["geometry.increase"], n_resamples=99)
    assert found["state"].tolist() == ["holds"] and found["effect"].item() > 0.1, found.to_string()
    even = findings(with_embedding(random.normal(size=(2000, 8))), ["geometry.increase"], n_resamples=99)
    assert even["state"].item() != "holds" and abs(even["effect"].item()) < 0.02


def test_a_small_vocabulary_has_too_few_neighbours(with_embedding):
    found = findings(with_embedding(np.random.default_rng(0).normal(size=(61, 8))), ["geometry.increase"])
    assert found["state"].item() == "skipped" and "have no neighbour 200" in found["reason"].item()
