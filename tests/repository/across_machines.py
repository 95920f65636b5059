"""Run the suite as other processors would: `python tests/repository/across_machines.py`, a part of `make test-all`.

A test that passes on one machine only hangs on rounding: on the width of a vector unit, the order of a sum over
threads, the last bit of a weight. This runs

- every test with the kernels of a processor without AVX2, of one with it, and of this one, on one thread and on two;
- the tests marked `trained` with every weight and every normal draw changed by one part in ten million;
- the notebooks, whose assertions are findings, with the plainest kernels.

`--quick` runs the tests marked `trained` or `recorded` with the plainest kernels only, as CI does on every submission.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

HERE = Path(__file__).parent
MARKED = "(trained or recorded) and not slow"
# They hold a result against a hash or ten digits of the very numbers that are changed.
OF_THESE_NUMBERS = (
    "test_other_packages_find_the_same",
    "test_the_shipped_lens_is_loaded_by_name",
    "test_an_untrained_model_is_drawn_by_its_seed_alone",
    "test_a_planted_model_can_be_drawn_anew",
)
# torch's own kernels, its two libraries of matrix products, and numpy's: each chooses by the processor on its own.
KERNELS = {
    "DEFAULT": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F",
    },
    "AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": "AVX512F",
    },
}


@dataclass(frozen=True)
class Setting:
    """Name a machine to imitate: environment variables, and what pytest runs there."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()


def settings() -> Iterator[Setting]:
    """Yield every setting that this processor can imitate; an instruction it lacks it cannot."""
    here = torch.backends.cpu.get_cpu_capability()
    kernels = {"this processor": {}}
    if here in ("AVX2", "AVX512"):
        kernels |= {"no vector unit": KERNELS["DEFAULT"]}
    if here == "AVX512":
        kernels |= {"AVX2": KERNELS["AVX2"]}
    for name, environment in kernels.items():
        for threads in ("1", "2"):
            yield Setting(f"{name}, threads: {threads}", environment | {"OMP_NUM_THREADS": threads})
    for seed in ("1", "2", "3"):
        changed = {"PERTURBATION": seed, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
        others = " and ".join(f"not {name}" for name in OF_THESE_NUMBERS)
        trained = ("-m", "trained and not slow", "-k", others, "-p", "perturbation")
        yield Setting(f"inputs changed by 1e-7, seed {seed}", changed, trained)
    notebooks = ("--nbmake", "--nbmake-timeout=600", "--timeout=1800", "notebooks")
    yield Setting("notebooks", KERNELS["DEFAULT"] | {"OMP_NUM_THREADS": "1"}, notebooks)


def quick() -> Setting:
    """Return the one setting of `--quick`: the kernels that differ most from any processor of today."""
    return Setting("no vector unit", KERNELS["DEFAULT"] | {"OMP_NUM_THREADS": "1"}, ("-m", MARKED))


def passes(setting: Setting, workers: int) -> bool:
    """Run pytest in a setting, in a process of its own, and print how it ended."""
    # Fewer processes where each has two threads: more would wait for one another.
    processes = max(1, workers // int(setting.environment.get("OMP_NUM_THREADS", "1")))
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(processes), *setting.arguments]
    started = time.monotonic()
    print(f"== {setting.name}", flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_L2_SIZE"}
    code = subprocess.run(command, cwd=HERE.parents[1], env=environment | setting.environment).returncode
    print(f"== {setting.name}: {'failed' if code else 'passed'} in {time.monotonic() - started:.0f} s", flush=True)
    return code == 0


def main() -> int:
    """Run the settings one by one, all of them even if one fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="trained and recorded tests with the plainest kernels only"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (default 2)")
    given = parser.parse_args()
    chosen = [quick()] if given.quick else list(settings())
    failed = [setting.name for setting in chosen if not passes(setting, given.workers)]
    print(
        f"{len(chosen) - len(failed)} of {len(chosen)} settings passed"
        + "".join(f"\n  failed: {one}" for one in failed)
    )
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
