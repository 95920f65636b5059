from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from interp.errors import ModelError
from interp.reference.sample import (
    OPENINGS,
    PlantedPassage,
    continue_openings,
    load_trained,
    main,
    nucleus,
    passage_text,
    passages,
    plan,
    weights_sha256,
)

PROBS = torch.tensor([0.05, 0.5, 0.15, 0.3])


@pytest.fixture(scope="module")
def trained(tiny_model: Path) -> tuple[Any, Any]:
    return load_trained(tiny_model)


def test_a_plan_follows_from_its_seed() -> None:
    assert torch.equal(plan(7).draws, plan(7).draws)
    assert not torch.equal(plan(7).draws[:60], plan(8).draws[:60])
    plans = [plan(seed) for seed in range(300)]
    assert {each.opening for each in plans} == set(OPENINGS)
    lengths = [len(each.draws) for each in plans]
    assert 60 <= min(lengths) < 65
    assert 195 < max(lengths) <= 200


def test_nucleus_draws_in_proportion_from_the_likeliest() -> None:
    draws = (torch.arange(800, dtype=torch.float64) + 0.5) / 800
    chosen = nucleus(PROBS.log().expand(800, 4), draws, temperature=1.0, top_p=0.79)
    assert torch.bincount(chosen, minlength=4).tolist() == [0, 500, 0, 300]
    chosen = nucleus(PROBS.log().expand(800, 4), draws, temperature=1.0, top_p=1.0)
    assert torch.bincount(chosen, minlength=4).tolist() == pytest.approx([40, 400, 120, 240], abs=1)


def test_nucleus_sharpens_with_temperature() -> None:
    draws = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    share = torch.bincount(nucleus(PROBS.log().expand(1000, 4), draws, temperature=0.5, top_p=1.0), minlength=4)
    squares = PROBS.square() / PROBS.square().sum()
    assert share.tolist() == pytest.approx((1000 * squares).tolist(), abs=1)


@pytest.mark.parametrize("draw", [0.0, 1.0])
def test_nucleus_stays_inside_at_the_ends(draw: float) -> None:
    chosen = nucleus(PROBS.log()[None], torch.tensor([draw], dtype=torch.float64), temperature=1.0, top_p=0.6)
    assert chosen.item() == (1 if draw == 0 else 3)


def test_cached_sampling_equals_sampling_from_the_whole_prefix(trained: tuple[Any, Any]) -> None:
    model, tokenizer = trained
    openings = [[], [5, 6, 7], [9]]
    generator = torch.Generator().manual_seed(0)
    draws = [torch.rand(n, generator=generator, dtype=torch.float64) for n in (14, 9, 20)]
    rows = continue_openings(model, tokenizer.bos_token_id, openings, draws)
    for opening, numbers, row in zip(openings, draws, rows, strict=True):
        assert row[: len(opening)] == opening
        assert len(row) == len(numbers)
        for step in range(len(opening), len(row)):
            with torch.inference_mode():
                logits = model(torch.tensor([[tokenizer.bos_token_id, *row[:step]]]), use_cache=False).logits[:, -1]
            assert nucleus(logits, numbers[step : step + 1]).item() == row[step]


def test_a_passage_does_not_depend_on_its_neighbours(trained: tuple[Any, Any]) -> None:
    model, tokenizer = trained
    many = list(islice(passages(model, tokenizer, 0, shortest=5, longest=20, batch_size=8), 10))
    few = list(islice(passages(model, tokenizer, 0, shortest=5, longest=20, batch_size=3), 10))
    assert many == few
    assert [passage.prompt_id for passage in many] == list(range(10))
    alone = next(passages(model, tokenizer, many[6].seed, shortest=5, longest=20, batch_size=1))
    assert (alone.text, alone.seed) == (many[6].text, many[6].seed)


def test_passages_keep_their_promises(trained: tuple[Any, Any]) -> None:
    model, tokenizer = trained
    found = list(islice(passages(model, tokenizer, 100, shortest=5, longest=20, batch_size=10), 25))
    assert len({passage.seed for passage in found}) == 25
    for passage in found:
        n_tokens = len(tokenizer(passage.text, add_special_tokens=False).input_ids)
        assert 5 <= n_tokens == passage.n_tokens <= 20
        assert passage.text == passage.text.strip()
        assert "<|endoftext|>" not in passage.text
        assert "\N{REPLACEMENT CHARACTER}" not in passage.text


def test_the_end_of_the_story_ends_the_passage(trained: tuple[Any, Any]) -> None:
    _, tokenizer = trained
    story = tokenizer("the old fox", add_special_tokens=False).input_ids
    assert passage_text(tokenizer, [*story, tokenizer.eos_token_id, *story]) == "the old fox"
    assert passage_text(tokenizer, story) == "the old fox"


def test_a_model_that_ends_at_once_is_refused(trained: tuple[Any, Any]) -> None:
    _, tokenizer = trained

    class EndsAtOnce:
        def __call__(self, ids: torch.Tensor, **_: object) -> Any:
            logits = torch.zeros(len(ids), 1, len(tokenizer))
            logits[..., tokenizer.eos_token_id] = 1e4
            return type("Output", (), {"logits": logits, "past_key_values": None})

    # Longer than any opening, so that an opening alone is not a passage.
    with pytest.raises(ModelError, match="none of 40 samples"):
        next(passages(EndsAtOnce(), tokenizer, 0, shortest=60, longest=70, batch_size=2))


def test_the_command_writes_passages_and_card(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interp.reference.sample.passages", fixed_passages)
    main(tiny_model, tmp_path, n=3, seed=11)
    rows = [json.loads(line) for line in (tmp_path / "stories.jsonl").read_text("utf-8").splitlines()]
    assert rows == [
        {"prompt_id": i, "text": f'"Tale" {i} –\nend', "seed": 11 + 2 * i, "n_tokens": 70 + i} for i in range(3)
    ]
    card = (tmp_path / "README.md").read_text("utf-8")
    assert weights_sha256(tiny_model) in card
    assert "of 5 seeds from 11 on,\n3 were used" in card
    assert "together 213" in card


def fixed_passages(model: Any, tokenizer: Any, first_seed: int) -> Any:
    return (PlantedPassage(i, f'"Tale" {i} –\nend', first_seed + 2 * i, 70 + i) for i in range(10))
