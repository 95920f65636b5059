"""Train the reference model: `python -m interp.reference.train --corpus DIR`.

After an interruption, run the same command again: it continues from the last checkpoint with the same order of text.
The learning rate is constant after a short warm-up and falls to zero over the last part of `--steps`, so the number of
steps can still be changed when resuming.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from tokenizers import Tokenizer, processors
from torch import Tensor
from tqdm import tqdm

from interp.data.writing import written
from interp.reference.corpus import END_OF_TEXT, TokenStream, encode, read_corpus, train_tokenizer, windows
from interp.reference.muon import Muon


@dataclass(frozen=True)
class TrainingRecipe:
    """A training recipe: everything that determines the weights, except the corpus."""

    n_layers: int = 8
    d_model: int = 256
    n_heads: int = 8
    context: int = 256
    vocab_size: int = 8192
    windows_per_step: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup_steps: int = 50
    decay_fraction: float = 0.4
    seed: int = 0


def new_model(recipe: TrainingRecipe, tokenizer: Tokenizer) -> Any:
    """Return a newly initialised `GPT2LMHeadModel` of the recipe's shape."""
    from transformers import GPT2Config, GPT2LMHeadModel

    end = tokenizer.token_to_id(END_OF_TEXT)
    torch.manual_seed(recipe.seed)
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_positions=recipe.context,
        n_embd=recipe.d_model,
        n_layer=recipe.n_layers,
        n_head=recipe.n_heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own GELU, in one kernel instead of eight
        bos_token_id=end,
        eos_token_id=end,
    )
    return GPT2LMHeadModel(config)


