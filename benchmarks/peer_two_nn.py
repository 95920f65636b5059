"""Compute TwoNN by DADApy and scikit-dimension, in their own environment, for tests/probes/geometry/test_two_nn.py.

    python -m venv peers && peers/bin/pip install dadapy==0.3.4 scikit-dimension==0.5.0
    peers/bin/python benchmarks/peer_two_nn.py

It imports nothing of interp. DADApy's `mu_fraction` is our `keep`; scikit-dimension discards the rest.
"""

from __future__ import annotations

import numpy as np
import skdim
from dadapy import Data


def main() -> None:
    for n, d, padded in ((300, 3, 3), (500, 8, 40)):
        cloud = np.random.default_rng(d).normal(size=(n, d))
        points = np.pad(cloud, ((0, 0), (0, padded - d)))
        dadapy = [Data(points).compute_id_2NN(mu_fraction=keep)[0] for keep in (0.2, 0.9)]
        scikit_dimension = skdim.id.TwoNN(discard_fraction=0.1).fit(points).dimension_
        print(n, d, padded, *(f"{value:.10f}" for value in (*dadapy, scikit_dimension)))


if __name__ == "__main__":
    main()
