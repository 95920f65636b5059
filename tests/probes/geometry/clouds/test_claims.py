"""Claims about clouds, on planted ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from interp.findings import NotApplicable, findings
from probes.geometry.clouds.claims import (
    clouds_of_stories,
    dimension_and_loss,
    rare_and_common,
    rows_by_frequency,
    shuffled_dimension,
)


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


def test_rare_rows_that_are_flat_are_less_isotropic_than_as_many_common_ones(with_embedding):
    """300 tokens, the first ones most frequent; the rows of the last fifth lie near two of six axes."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 6))
    rows[240:, 2:] *= 0.01
    occurring = np.repeat(np.arange(300), 1 + 4 * (np.arange(300) < 90) + (np.arange(300) < 240))
    texts = torch.from_numpy(np.column_stack([np.zeros(len(occurring), dtype=int), occurring]))
    subject = with_embedding(rows)
    rare, common = rare_and_common(rows_by_frequency(subject, texts, seed=0, truncate=True))
    assert len(rare) == len(common) == 12
    assert rare.mean() == pytest.approx(0.2, abs=0.06) and common.mean() > 0.8  # two axes of six: (2 - 1) / (6 - 1)
    with pytest.raises(NotApplicable, match="the stories have 20 different tokens in"):
        rows_by_frequency(subject, torch.arange(20)[:, None].repeat(1, 2), seed=0, truncate=True)


def frame_of_prompts(dimension: np.ndarray, loss: np.ndarray, n_types: np.ndarray) -> pd.DataFrame:
    """A frame of `prompt_geometry` of a model of 8 blocks, equal in all its layers."""
    facts = {"prompt_id": np.arange(len(loss)), "loss": loss, "n_types": n_types, "metric": "dimension"}
    parts = [
        pd.DataFrame(facts | {"value": dimension + more, "layer": layer, "control": control})
        for layer in (4, 6, 7, 8)
        for control, more in (("none", 0.0), ("shuffled", 1.0))
    ]
    return pd.concat(parts)


def test_a_dimension_that_follows_the_number_of_tokens_alone_does_not_hold():
    """Its correlation with the loss is large, and the partial one has a standard error of 1 / √120."""
    random = np.random.default_rng(0)
    n_types = random.integers(30, 70, 120)
    loss, other = n_types / 30 + 0.3 * random.normal(size=(2, 120))
    plain = frame_of_prompts(other, loss, n_types)
    assert abs(dimension_and_loss(plain).mean()) < 4 / np.sqrt(120) < np.corrcoef(loss, other)[0, 1]
    following = frame_of_prompts(other + loss, loss, n_types)
    assert dimension_and_loss(following).mean() > 0.3
    shuffled, control = shuffled_dimension(plain)
    np.testing.assert_allclose(shuffled - control, 1.0)


def test_stories_are_too_short_for_a_model_of_short_contexts(small_subject):
    with pytest.raises(NotApplicable, match="0 stories have 97 tokens in"):
        clouds_of_stories(small_subject("gpt2", "bridge"), torch.full((3, 20), 5), seed=0, truncate=True)
