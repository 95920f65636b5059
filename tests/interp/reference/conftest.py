"""A made-up corpus of word salad, and a tiny model trained on it once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from interp.reference.corpus import END_OF_TEXT, HELD_OUT_BOOKS, HELD_OUT_STORIES
from interp.reference.train import TrainingRecipe, train

N_TRAINING_STORIES = 40
WORDS = [
    "the",
    "a",
    "old",
    "little",
    "fox",
    "hen",
    "moon",
    "river",
    "ran",
    "sat",
    "saw",
    "said",
    "and",
    "to",
    "by",
    "red",
]


def sentences(rng: np.random.Generator, n: int) -> str:
    return " ".join(" ".join(rng.choice(WORDS, size=rng.integers(4, 9))).capitalize() + "." for _ in range(n))


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two books to train on, the two held out, and stories; every document carries a word of its own."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    (folder / "books").mkdir()
    for book, name in enumerate(["First_1.txt", "Second-s-Tale_2.txt", *HELD_OUT_BOOKS]):
        paragraphs = [f"Book{book} {sentences(rng, 3)}" for _ in range(15)]
        (folder / "books" / name).write_text("\n\n".join(paragraphs))
    stories = [
        f"Story{story} {sentences(rng, 1)}\n{sentences(rng, 1)}\n"
        for story in range(N_TRAINING_STORIES + HELD_OUT_STORIES)
    ]
    (folder / "tinystories_sample.txt").write_text(f"{END_OF_TEXT}\n".join(stories) + END_OF_TEXT)
    return folder


@pytest.fixture(scope="session")
def tiny_recipe() -> TrainingRecipe:
    return TrainingRecipe(
        n_layers=1, d_model=16, n_heads=2, context=32, vocab_size=320, windows_per_step=4, warmup_steps=2, seed=3
    )


@pytest.fixture(scope="session")
def tiny_run(corpus_folder: Path, tiny_recipe: TrainingRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a finished training run: checkpoint.pt, log.jsonl, tokenizer.json, model/."""
    out = tmp_path_factory.mktemp("run")
    train(corpus_folder, out, 12, tiny_recipe, device="cpu", bf16=False, save_every=4)
    return out


@pytest.fixture(scope="session")
def tiny_model(tiny_run: Path) -> Path:
    """The exported Hugging Face folder of that run."""
    return tiny_run / "model"
