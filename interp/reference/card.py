"""Measure a trained model on the held-out text and write its card: `python -m interp.reference.card --corpus DIR`."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from interp.data.bigram_counts import vocabulary
from interp.reference.baselines import Baselines, fit_baselines
from interp.reference.corpus import END_OF_TEXT, HELD_OUT_BOOKS, HELD_OUT_STORIES, TokenStream, encode, read_corpus
from interp.reference.sample import TEMPERATURE, TOP_P, PlantedPassage, load_trained, passages, weights_sha256
from interp.reference.train import held_out_losses, saved_tokenizer

SAMPLE_SEED = 0
PREDICTORS = ("reference", "bigram", "unigram")


@dataclass(frozen=True)
class HeldOut:
    """The losses in nats of every token of a held-out text, end of text included, by predictor."""

    n_bytes: int
    losses: dict[str, NDArray[np.floating]]

    @property
    def n_tokens(self) -> int:
        """Tokens predicted."""
        return len(self.losses["reference"])

    def summary(self) -> dict[str, Any]:
        """Return sizes, and per predictor the mean loss per token in nats and per byte of text in bits."""
        scores = {
            name: {
                "nats_per_token": round(float(values.mean(dtype=np.float64)), 4),
                "bits_per_byte": round(float(values.sum(dtype=np.float64) / np.log(2) / self.n_bytes), 4),
            }
            for name, values in self.losses.items()
        }
        return {"n_tokens": self.n_tokens, "n_bytes": self.n_bytes, **scores}


def measure(model: Any, baselines: Baselines, stream: TokenStream, context: int, bos: int) -> HeldOut:
    """Return the losses of the model and the baselines on the same tokens."""
    return HeldOut(
        stream.n_bytes,
        {
            "reference": held_out_losses(model, stream, context, bos),
            "bigram": baselines.bigram_losses(stream.ids, bos),
            "unigram": baselines.unigram_losses(stream.ids),
        },
    )


def pooled(texts: list[HeldOut]) -> HeldOut:
    """Return all texts as one, in which every token counts the same."""
    return HeldOut(
        sum(text.n_bytes for text in texts),
        {name: np.concatenate([text.losses[name] for text in texts]) for name in PREDICTORS},
    )


def evaluate(model: Any, folder: Path, corpus: Path) -> dict[str, Any]:
    """Return the content of `evaluation.json`: sizes, held-out losses by text and overall, digest of the weights."""
    tokenizer = saved_tokenizer(folder)
    tokens = vocabulary(tokenizer)
    bos = tokens.index(END_OF_TEXT)
    text = read_corpus(corpus)
    baselines = fit_baselines(encode(tokenizer, text.train).ids, bos, len(tokens))
    context = int(model.config.n_positions)
    held_out = {
        name: measure(model, baselines, encode(tokenizer, documents), context, bos)
        for name, documents in text.held_out.items()
    }
    losses = {name: each.summary() for name, each in held_out.items()}
    return {
        "weights_sha256": weights_sha256(folder),
        "parameters": sum(param.numel() for param in model.parameters()),
        "context": context,
        "held_out": {**losses, "all": pooled(list(held_out.values())).summary()},
    }


def title(file_name: str) -> str:
    """Return a book's title and Project Gutenberg number from its file name.

    >>> title("Alice-s-Adventures-in-Wonderland_11.txt")
    "Alice's Adventures in Wonderland (11)"
    """
    name, number = re.fullmatch(r"(.+?)(?:_(\d+))?(?:\.txt)?", file_name).groups()  # type: ignore[union-attr]
    name = name.replace("-s-", "'s-").replace("-", " ")
    return f"{name} ({number})" if number else name


def loss_table(held_out: dict[str, Any]) -> str:
    """Return a table of one row per text and one column per predictor: nats per token · bits per byte."""
    rows = ["| text | tokens | bytes | reference model | bigram | unigram |", "|---|---|---|---|---|---|"]
    for name, row in held_out.items():
        scores = [f"{row[by]['nats_per_token']:.3f} · {row[by]['bits_per_byte']:.3f}" for by in PREDICTORS]
        label = {"all": "all", "stories": f"{HELD_OUT_STORIES} stories"}.get(name, f"*{title(name)}*")
        rows.append(f"| {label} | {row['n_tokens']:,} | {row['n_bytes']:,} | {' | '.join(scores)} |")
    return "\n".join(rows)


def card(evaluation: dict[str, Any], training: dict[str, Any], books: list[str], sample: PlantedPassage) -> str:
    """Return the model's README; `books` are the corpus's file names, including held-out books."""
    recipe = training["recipe"]
    passes = training["tokens_seen"] / training["training_tokens"]
    hours = training["seconds"] / 3600
    quoted = "\n".join(f"> {line}".rstrip() for line in sample.text.splitlines())
    return wrapped(f"""# reference

