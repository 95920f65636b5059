"""Find every subnetwork of `datasets/subnetworks` anew: about 200 processor seconds each, five of them.

`python notebooks/find_subnetworks.py [folder]` writes there, and keeps there the state of what is interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import interp
from interp.data.shipped import read_texts
from probes import bigram_model, find_subnetwork, random_model

STEPS = 250
EVALUATED = 28  # stories that notebook 04 measures on


def main(folder: Path) -> None:
    """Those of the reference model by two targets, and the control's; written to the folder."""
    subject = interp.load("reference")
    bigrams = bigram_model(subject)
    untrained = random_model(subject, keep_embeddings=True)
    texts = read_texts("stories").iloc[EVALUATED:][["text"]]

    bigram = find_subnetwork(subject, bigrams, sparsity=(1, 10, 100), steps=STEPS, out=folder)
    optimal = find_subnetwork(subject, bigrams, sparsity=10, target="model", texts=texts, steps=STEPS, out=folder)
    control = find_subnetwork(untrained, bigrams, sparsity=10, steps=STEPS, out=folder)
    for name, found in {"bigram": bigram, "optimal": optimal, "untrained": control}.items():
        for sparsity, one in found.items():
            print(one.save(folder / f"{name}-{sparsity:g}.safetensors"), one)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results/subnetworks"))
