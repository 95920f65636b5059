"""The data that ships agrees with itself: made by the commands of `interp.reference`, from these very weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
from transformers import AutoTokenizer

from interp.data.bigram_counts import FILE_NAME, load_counts, tokens_sha256, vocabulary
from interp.data.shipped import shipped_path
from interp.reference.counts import MAX_BYTES
from interp.reference.sample import weights_sha256
from interp.reference.train import saved_tokenizer


@pytest.fixture(scope="module")
def stories() -> list[dict]:
    return [json.loads(line) for line in (shipped_path("stories") / "stories.jsonl").read_text("utf-8").splitlines()]


def test_the_card_describes_these_weights() -> None:
    reference = shipped_path("reference")
    evaluation = json.loads((reference / "evaluation.json").read_text())
    assert evaluation["weights_sha256"] == weights_sha256(reference)
    assert weights_sha256(reference) in (reference / "README.md").read_text("utf-8")
    assert weights_sha256(reference) in (shipped_path("stories") / "README.md").read_text("utf-8")
    assert (reference / "model.safetensors").stat().st_size < 24_000_000


def test_the_reference_model_beats_the_baselines_clearly() -> None:
    evaluation = json.loads((shipped_path("reference") / "evaluation.json").read_text())
    for name, row in evaluation["held_out"].items():
        model, bigram, unigram = (row[by]["nats_per_token"] for by in ("reference", "bigram", "unigram"))
        assert model + 0.3 < bigram < unigram, name


def test_counts_belong_to_the_tokenizer_and_the_training_text() -> None:
    counts, reference = load_counts(), shipped_path("reference")
    assert counts.tokenizer_sha256 == tokens_sha256(vocabulary(saved_tokenizer(reference)))
    assert counts.n_tokens == json.loads((reference / "training.json").read_text())["training_tokens"]
    assert (counts.dropped >= 0).all()
    assert np.array_equal(counts.pairs.sum(axis=0) <= counts.unigram, np.ones(len(counts.unigram), dtype=bool))
    assert counts.mass_kept > 0.9
    assert (shipped_path("bigrams") / FILE_NAME).stat().st_size <= MAX_BYTES


def test_stories_keep_their_promises(stories: list[dict]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shipped_path("reference"))
    assert [story["prompt_id"] for story in stories] == list(range(300))
    assert len({story["text"] for story in stories}) == len({story["seed"] for story in stories}) == 300
    for story in stories:
        assert list(story) == ["prompt_id", "text", "seed", "n_tokens"]
        n_tokens = len(tokenizer(story["text"], add_special_tokens=False).input_ids)
        assert 60 <= n_tokens == story["n_tokens"] <= 200
        assert "<|endoftext|>" not in story["text"]
