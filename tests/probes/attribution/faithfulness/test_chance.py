"""Tell methods from shuffles of their own scores, on numbers written by hand and on models."""

from __future__ import annotations

import numpy as np
import pytest

import interp
from interp.planted import cue
from probes import attribute, faithfulness
from probes.attribution.faithfulness._attributions import Scored
from probes.attribution.faithfulness._chance import not_above_chance
from probes.attribution.faithfulness._metrics import Measured


def rows(method, metric, value, shuffled, value_se=0.0, control="none"):
    scored = Scored(method, control, np.zeros(1))
    return [Measured(scored, metric, None, value, float(np.mean(shuffled)), control, float("nan"), value_se, shuffled)]


def test_the_test_by_hand():
    """Shuffles 0, 1, 2: mean 1, variance 1; the bar of one target is t(2) = 2.92 times sqrt(4 / 3) above 1: 4.37."""
    chance = (0.0, 1.0, 2.0)
    assert not_above_chance([rows("a", "soft_nc", 4.38, chance)]) == {}
    assert not_above_chance([rows("a", "soft_nc", 4.36, chance)]) == {"a": ["soft_nc"]}
    assert not_above_chance([rows("a", "sufficiency", 1 - 3.38, chance)]) == {}  # smaller is better
    assert not_above_chance([rows("a", "sufficiency", 4.38, chance)]) == {"a": ["sufficiency"]}
    assert not_above_chance([rows("a", "soft_nc", 4.38, chance, value_se=0.5)]) == {"a": ["soft_nc"]}
    # Two targets: t(4) = 2.13 times sqrt(8 / 3) = 3.48 for the sum of both.
    assert not_above_chance([rows("a", "soft_nc", 2.75, chance)] * 2) == {}
    assert not_above_chance([rows("a", "soft_nc", 2.73, chance)] * 2) == {"a": ["soft_nc"]}
    assert not_above_chance([rows("random", "soft_nc", 1.0, chance, control="random")]) == {}
    assert not_above_chance([rows("a", "soft_nc", float("nan"), chance)]) == {}


def test_noise_is_told_and_causes_are_not(recwarn):
    """A cue decides: occlusion finds it, and a method of random scores by another name does not."""
    planted = cue(vocab=12)
    model = interp.load(planted.model)
    texts = [
        " ".join(f"w{one}" for one in [3, 4, 5, planted.truth.cue, 6, 7, 8, 9, 10, 11][shift:]) for shift in (0, 1)
    ]
    frame = attribute(model, texts, methods=("occlusion", "random"), target=planted.truth.answer)
    frame.loc[frame["method"] == "random", ["method", "control"]] = ["noise", "none"]
    options = {"metrics": ["aopc"], "replacement": "mask_embedding", "n_random": 20}
    with pytest.warns(UserWarning, match="cannot be told from shuffled ones on 2 targets: ") as caught:
        faithfulness(model, frame, **options)
    said = str(caught[0].message)
    assert "noise by aopc" in said and "occlusion by" not in said


def test_standard_errors_are_those_of_the_draws(small_subject):
    """The mean over more draws errs less, by the root of their number."""
    subject = small_subject("gpt2", "bridge")
    frame = attribute(subject, ["w3 w4 w5 w6 w7 w8 w9"], methods=("random",))
    options = {"metrics": ["comprehensiveness"], "fractions": [0.5]}
    values = [faithfulness(subject, frame, n_samples=4, seed=seed, **options).iloc[0] for seed in range(24)]
    spread, said = np.std([one["value"] for one in values], ddof=1), np.mean([one["value_se"] for one in values])
    assert 0.6 < spread / said < 1.6  # 24 values tell their spread to 15 %; a ratio of 2 would be n - 1 or no root
    assert faithfulness(subject, frame, n_samples=1, **options)["value_se"].isna().all()
