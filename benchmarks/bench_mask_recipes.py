"""Compare the recipe "cpu" of `find_subnetwork` with the shipped masks, which a search over single weights found.

    python benchmarks/bench_mask_recipes.py [--units neuron row] [--sparsity 10] [--texts 8]

Prints a table for the shipped model: weights kept; cross-entropy with the bigram model on tokens drawn from it; the
correlation r of surprisals with the bigram model's on stories, of the subnetwork alone; the bits per token lost without
the subnetwork, and without as many random weights of every matrix or the same rows in a random order; processor
seconds. Of no random mask is any trained: they are the controls.
"""

from __future__ import annotations

import argparse
import time

import pandas as pd

import interp
from interp.model.tokens import Tokens
from probes import bigram_model, find_subnetwork, subnetwork_surprisal
from probes.subnetworks._examples import shipped_subnetwork
from probes.subnetworks.bigram_model import BigramModel
from probes.subnetworks.subnetwork import Subnetwork

N_TOKENS = 128  # of each story


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", nargs="*", default=["neuron", "row"], choices=["neuron", "row"])
    parser.add_argument("--sparsity", nargs="*", type=float, default=[10.0])
    parser.add_argument("--texts", type=int, default=8)
    arguments = parser.parse_args()

    subject = interp.load("reference")
    bigrams = bigram_model(subject)
    stories = interp.dataset("stories")["text"].head(arguments.texts).tolist()
    texts = subject.tokens([ids[:N_TOKENS] for ids in subject.tokens(stories).ids])
    rows = []
    for sparsity in arguments.sparsity:
        found = {"shipped, weights": (shipped_subnetwork(subject, int(sparsity)), float("nan"))}
        for unit in arguments.units:
            start = time.process_time()
            one = find_subnetwork(subject, bigrams, sparsity=sparsity, recipe="cpu", unit=unit)[sparsity]
            found[f"cpu, {unit}"] = one, time.process_time() - start
        rows += [
            {"masks": name, "sparsity": sparsity} | evaluated(subject, one, bigrams, texts) | {"seconds": seconds}
            for name, (one, seconds) in found.items()
        ]
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format))


def evaluated(subject: interp.Subject, one: Subnetwork, bigrams: BigramModel, texts: Tokens) -> dict[str, float]:
    """Return the quality of a subnetwork."""
    told = one.origin["held_out_nats"]
    summary = subnetwork_surprisal(subject, one, texts, bigrams=bigrams, linear_steps=1).interp.summary()
    by = summary.set_index(["condition", "control"])
    intact = by.loc[("full", "none"), "surprisal"]
    return {
        "kept_%": 100 * one.kept_fraction,
        "xent": told["xent"],
        "xent_full": told["xent_full_model"],
        "entropy": told["entropy"],
        "r": by.loc[("only", "none"), "r"],
        "r_full": by.loc[("full", "none"), "r"],
        "lost": by.loc[("minus", "none"), "surprisal"] - intact,
        "lost_random": by.loc[("minus", "random"), "surprisal"] - intact,
        "lost_rows": by.loc[("minus", "random_structured"), "surprisal"] - intact,
    }


if __name__ == "__main__":
    main()
