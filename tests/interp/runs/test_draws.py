"""Draws among prompts: decided by contents and seed, changed by another prompt only where that one is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.runs import draws
from interp.runs.draws import content_keys, content_order, donor_prompts
from interp.runs.holdout import held_out_prompts


@pytest.fixture(params=["few prompts", "many prompts"], autouse=True)
def rule(request, monkeypatch):
    """Both ways to draw donors, on sets as small as one likes."""
    monkeypatch.setattr(draws, "_FEW", 4096 if request.param == "few prompts" else 0)


PROMPTS = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), min_size=2, max_size=12)
SEEDS = st.integers(0, 1000)


def tensors(prompts: list[list[int]]) -> list[Tensor]:
    return [torch.tensor(ids) for ids in prompts]


def donors_of(prompts: list[list[int]], seed: int) -> list[list[int]]:
    """The content of each prompt's donor."""
    return [prompts[index] for index in donor_prompts(tensors(prompts), seed)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompts=PROMPTS, seed=SEEDS)
def test_donors_are_others_and_long_enough(prompts: list[list[int]], seed: int) -> None:
    for index, donor in enumerate(donor_prompts(tensors(prompts), seed)):
        assert donor != index
        others = [ids for ids in prompts if ids != prompts[index]]
        assert (prompts[donor] in others) or not others
        reach = [min(len(ids), len(prompts[index])) for ids in others or prompts]
        assert min(len(prompts[donor]), len(prompts[index])) == max(reach)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompts=PROMPTS, seed=SEEDS, data=st.data())
def test_the_order_of_prompts_decides_nothing(prompts: list[list[int]], seed: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(prompts))))
    mixed = [prompts[index] for index in order]
    donors = donors_of(prompts, seed)
    assert donors_of(mixed, seed) == [donors[index] for index in order]
    held_out = held_out_prompts(tensors(prompts), 0.3, seed)
    chosen = sorted(ids for ids, out in zip(prompts, held_out, strict=True) if out)
    again = held_out_prompts(tensors(mixed), 0.3, seed)
    assert sorted(ids for ids, out in zip(mixed, again, strict=True) if out) == chosen
    assert 0 < len(chosen) < len(prompts)
    by_content = [prompts[index] for index in content_order(tensors(prompts), seed)]
    assert [mixed[index] for index in content_order(tensors(mixed), seed)] == by_content


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompts=PROMPTS, added=st.lists(st.integers(0, 4), min_size=1, max_size=5), seed=SEEDS)
def test_another_prompt_changes_only_the_donors_it_replaces(
    prompts: list[list[int]], added: list[int], seed: int
) -> None:
    before, after = donors_of(prompts, seed), donors_of([*prompts, added], seed)
    for old, new in zip(before, after, strict=False):
        assert new in (old, added)


def test_every_possible_donor_is_drawn_about_as_often() -> None:
    prompts = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 5]]
    drawn = np.bincount([donor_prompts(tensors(prompts), seed)[3] for seed in range(600)], minlength=4)
    # Binomial with 600 draws of 1/3: a standard deviation of 11.5.
    assert drawn[3] == 0 and (abs(drawn[:3] - 200) < 50).all()


def test_keys_tell_prompts_and_seeds_apart() -> None:
    keys = np.concatenate([content_keys(tensors([[1], [2], [1, 2], [2, 1], [1]]), seed) for seed in range(3)])
    assert len(np.unique(keys)) == 12 and keys[0] == keys[4]


def test_donors_of_very_many_prompts_take_a_moment() -> None:
    """Ranking all others for each would be 400 million hashes."""
    ids = torch.randint(0, 1000, (20_000, 4), generator=torch.Generator().manual_seed(0))
    prompts = [row[: 2 + number % 3] for number, row in enumerate(ids)]
    drawn, lengths = donor_prompts(prompts, 0), np.array([len(one) for one in prompts])
    assert (drawn != np.arange(len(prompts))).all() and (lengths[drawn] >= lengths).all()
    # A circle cut at random: about half of the arcs hold no point of another prompt.
    assert 0.3 < len(np.unique(drawn)) / len(prompts) < 0.7
