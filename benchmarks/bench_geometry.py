"""Compare clouds' neighbours and moments with their matrix products, and with peers, in one run.

    python benchmarks/bench_geometry.py [--model reference] [--tokens 300] [--repeats 3]

Prints processor seconds, which depend on the machine, and ratios, which you may quote; both are medians of interleaved
rounds on one core. Peers: a whole sort of every row of the distance matrix, scikit-learn's brute-force neighbours, and
IsoScore from a singular-value decomposition of the covariance, as its package computes it.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from _timing import interleaved
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

import interp
from interp.stats.clouds import CloudSums
from interp.stats.neighbours import nearest
from probes import local_dimension
from probes.geometry.clouds._clouds import weight_rows

K = 200  # the last neighbour that `local_dimension` reads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="reference")
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    subject = interp.load(arguments.model)
    points = weight_rows(subject, "embedding")
    points = points - points.mean(axis=0)
    asked = np.sort(np.random.default_rng(0).permutation(len(points))[: arguments.tokens])
    timed = {
        "distance product": lambda: points[asked] @ points.T,
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
