"""Make the shipped table of the break test: `python -m probes.geometry.clouds._break_table` (a minute)."""

from __future__ import annotations

import numpy as np

from interp.authoring import shipped_path
from probes.geometry.clouds._breaks import FILE, simulated

SPACINGS = (90, 140, 190, 290, 490)  # k from 10 to 100, 150, 200, 300, 500
DRAWS = 400_000


def main() -> None:
    """Write the table beside its card."""
    found = [simulated(m, DRAWS) for m in SPACINGS]
    shares = found[0][0]
    any_, increase = (np.array([of[1][part] for of in found], dtype=np.float32) for part in (0, 1))
    np.savez_compressed(shipped_path("geometry") / FILE, m=SPACINGS, shares=shares, any=any_, increase=increase)


if __name__ == "__main__":
    main()
