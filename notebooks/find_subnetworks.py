"""Train the five subnetworks of `datasets/subnetworks` again, in about 200 processor seconds each.

`python notebooks/find_subnetworks.py [folder]` writes them to the folder, by default `results/subnetworks`. The state
of an interrupted training is kept there, and the next call continues it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import interp
from interp import dataset
from interp.probes import bigram_model, find_subnetwork, random_model

STEPS = 250  # at most: training stops earlier by the paper's rule
EVALUATED = 28  # stories that notebook 04 measures on; no mask is trained on them


def main(folder: Path) -> None:
    """Train masks of the reference model for two targets, and those of the control, and save them in the folder."""
    subject = interp.load("reference")
    bigrams = bigram_model(subject)
    untrained = random_model(subject, keep_embeddings=True)
    texts = dataset("stories").iloc[EVALUATED:][["text"]]

    bigram = find_subnetwork(subject, bigrams, sparsity=(1, 10, 100), steps=STEPS, out=folder)
    optimal = find_subnetwork(subject, bigrams, sparsity=10, target="model", texts=texts, steps=STEPS, out=folder)
    control = find_subnetwork(untrained, bigrams, sparsity=10, steps=STEPS, out=folder)
    for name, found in {"bigram": bigram, "optimal": optimal, "untrained": control}.items():
        for sparsity, subnetwork in found.items():
            print(subnetwork.save(folder / f"{name}-{sparsity:g}.safetensors"), subnetwork)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results/subnetworks"))