A small English language model to try probes on: GPT-2's architecture, {recipe["n_layers"]} layers of width
{recipe["d_model"]}, {recipe["n_heads"]} heads, context {evaluation["context"]}, {evaluation["parameters"]:,}
parameters, float16. It writes like old novels and children's stories, and was trained from scratch for this project.
`interp.load("reference")` loads it, and so does `AutoModelForCausalLM.from_pretrained(FOLDER)` of transformers.

## Held-out loss

Nats per token · bits per byte, on text that was left out of training:

{loss_table(evaluation["held_out"])}

Every token counts once, including the end-of-text token after each document; bytes are UTF-8 bytes of the text. The
model reads start-of-text and then a stretch of {evaluation["context"] - 1} tokens, again and again, so the first tokens
of each stretch are predicted from little context. The baselines are fitted on the same training tokens and predict the
same held-out tokens: an add-one unigram model, and a bigram model with absolute discounting (Ney), interpolated with
the unigram model. The bigram model always sees the true previous token, even at the start of a stretch, where the
reference model sees start-of-text instead. `evaluation.json` holds the same numbers.

## Text

- {len(books)} books of English fiction, most of them novels, from Project Gutenberg through the GITenberg repositories,
with licence headers removed and quotation marks made plain. All are in the public domain in the United States.
{len(HELD_OUT_BOOKS)} are held out: those in the table above.

- A sample of TinyStories (Eldan and Li, 2023), stories written by GPT-3.5 and GPT-4, under CDLA-Sharing-1.0. The last
{HELD_OUT_STORIES} are held out.

The training text has {training["training_tokens"]:,} tokens, or {training["training_bytes"]:,} bytes, under a
byte-level BPE tokenizer of {recipe["vocab_size"]:,} tokens that was trained on the same text. One special token,
`{END_OF_TEXT}`, begins and ends every text; the tokenizer puts it first unless told not to. None of the text is
distributed here. SHA-256 of the training token ids: `{training["corpus_sha256"]}`.

The books, with their Project Gutenberg numbers: {"; ".join(title(book) for book in books)}.

## Recipe

{training["steps"]:,} steps of {recipe["windows_per_step"]} windows of {recipe["context"]} tokens, each beginning with
start-of-text and, if possible, at the start of a paragraph: {training["tokens_seen"]:,} tokens seen, {passes:.1f}
passes over the text, {hours:.1f} hours. Muon for the matrices of the blocks, AdamW for the rest; learning rate
{recipe["learning_rate"]}, {recipe["warmup_steps"]} steps of warm-up, then constant, then linear to zero over the last
{recipe["decay_fraction"]:.0%} of steps; weight decay {recipe["weight_decay"]} on the matrices, no dropout, gradients
clipped at 1, seed {recipe["seed"]}. Made by `python -m interp.reference.train --corpus DIR`, measured by
`python -m interp.reference.card --corpus DIR`; `training.json` holds the facts. SHA-256 of `model.safetensors`:
`{evaluation["weights_sha256"]}`.

## A sample

Seed {sample.seed}, temperature {TEMPERATURE}, nucleus {TOP_P}, by `interp.reference.sample`:

{quoted}

## Limits

The model knows no facts, follows no instructions and loses the thread within a few sentences. It has learnt the style
of its sources and their prejudices: the older books speak of women, servants and other peoples as was usual in their
time, in places with slurs. Its context is {evaluation["context"]} tokens, including start-of-text. It is for trying and
teaching methods, not for writing text that anyone relies on.

## Licence

Weights and tokenizer: MIT, as the project. The books are in the public domain; CDLA-Sharing-1.0 puts no obligation on
results computed from the data.
""")


def wrapped(markdown: str, width: int = 120) -> str:
    """Wrap paragraphs and list items, in which inserted values can have any length; leave other lines unchanged."""
    blocks = markdown.split("\n\n")
    filled = [
        block if block[:1] in "#|>" else textwrap.fill(block, width, break_long_words=False, break_on_hyphens=False)
        for block in blocks
    ]
    return "\n\n".join(filled).rstrip() + "\n"


def main(
    corpus: Annotated[Path, typer.Option(help="Folder with books/*.txt and tinystories_sample.txt.")],
    model: Annotated[Path, typer.Option(help="Folder of the trained model.")] = Path("datasets/reference"),
    out: Annotated[Path, typer.Option(help="Folder for README.md and evaluation.json.")] = Path("datasets/reference"),
) -> None:
    """Evaluate a trained model and write its card."""
    network, tokenizer = load_trained(model)
    evaluation = evaluate(network, model, corpus)
    training = json.loads((model / "training.json").read_text())
    books = sorted(path.name for path in corpus.glob("books/*.txt"))
    sample = next(passages(network, tokenizer, SAMPLE_SEED, batch_size=1))
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(evaluation, indent=2) + "\n")
    (out / "README.md").write_text(card(evaluation, training, books, sample), "utf-8")
    typer.echo(loss_table(evaluation["held_out"]))


if __name__ == "__main__":
    typer.run(main)
