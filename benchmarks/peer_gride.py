"""Compute GRIDE by DADApy, for tests/probes/geometry/clouds/test_prompt_clouds.py and the times of bench_geometry.py.

    python -m venv peers && peers/bin/pip install dadapy==0.3.4 scikit-dimension==0.5.0
    peers/bin/python benchmarks/peer_gride.py [CLOUDS.npy]

It imports nothing of interp. Without a file it prints DADApy's dimension of a small cloud at neighbours 1-2, 2-4, 4-8
and 8-16. With clouds [n, points, dimensions] in a file it prints the
processor seconds of a cloud: neighbours and GRIDE by DADApy, and TwoNN by scikit-dimension.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import skdim
from dadapy import Data


def gride(points: np.ndarray) -> np.ndarray:
    data = Data(points, verbose=False)
    data.compute_distances(maxk=16)
    return data.return_id_scaling_gride(range_max=16)[0]


def main() -> None:
    if len(sys.argv) < 2:
        print(*(f"{value:.8f}" for value in gride(np.random.default_rng(5).normal(size=(300, 5)))))
        return
    clouds = np.load(sys.argv[1])
    peers = {"DADApy": gride, "scikit-dimension": lambda points: skdim.id.TwoNN().fit(points).dimension_}
    for name, peer in peers.items():
        peer(clouds[0])
        start = time.process_time()
        for points in clouds:
            peer(points)
        print(name, (time.process_time() - start) / len(clouds))


if __name__ == "__main__":
    main()
