"""The table of hit rates: the rows that theory decides, and the prompts it is made of."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from interp.errors import InputError
from interp.planted import bigram
from probes.attribution.known_answers.planted_scores import CASES, VOCAB, hit_rates, planted_scores

pytestmark = pytest.mark.trained

LENGTH, N_PROMPTS = 8, 32
PAGE = (Path(__file__).parents[4] / "docs" / "pages" / "attribution.md").read_text("utf-8")
DECIDED = (
    "normxlogit",
    "norm",
    "logit",
    "input_x_gradient",
    "integrated_gradients",
    "gradient_norm",
    "occlusion",
    "rollout",
)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return planted_scores(DECIDED, n_prompts=N_PROMPTS, length=LENGTH)


@pytest.fixture(scope="module")
def rates(frame) -> pd.DataFrame:
    return hit_rates(frame)


@pytest.mark.parametrize("method", ["input_x_gradient", "integrated_gradients", "occlusion"])
def test_methods_that_follow_the_computation_find_every_cause(rates, method):
    assert (rates.loc[method] == 1).all()


def test_the_norm_of_one_hot_embeddings_tells_nothing(rates):
    np.testing.assert_allclose(rates.loc["norm"], 1 / LENGTH, rtol=1e-12)


@pytest.mark.parametrize("method", ["normxlogit", "logit"])
def test_normxlogit_by_the_closed_forms(frame, rates, method):
    """All norms are 1, so both are the target's logit at each position.

    copy: 1 + 1 / (k + 1) at the cause k, 1 / (i + 1) after it, 0 before. cue: about the same logit at every position
    from the cause on, which shares the hit. attention_free: another token's logit is the highest, by construction.
    """
    assert rates.loc[method, "copying"] == 1
    assert rates.loc[method, "two_step"] == 1  # in prompts without repetition only the last token predicts the target
    assert rates.loc[method, "attention_free"] == 0
    cause = frame[(frame["planted"] == "cue") & (frame["method"] == method)]["cause_pos"]
    assert rates.loc[method, "cue"] == pytest.approx((1 / (LENGTH - cause)).mean(), rel=1e-12)


def test_gradients_norm_and_rollout_by_theory(rates):
    """Embeddings but the last of `copying` enter by the same weight, and attention is uniform, so the last wins."""
    assert rates.loc["gradient_norm", "copying"] == rates.loc["rollout", "copying"] == 0
    assert (rates.loc["rollout", ["bigram", "two_step", "attention_free"]] == 1).all()
    assert rates.loc["rollout", "cue"] == 0.5  # half of the rollout stays where it is, half goes to the cue
    assert (rates.loc["gradient_norm", ["bigram", "two_step", "attention_free"]] == 1).all()


def test_chance_hits_by_chance():
    hits = planted_scores("random", n_prompts=200, length=LENGTH)["hit"]
    assert abs(hits.mean() - 1 / LENGTH) < 4 * np.sqrt(1 / LENGTH * (1 - 1 / LENGTH) / len(hits))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("length", [3, 8, 11])
def test_the_cause_is_the_cause(name, length):
    """Another token at the cause changes the target's logit more than another token anywhere else does."""
    case = CASES[name](np.random.default_rng(3), 6, length)
    assert case.ids.shape == (6, length)
    rows, target = torch.arange(6), torch.tensor(case.target)
    clean = case.model(case.ids)[rows, -1, target]
    effects = []
    for position in range(length):
        changed = case.ids.clone()
        # A token that neither is nor predicts the target in any of these models would do; take the mean over all.
        drops = []
        for token in range(VOCAB):
            changed[:, position] = token
            drops.append(clean - case.model(changed)[rows, -1, target])
        effects.append(torch.stack(drops).mean(0))
    assert torch.stack(effects).argmax(0).tolist() == case.cause.tolist()


def test_on_attention_free_prompts_an_earlier_token_is_surer():
    case = CASES["attention_free"](np.random.default_rng(0), 20, LENGTH)
    prob = bigram(vocab=VOCAB).truth.transition[case.ids][torch.arange(20), :, torch.tensor(case.target)]
    assert (prob[:, :-1].amax(1) > 1.5 * prob[:, -1]).all()
    assert case.target == bigram(vocab=VOCAB).truth.transition[case.ids[:, -1]].argmax(1).tolist()


def test_the_table_in_the_readme_is_the_one_measured(rates):
    """To the two digits shown; the rows of methods that draw are pinned by the seed and not repeated here."""
    for method in DECIDED:
        row = re.search(rf"^\| {method} \| ((?:\d\.\d\d \| ?)+)$", PAGE, flags=re.MULTILINE)
        assert row, method
        shown = [float(one) for one in re.findall(r"\d\.\d\d", row[1])]
        assert shown == [round(rate, 2) for rate in rates.loc[method]]


@pytest.mark.parametrize("arguments", [{"length": 2}, {"length": 12}, {"n_prompts": 0}])
def test_bad_input(arguments):
    with pytest.raises(InputError, match="give at least 1 prompt of 3 to 11 tokens"):
        planted_scores("norm", **arguments)
