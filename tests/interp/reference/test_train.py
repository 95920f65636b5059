from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from transformers import AutoTokenizer

from interp.reference import train as training
from interp.reference.corpus import END_OF_TEXT, TokenStream, encode, read_corpus, windows
from interp.reference.muon import Muon, orthogonalise
from interp.reference.sample import load_trained
from interp.reference.train import (
    TrainingRecipe,
    batches,
    held_out_losses,
    learning_rate_factor,
    new_model,
    saved_tokenizer,
    train,
)

pytestmark = pytest.mark.trained

ODD_TEXTS = [
    "He didn't  wait , did he ?",
    '"No," said  the fox .\n\n\tThe end',
    "naïve café – «oui» 🦊",
    " leading and trailing ",
]


def run(corpus: Path, out: Path, recipe: TrainingRecipe, steps: int = 12) -> Path:
    return train(corpus, out, steps, recipe, device="cpu", bf16=False, save_every=4)


@pytest.fixture(scope="module")
def stream() -> TokenStream:
    n = 700
    return TokenStream(np.arange(n, dtype=np.int32) % 50, np.arange(0, n, 7), np.ones(n // 7, dtype=bool), n)


def test_an_interrupted_run_ends_with_the_same_bits(
    corpus_folder: Path, tiny_recipe: TrainingRecipe, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))

    def interrupted_backward(*args: object) -> float:
        if next(calls) == 6:  # two steps after the checkpoint of step 4: they must be done again
            raise KeyboardInterrupt
        return backward(*args)

    backward = training.backward
    with monkeypatch.context() as patch:
        patch.setattr(training, "backward", interrupted_backward)
        with pytest.raises(KeyboardInterrupt):
            run(corpus_folder, tmp_path, tiny_recipe)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 4
    assert not (tmp_path / "model").exists()
    run(corpus_folder, tmp_path, tiny_recipe)

    straight, resumed = (torch.load(out / "checkpoint.pt", weights_only=True) for out in (tiny_run, tmp_path))
    assert resumed["step"] == straight["step"] == 12
    assert straight["model"].keys() == resumed["model"].keys()
    assert all(torch.equal(straight["model"][name], resumed["model"][name]) for name in straight["model"])
    weights = [(out / "model" / "model.safetensors").read_bytes() for out in (tiny_run, tmp_path)]
    assert weights[0] == weights[1]


def test_running_a_finished_run_again_exports_it_again(
    corpus_folder: Path, tiny_recipe: TrainingRecipe, tiny_run: Path, tmp_path: Path
) -> None:
    for name in ("checkpoint.pt", "tokenizer.json"):
        (tmp_path / name).write_bytes((tiny_run / name).read_bytes())
    model = run(corpus_folder, tmp_path, tiny_recipe)
    for name in ("model.safetensors", "tokenizer.json", "training.json"):
        assert (model / name).read_bytes() == (tiny_run / "model" / name).read_bytes(), name


def test_a_checkpoint_of_another_recipe_is_refused(
    corpus_folder: Path, tiny_recipe: TrainingRecipe, tiny_run: Path, tmp_path: Path
) -> None:
    for name in ("checkpoint.pt", "tokenizer.json"):
        (tmp_path / name).write_bytes((tiny_run / name).read_bytes())
    with pytest.raises(typer.BadParameter, match="another recipe"):
        run(corpus_folder, tmp_path, replace(tiny_recipe, seed=4))


def test_training_lowers_the_loss_and_keeps_a_log(
    corpus_folder: Path, tiny_recipe: TrainingRecipe, tiny_run: Path
) -> None:
    log = [json.loads(line) for line in (tiny_run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [4, 8, 12]
    tokenizer = saved_tokenizer(tiny_run / "model")
    held = encode(tokenizer, read_corpus(corpus_folder).held_out["stories"])
    bos = tokenizer.token_to_id(END_OF_TEXT)
    before = held_out_losses(new_model(tiny_recipe, tokenizer), held, tiny_recipe.context, bos).mean()
    assert log[-1]["held_out"]["stories"] < before - 0.1
    assert set(log[-1]["held_out"]) == {"Alice-s-Adventures-in-Wonderland", "The-Time-Machine", "stories"}


def test_batches_go_on_where_they_stopped_across_passes(stream: TokenStream) -> None:
    recipe = TrainingRecipe(context=16, windows_per_step=8, seed=5)
    first_pass = windows(stream, 16, 0, np.random.default_rng((5, 0)))
    per_pass = len(first_pass) // 8
    straight = list(islice(batches(stream, recipe, 0, 0), 3 * per_pass))
    assert np.array_equal(np.concatenate(straight[:per_pass]), first_pass[: 8 * per_pass])
    for first in (1, per_pass, per_pass + 2):
        resumed = list(islice(batches(stream, recipe, 0, first), 3 * per_pass - first))
        assert all(np.array_equal(a, b) for a, b in zip(straight[first:], resumed, strict=True))
    assert not np.array_equal(straight[0], straight[per_pass]), "another pass is cut and shuffled otherwise"


def test_learning_rate_rises_stays_and_falls_to_zero() -> None:
    recipe = TrainingRecipe(warmup_steps=10, decay_fraction=0.5)
    factors = [learning_rate_factor(step, 100, recipe) for step in range(101)]
    assert factors[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert set(factors[10:51]) == {1.0}
    assert factors[75] == pytest.approx(0.5)
    assert factors[100] == 0


def test_held_out_losses_predict_every_token_once(tiny_model: Path) -> None:
    model, tokenizer = load_trained(tiny_model)
    bos, context = tokenizer.bos_token_id, 10
    n = (context - 1) * 17 + 4  # more than one batch of sixteen stretches, and a short last stretch
    ids = np.random.default_rng(0).integers(1, 300, n).astype(np.int32)
    expected = []
    for start in range(0, n, context - 1):
        row = torch.tensor([[bos, *ids[start : start + context - 1].tolist()]])
        log_probs = torch.log_softmax(model(row).logits[0, :-1], dim=-1)
        expected += (-log_probs.gather(1, row[0, 1:, None])[:, 0]).tolist()
    losses = held_out_losses(model, TokenStream(ids, np.array([0]), np.array([True]), n), context, bos)
    np.testing.assert_allclose(losses, expected, atol=1e-4)


def test_the_saved_tokenizer_puts_one_start_of_text_before_a_text(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    bos = tokenizer.bos_token_id
    for text in [*ODD_TEXTS, ""]:
        ids = tokenizer(text).input_ids
        assert ids[0] == bos
        assert ids.count(bos) == 1
        assert tokenizer(text, add_special_tokens=False).input_ids == ids[1:]


def test_the_saved_tokenizer_gives_the_text_back(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained(tmp_path)
    for each in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        for text in ODD_TEXTS:
            assert each.decode(each(text).input_ids) == END_OF_TEXT + text
            assert each.decode(each(text).input_ids, skip_special_tokens=True) == text
            assert each.decode(each.encode(text, add_special_tokens=False)) == text
        assert each.model_max_length == 32


def test_the_tokenizer_read_back_cuts_documents_as_in_training(corpus_folder: Path, tiny_model: Path) -> None:
    documents = read_corpus(corpus_folder).train
    facts = json.loads((tiny_model / "training.json").read_text())
    stream = encode(saved_tokenizer(tiny_model), documents)
    assert stream.digest == facts["corpus_sha256"]
    assert len(stream.ids) == facts["training_tokens"]
    assert facts["tokens_seen"] == 12 * 4 * 31


def test_the_export_is_float16(tiny_model: Path) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    assert config["dtype"] == "float16"
    model, _ = load_trained(tiny_model)
    assert (tiny_model / "model.safetensors").stat().st_size < 2 * sum(p.numel() for p in model.parameters()) + 20_000


@pytest.mark.parametrize("shape", [(3, 64, 16), (3, 16, 64), (2, 24, 8)])
def test_orthogonalise_brings_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.tensor(1e3)
    result = orthogonalise(matrices)
    assert result.shape == shape
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.6
    assert values.max() < 1.3
    # The singular vectors stay: the nearest orthogonal matrix, up to those values.
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    in_basis = u.mT @ result @ vh.mT
    off_diagonal = in_basis - torch.diag_embed(in_basis.diagonal(dim1=1, dim2=2))
    assert off_diagonal.abs().max() < 1e-3
    assert in_basis.diagonal(dim1=1, dim2=2).min() > 0


def test_muon_takes_steps_of_one_size_whatever_the_gradient() -> None:
    start = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
    gradient = torch.randn(32, 8, generator=torch.Generator().manual_seed(2))
    moved = []
    for size in (1e-3, 1e3):
        param = torch.nn.Parameter(start.clone())
        param.grad = gradient * size
        Muon([param], lr=0.1, weight_decay=0.0).step()
        moved.append((param - start).detach())
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-3, atol=1e-5)
    # Root mean square of an orthogonal [32, 8] is 1 / sqrt(32); the scale 0.2 sqrt(32) makes it 0.2.
    assert moved[0].square().mean().sqrt().item() == pytest.approx(0.1 * 0.2, rel=0.15)
    assert (moved[0] * gradient).sum() < 0, "downhill"
