"""The shipped cards are what the code writes from the shipped data, to the letter."""

from __future__ import annotations

import json
import re

from interp.data.bigram_counts import load_counts
from interp.data.shipped import shipped_path
from interp.reference import card, counts, sample
from interp.reference.sample import PlantedPassage, weights_sha256


def shipped(name: str) -> str:
    return (shipped_path(name) / "README.md").read_text("utf-8")


def test_the_card_of_the_bigram_counts() -> None:
    text = shipped("bigrams")
    n_pairs = int(re.search(r"distinct pairs seen \| ([\d,]+)", text)[1].replace(",", ""))
    n_bytes = (shipped_path("bigrams") / "counts.npz").stat().st_size
    assert counts.card(load_counts(), n_pairs, n_bytes) == text


def test_the_card_of_the_stories() -> None:
    lines = (shipped_path("stories") / "stories.jsonl").read_text("utf-8").splitlines()
    stories = [PlantedPassage(**json.loads(line)) for line in lines]
    assert sample.card(stories, weights_sha256(shipped_path("reference"))) == shipped("stories")


def test_the_card_of_the_model() -> None:
    """Titles of books and the sample are the card's own, for neither the corpus nor the sampled passage is shipped."""
    text, folder = shipped("reference"), shipped_path("reference")
    facts = [json.loads((folder / name).read_text()) for name in ("evaluation.json", "training.json")]
    listed = re.search(r"Project Gutenberg numbers: (.*?)\.\n\n", text, flags=re.DOTALL)[1]
    books = [re.sub(r" \((\d+)\)$", r"_\1.txt", title) for title in " ".join(listed.split()).split("; ")]
    quoted = re.findall(r"^> ?(.*)$", text, flags=re.MULTILINE)
    passage = PlantedPassage(0, "\n".join(quoted), card.SAMPLE_SEED, 0)
    assert card.card(*facts, books, passage) == text
