"""Compare the law and the microscope with their forward passes, and TwoNN with a loop over points.

    python benchmarks/bench_lens_family.py [--tokens 100000] [--repeats 2] [--points 4096]

Prints seconds, which depend on the machine, and ratios, which you may quote; both are medians of interleaved rounds.
"""

from __future__ import annotations

import argparse

import numpy as np
from _timing import interleaved

import interp
from interp.data.shipped import dataset
from interp.runs.run import Run
from probes import law_and_microscope
from probes.geometry._two_nn import intrinsic_dimension
from probes.geometry.next_token_law import LAW


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--points", type=int, default=4096)
    arguments = parser.parse_args()

    subject = interp.load("reference")
    texts = dataset("stories")["text"].tolist()
    texts *= -(-arguments.tokens // sum(map(len, subject.tokens(texts).ids)))
    run = Run(LAW, subject, texts, parameters={})
    subject.logits(texts[:1])  # verifies the model on its first tokens

    def forward() -> None:
        for batch in run.batches():
            subject.run(batch.ids, lambda tape: None)

    seconds = interleaved(
        {"forward passes": forward, "both probes": lambda: law_and_microscope(subject, texts)}, arguments.repeats
    )
    print(f"{sum(map(len, run.tokens.ids)):,} tokens of the reference model")
    for name, value in seconds.items():
        print(
            f"  {name:16s} {value:7.1f} s   {value / seconds['forward passes']:5.2f} x the forward passes (target 1.5)"
        )

    points = np.random.default_rng(0).normal(size=(arguments.points, subject.d_model))
    seconds = interleaved({"loop": lambda: by_a_loop(points), "TwoNN": lambda: intrinsic_dimension(points)}, 1)
    print(f"TwoNN, {arguments.points} points of {subject.d_model} dimensions")
    for name, value in seconds.items():
        print(f"  {name:16s} {value:7.2f} s   {seconds['loop'] / value:5.1f} x as fast as the loop (target 50)")


def by_a_loop(points: np.ndarray) -> float:
    """Find nearest neighbours point by point in numpy, as a reader would write it."""
    total = 0.0
    for index, point in enumerate(points):
        distances = ((points - point) ** 2).sum(axis=1)
        distances[index] = np.inf
        nearest, second = np.partition(distances, 1)[:2]
        total += second / nearest
    return total


if __name__ == "__main__":
    main()
