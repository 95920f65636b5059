"""Compare clouds' neighbours and moments with their matrix products, and with peers, in one run.

    python benchmarks/bench_geometry.py [--model reference] [--tokens 300] [--repeats 3] [--peers peers/bin/python]

Prints processor seconds, which depend on the machine, and ratios, which you may quote; both are medians of interleaved
rounds on one core. Peers: a whole sort of every row of the distance matrix, scikit-learn's brute-force neighbours, and
IsoScore from a singular-value decomposition of the covariance, as its package computes it. With `--peers`, an
environment of DADApy and scikit-dimension, the clouds of prompts are measured by `peer_gride.py` too.

Neighbours have a bound above the product: the exact distances of each token's candidates, in float64, are 0.24 products
on SmolLM2's 49,152 rows and 1.4 on the shipped model's 8,192. `nearest` takes 1.40 and 3.4 products (1.84 and 4.1 when
every bound was sorted out at once), `local_dimension` without controls 2.6 and 6.5, of which half on the shipped model
is the check that the model is what it was.

`prompt_geometry` of 20 prompts of 256 tokens and 9 layers takes 4.9 processor seconds with both controls, of which two
passes with their losses are 3.8. A cloud takes 1.7 ms for dimension at four scales, overlap and angles; DADApy 4.2 ms
for neighbours and dimension, scikit-dimension 2.3 ms for TwoNN alone.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _timing import interleaved
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

import interp
from interp.authoring import Subject, dataset
from interp.stats.clouds import CloudSums
from interp.stats.neighbours import _square_distances, distinct_rows, nearest
from probes import local_dimension, prompt_geometry
from probes.geometry.clouds._clouds import weight_rows
from probes.geometry.clouds._prompt_clouds import PromptCloud, measured

K = 200  # the last neighbour that `local_dimension` reads
PROMPTS, LENGTH = 20, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="reference")
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", help="Python of an environment with DADApy and scikit-dimension")
    arguments = parser.parse_args()

    subject = interp.load(arguments.model)
    points = weight_rows(subject, "embedding")
    points = points - points.mean(axis=0)
    asked = np.sort(np.random.default_rng(0).permutation(len(points))[: arguments.tokens])
    found = nearest(points, asked, K + K // 8)[1]
    timed = {
        "distance product": lambda: points[asked] @ points.T,
        "exact distances of candidates": lambda: _square_distances(points, asked, found),
        "different rows": lambda: distinct_rows(points),
        "nearest": lambda: nearest(points, asked, K),
        "local_dimension, no control": lambda: local_dimension(subject, n_tokens=len(asked), controls=()),
        "local_dimension, two controls": lambda: local_dimension(subject, n_tokens=len(asked)),
        "scikit-learn": lambda: (
            NearestNeighbors(n_neighbors=K + 1, algorithm="brute").fit(points).kneighbors(points[asked])
        ),
        "whole sort": lambda: whole_sort(points, asked),
    }
    report(f"{len(asked)} of {len(points):,} rows of {points.shape[1]} dimensions", timed, arguments.repeats)
    timed = {
        "covariance alone": lambda: covariance(points),
        "CloudSums.isoscore": lambda: CloudSums.of(points).isoscore(),
        "numpy.cov and SVD": lambda: by_decomposition(points),
    }
    report("IsoScore of all rows", timed, arguments.repeats)
    of_prompts(subject, arguments.repeats, arguments.peers)


def of_prompts(subject: Subject, repeats: int, peers: str | None) -> None:
    """Time `prompt_geometry` beside the passes that it needs, and its clouds beside DADApy's and scikit-dimension's."""
    ids = subject.tokens(dataset("stories"), truncate=True).ids
    stream = torch.cat([one[1:] for one in ids])
    length = min(LENGTH, subject.n_ctx)
    texts = torch.stack(
        [torch.cat([ids[0][:1], stream[at * (length - 1) : (at + 1) * (length - 1)]]) for at in range(PROMPTS)]
    )
    states = subject.run(texts, lambda tape: torch.stack([tape.residual(at) for at in range(tape.n_layers + 1)]))
    clouds = states[:, :, 1:].flatten(0, 1).float().numpy()
    read = subject.reader(targets=texts[:, 1:].reshape(-1, 1), entropy=False, kl=False)

    def passes(number: int) -> None:
        for _ in range(number):
            subject.run(texts, lambda tape: read(tape, [last := tape.last[:, :-1].flatten(0, 1)], last).log_prob)

    timed = {
        "one pass with its losses": lambda: passes(1),
        "its clouds": lambda: [measured([PromptCloud.of(one)], (1, 2, 4, 8), (1, 8)) for one in clouds],
        "prompt_geometry, no control": lambda: prompt_geometry(subject, texts, controls=()),
        "prompt_geometry": lambda: prompt_geometry(subject, texts),
    }
    report(f"{PROMPTS} prompts of {length} tokens, {subject.n_layers + 1} layers", timed, repeats)
    if peers:
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "clouds.npy", clouds[:: max(1, len(clouds) // 40)])
            script = Path(__file__).with_name("peer_gride.py")
            done = subprocess.run(
                [peers, script, Path(folder) / "clouds.npy"], check=True, capture_output=True, text=True
            )
        print(f"processor seconds of a cloud of {length - 1} points by peers, one for all scales:\n{done.stdout}")


def report(what: str, timed: dict, repeats: int) -> None:
    with threadpool_limits(1):
        seconds = interleaved(timed, repeats, warm_up=1, clock=time.process_time)
    print(what)
    first = next(iter(seconds.values()))
    for name, value in seconds.items():
        print(f"  {name:30s} {value:8.3f} s   {value / first:6.2f} x the first")


def whole_sort(points: np.ndarray, asked: np.ndarray) -> np.ndarray:
    squares = (points**2).sum(axis=1)
    return np.sort(squares[asked][:, None] + squares - 2 * points[asked] @ points.T, axis=1)[:, 1 : K + 1]


def covariance(points: np.ndarray) -> np.ndarray:
    wide = points.astype(np.float64)
    return wide.T @ wide


def by_decomposition(points: np.ndarray) -> float:
    d = points.shape[1]
    spectrum = np.linalg.svd(np.cov(points.astype(np.float64).T), compute_uv=False)
    defect = np.linalg.norm(np.sqrt(d) * spectrum / np.linalg.norm(spectrum) - 1) / np.sqrt(2 * (d - np.sqrt(d)))
    return float(((d - defect**2 * (d - np.sqrt(d))) ** 2 - d) / (d * (d - 1)))


if __name__ == "__main__":
    main()
