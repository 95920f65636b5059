"""The command `interp demo`: a first look at the shipped model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.authoring import InputError, Subject, load
from interp.data.writing import written
from interp.display.terminal import show_table
from probes.lens.logit_lens import logit_lens
from probes.lens.top_tokens import top_tokens
from probes.subnetworks.search.bigram_subnetwork import bigram_subnetwork

TEXT = "Once upon a time there was a little"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the tables and the figure.")] = Path("results/demo"),
    text: Annotated[str, typer.Option(help="The prompt to read.")] = TEXT,
    subnetwork: Annotated[bool, typer.Option(help="Also find a bigram subnetwork, a pilot of a minute.")] = True,
) -> None:
    """Read the shipped model through the logit lens: a table, Parquet files, a figure. Needs no network."""
    subject = load("reference")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {str(out)!r} cannot be created: {error.strerror}.") from error
    frame = logit_lens(subject, [text])
    corpus = logit_lens(subject, "prompts", positions=-1, targets="argmax")
    tables = {"logit_lens": frame, "top_tokens": top_tokens(subject, [text]), "prompts_logit_lens": corpus}
    for name, table in tables.items():
        with written(out / f"{name}.parquet", "a frame") as file:
            table.to_parquet(file)
    figure = out / "logit_lens.png"
    frame.interp.plot(path=figure)
    last = frame[frame["pos"] == frame["pos"].max()]
    print(f"The next token that {subject.name!r} predicts at each layer after {text!r} (entropy and KL in nats):")
    show_table(last[["layer", "top1", "top1_prob", "entropy", "kl_to_final"]])
    print("Share of the shipped prompts on which a layer's last-position argmax is already the model's own:")
    depth = corpus.interp.summary()
    show_table(depth[["layer", "n_prompts", "agrees_final", "agrees_final_low", "agrees_final_high"]])
    files = [*(out / f"{name}.parquet" for name in tables), figure]
    if subnetwork:
        files.append(_pilot(subject, out))
    for path in files:
        print(f"wrote {path}")


def _pilot(subject: Subject, out: Path) -> Path:
    """Find the neurons and heads that predict bigrams, and show them by block."""
    kept = bigram_subnetwork(subject, sparsity=1, unit="neuron", recipe="pilot")
    print(
        "A pilot of a bigram subnetwork, of neurons and heads instead of weights: half a minute, not a quarter of an\n"
        "hour. For each block: the share of its weights that is kept to predict the next token from the current one\n"
        "alone, and the share of its kept weights that lies in its MLP."
    )
    show_table(kept.interp.summary()[["layer", "kept_fraction", "mlp_share"]])
    path = out / "bigram_subnetwork.parquet"
    with written(path, "a frame") as file:
        kept.to_parquet(file)
    return path