def new_optimisers(model: Any, recipe: TrainingRecipe) -> list[torch.optim.Optimizer]:
    """Return Muon for the blocks' matrices and AdamW for embeddings, norms and biases."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".h." in name]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def learning_rate_factor(step: int, steps: int, recipe: TrainingRecipe) -> float:
    """Return the factor: warm-up, constant, then linear decay to 0 over the last `decay_fraction` of `steps`."""
    return min(1.0, (step + 1) / recipe.warmup_steps, (steps - step) / max(1, steps * recipe.decay_fraction))


def batches(stream: TokenStream, recipe: TrainingRecipe, bos: int, first_step: int) -> Iterator[NDArray[np.int32]]:
    """Yield batches of endless passes over the text, each cut and shuffled by its own seed, from `first_step` on."""
    skip, epoch = first_step, 0
    while True:
        cut = windows(stream, recipe.context, bos, np.random.default_rng((recipe.seed, epoch)))
        for index in range(len(cut) // recipe.windows_per_step):
            if skip:
                skip -= 1
                continue
            yield cut[index * recipe.windows_per_step : (index + 1) * recipe.windows_per_step]
        epoch += 1


def token_losses(model: Any, ids: Tensor) -> Tensor:
    """Return the cross-entropy in nats of every token after the first, float32 [batch, pos - 1]."""
    logits = model(ids[:, :-1], use_cache=False).logits.float()
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return losses.view(len(ids), -1)


def backward(model: Any, ids: Tensor, bf16: bool) -> float:
    """Accumulate the gradient of the mean loss, in chunks of eight windows to stay in cache, and return the loss."""
    total = 0.0
    for part in torch.split(ids, 8):
        with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=bf16):
            loss = token_losses(model, part).sum() / ids[:, 1:].numel()
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total


def held_out_losses(model: Any, stream: TokenStream, context: int, bos: int) -> NDArray[np.float32]:
    """Return the loss of every token of `stream`: start-of-text before each chunk of `context - 1` tokens."""
    device = next(model.parameters()).device
    ids = torch.as_tensor(stream.ids, dtype=torch.long)
    losses = []
    with torch.inference_mode():
        for rows in torch.split(ids, (context - 1) * 16):
            padded = torch.nn.functional.pad(rows, (0, -len(rows) % (context - 1)), value=bos).view(-1, context - 1)
            batch = torch.nn.functional.pad(padded, (1, 0), value=bos).to(device)
            losses.append(token_losses(model, batch).flatten()[: len(rows)].cpu())
    return torch.cat(losses).numpy()


def train(
    corpus: Path, out: Path, steps: int, recipe: TrainingRecipe, *, device: str, bf16: bool, save_every: int
) -> Path:
    """Train or resume in `out` and return the folder of the finished Hugging Face model, `out/model`."""
    out.mkdir(parents=True, exist_ok=True)
    text = read_corpus(corpus)
    tokenizer = _tokenizer(out / "tokenizer.json", text.train, recipe)
    bos = tokenizer.token_to_id(END_OF_TEXT)
    assert bos is not None
    stream = encode(tokenizer, text.train)
    held_out = {name: encode(tokenizer, documents) for name, documents in text.held_out.items()}
    model = new_model(recipe, tokenizer).to(device)
    optimisers = new_optimisers(model, recipe)
    checkpoint = out / "checkpoint.pt"
    step, seconds = _resume(checkpoint, model, optimisers, recipe, stream.digest)
    typer.echo(f"{len(stream.ids):,} training tokens, {sum(p.numel() for p in model.parameters()):,} parameters")

    started = time.monotonic() - seconds
    progress = tqdm(total=steps, initial=step, unit="step", smoothing=0.02, mininterval=5)
    for batch in batches(stream, recipe, bos, step):
        if step >= steps:
            break
        factor = learning_rate_factor(step, steps, recipe)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate * factor
        ids = torch.as_tensor(batch, dtype=torch.long, device=device)
        loss = backward(model, ids, bf16)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        progress.update()
        progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
        if step % save_every == 0 or step == steps:
            seconds = time.monotonic() - started
            losses = {
                name: float(held_out_losses(model, _head(held, 8192), recipe.context, bos).mean())
                for name, held in held_out.items()
            }
            row = {"step": step, "seconds": round(seconds), "train_loss": loss, "held_out": losses}
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            _save(checkpoint, model, optimisers, recipe, stream.digest, step, seconds)
    progress.close()
    return _export(out / "model", model, out / "tokenizer.json", recipe, step, stream, seconds)


def _head(stream: TokenStream, n: int) -> TokenStream:
    return TokenStream(stream.ids[:n], stream.starts, stream.begins_document, stream.n_bytes)


def _tokenizer(path: Path, documents: list[list[str]], recipe: TrainingRecipe) -> Tokenizer:
    if not path.exists():
        train_tokenizer(documents, recipe.vocab_size).save(str(path))
    return Tokenizer.from_file(str(path))


def _resume(
    path: Path, model: Any, optimisers: list[torch.optim.Optimizer], recipe: TrainingRecipe, digest: str
) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    saved = torch.load(path, weights_only=True)
    if saved["recipe"] != asdict(recipe) or saved["digest"] != digest:
        raise typer.BadParameter(f"{path} was made with another recipe or corpus; use another --out or delete it.")
    model.load_state_dict(saved["model"])
    for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
        optimiser.load_state_dict(state)
    return saved["step"], saved["seconds"]


def _save(
    path: Path,
    model: Any,
    optimisers: list[torch.optim.Optimizer],
    recipe: TrainingRecipe,
    digest: str,
    step: int,
    seconds: float,
) -> None:
    state = {
        "model": model.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "recipe": asdict(recipe),
        "digest": digest,
        "step": step,
        "seconds": seconds,
    }
    with written(path, "a checkpoint") as file:
        torch.save(state, file)


def _export(
    folder: Path,
    model: Any,
    tokenizer_file: Path,
    recipe: TrainingRecipe,
    steps: int,
    stream: TokenStream,
    seconds: float,
) -> Path:
    model.half().save_pretrained(folder)
    _save_tokenizer(folder, Tokenizer.from_file(str(tokenizer_file)), recipe.context)
    facts = {
        "recipe": asdict(recipe),
        "steps": steps,
        "tokens_seen": steps * recipe.windows_per_step * (recipe.context - 1),
        "training_tokens": len(stream.ids),
        "training_bytes": stream.n_bytes,
        "corpus_sha256": stream.digest,
        "seconds": round(seconds),
    }
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    return folder


def _save_tokenizer(folder: Path, tokenizer: Tokenizer, context: int) -> None:
    """Save for `AutoTokenizer`, whose default `add_special_tokens=True` puts one start-of-text token before a text."""
    from transformers import PreTrainedTokenizerFast

    end = (END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))
    # The model was trained on windows that begin with this token: without it position 0 is out of distribution.
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{END_OF_TEXT} $A", special_tokens=[end])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def saved_tokenizer(folder: str | Path) -> Tokenizer:
    """Return the tokenizer of an exported folder without its start-of-text token, as `encode` requires."""
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def main(
    corpus: Annotated[Path, typer.Option(help="Folder with books/*.txt and tinystories_sample.txt.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, log and finished model.")] = Path("results/train"),
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps; may be changed when resuming.")] = 2400,
    seed: Annotated[int, typer.Option(help="Initialisation and order of text.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    bf16: Annotated[bool, typer.Option(help="bfloat16 autocast, faster if the processor supports it.")] = False,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 50,
) -> None:
    """Train the reference model and export it as a float16 Hugging Face folder."""
    folder = train(corpus, out, steps, TrainingRecipe(seed=seed), device=device, bf16=bf16, save_every=save_every)
    typer.echo(f"Finished model: {folder}")


if __name__ == "__main__":
    typer.run(main)
