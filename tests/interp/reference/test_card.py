from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from interp.reference import card as cards
from interp.reference.baselines import fit_baselines
from interp.reference.card import HeldOut, main, pooled, title, wrapped
from interp.reference.corpus import END_OF_TEXT, encode, read_corpus
from interp.reference.sample import PlantedPassage, load_trained, weights_sha256
from interp.reference.train import held_out_losses, saved_tokenizer


@pytest.fixture(scope="module")
def written(corpus_folder: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("card")
    with pytest.MonkeyPatch.context() as patch:
        # A passage of sixty tokens does not fit the tiny model's context.
        patch.setattr(cards, "passages", lambda *_, **__: iter([PlantedPassage(0, "The fox.\nIt ran.", 0, 6)]))
        main(corpus_folder, tiny_model, out)
    return out


def test_the_numbers_are_those_of_the_losses(written: Path, corpus_folder: Path, tiny_model: Path) -> None:
    evaluation = json.loads((written / "evaluation.json").read_text())
    assert evaluation["weights_sha256"] == weights_sha256(tiny_model)
    tokenizer, text = saved_tokenizer(tiny_model), read_corpus(corpus_folder)
    bos = tokenizer.token_to_id(END_OF_TEXT)
    model, _ = load_trained(tiny_model)
    baselines = fit_baselines(encode(tokenizer, text.train).ids, bos, tokenizer.get_vocab_size())
    assert list(evaluation["held_out"]) == [*text.held_out, "all"]
    for name, documents in text.held_out.items():
        stream, row = encode(tokenizer, documents), evaluation["held_out"][name]
        losses = {
            "reference": held_out_losses(model, stream, 32, bos),
            "bigram": baselines.bigram_losses(stream.ids, bos),
            "unigram": baselines.unigram_losses(stream.ids),
        }
        assert (row["n_tokens"], row["n_bytes"]) == (len(stream.ids), stream.n_bytes)
        for by, values in losses.items():
            assert len(values) == len(stream.ids)
            assert row[by]["nats_per_token"] == pytest.approx(values.mean(), abs=1e-4)
            bits = values.sum() / np.log(2) / stream.n_bytes
            assert row[by]["bits_per_byte"] == pytest.approx(bits, abs=1e-4)


def test_all_weighs_every_token_alike() -> None:
    texts = [
        HeldOut(10, {name: np.array([1.0, 3.0]) for name in cards.PREDICTORS}),
        HeldOut(30, {name: np.array([5.0]) for name in cards.PREDICTORS}),
    ]
    summary = pooled(texts).summary()
    assert (summary["n_tokens"], summary["n_bytes"]) == (3, 40)
    assert summary["bigram"] == {"nats_per_token": 3.0, "bits_per_byte": round(9 / np.log(2) / 40, 4)}


def test_the_card_says_what_it_is_made_of(written: Path, tiny_model: Path) -> None:
    text = (written / "README.md").read_text("utf-8")
    held_out = json.loads((written / "evaluation.json").read_text())["held_out"]
    for row in held_out.values():
        for by in cards.PREDICTORS:
            assert f"{row[by]['nats_per_token']:.3f} · {row[by]['bits_per_byte']:.3f}" in text
    training = json.loads((tiny_model / "training.json").read_text())
    for fact in (training["corpus_sha256"], weights_sha256(tiny_model), "Second's Tale (2)", "CDLA-Sharing-1.0"):
        assert fact in text
    assert "> The fox.\n> It ran.\n" in text
    prose = [line for line in text.splitlines() if not line.startswith(("|", ">"))]
    assert max(map(len, prose)) <= 120


def test_titles() -> None:
    assert title("Andersen-s-Fairy-Tales_1597.txt") == "Andersen's Fairy Tales (1597)"
    assert title("Around-the-World-in-80-Days_103.txt") == "Around the World in 80 Days (103)"
    assert title("The-Time-Machine") == "The Time Machine"


def test_wrapped_fills_prose_and_leaves_tables() -> None:
    table = "| a | b |\n|---|---|"
    assert wrapped(f"# Title\n\none\ntwo three\n\n{table}\n", width=9) == f"# Title\n\none two\nthree\n\n{table}\n"
