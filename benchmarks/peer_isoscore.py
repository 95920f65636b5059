"""Print IsoScore of small clouds by its own package, for tests/interp/stats/test_clouds.py.

In an environment of its own: `pip install IsoScore==2.0.1 torch numpy`, then `python benchmarks/peer_isoscore.py`.
"""

import numpy as np
from IsoScore import IsoScore

CLOUDS = (  # seed, points, scales of the axes, mean
    (0, 50, [1.0, 1.0, 1.0, 1.0], 0.0),
    (1, 200, [5.0, 3.0, 1.0, 1.0, 0.5, 0.1], 2.0),
    (2, 30, [1.0] * 10, 1.0),
    (3, 500, [1.0, 1.0, 0.001], 0.0),
    (4, 12, [1.0] * 16, 0.0),
)


def main() -> None:
    """Print one number for each cloud."""
    for seed, n, scales, mean in CLOUDS:
        points = np.random.default_rng(seed).standard_normal((n, len(scales))) * np.array(scales) + mean
        print(seed, repr(float(IsoScore.IsoScore(points))))


if __name__ == "__main__":
    main()
