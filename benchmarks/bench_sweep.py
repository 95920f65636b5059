"""Compare a sweep in two Ray actors with one in this process, on two cores and a thread for each.

    OMP_NUM_THREADS=1 python benchmarks/bench_sweep.py [--prompts 2000] [--tokens 32] [--model reference]

Prints the seconds of the whole call, which for Ray include its start and the loading of two models, and the prompts per
second from the first kept shard to the last. The target is 1.6 times as many. On a machine with other work the
processor seconds tell more: of this process against the busier of the two actors, for which a quiet machine waits.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

import interp

TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--model", default="reference")
    parser.add_argument("--probe", default="logit_lens")
    given = parser.parse_args()
    torch.set_num_threads(1)
    interp.options.progress = False
    subject = interp.load(given.model)
    draw = np.random.default_rng(0)
    prompts = draw.integers(1, subject.d_vocab, size=(given.prompts, given.tokens)).tolist()
    del subject
    shard_tokens = max(given.tokens, given.prompts * given.tokens // 40)
    print(f"{given.probe} of {given.model}, {given.prompts:,} prompts of {given.tokens} tokens in about 40 shards")
    found = {}
    for name, engine in (
        ("one process", {}),
        ("two Ray actors", {"executor": "ray", "workers": 2, "address": "local"}),
    ):
        with tempfile.TemporaryDirectory() as out, _Watch() as watch:
            start, used = time.perf_counter(), time.process_time()
            done = interp.sweep(given.probe, given.model, prompts, out=out, shard_tokens=shard_tokens, **engine)
            seconds, used = time.perf_counter() - start, time.process_time() - used
            moments = sorted(file.stat().st_mtime for file in Path(out).glob("*.parquet"))
            n_shards = done.status()["shards_done"]
        rate = given.prompts * (1 - 1 / n_shards) / (moments[-1] - moments[0])
        busiest = max(watch.used.values(), default=0.0) if engine else used
        found[name] = seconds, rate, busiest
        print(f"{name:16s} {seconds:7.1f} s, {rate:7.1f} prompts/s once under way, {busiest:6.1f} s of processor time")
    one, two = found["one process"], found["two Ray actors"]
    print(
        f"two Ray actors: {one[0] / two[0]:.2f} times as fast in all, {two[1] / one[1]:.2f} once under way, "
        f"{one[2] / two[2]:.2f} by processor seconds; load {os.getloadavg()[0]:.1f}"
    )


class _Watch:
    """The processor seconds of Ray's actors below this process, by process, as long as the `with` block lasts."""

    def __init__(self) -> None:
        self.used: dict[int, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.2):
            for pid in _below(os.getpid()):
                try:
                    if Path(f"/proc/{pid}/cmdline").read_text().startswith("ray::Worker"):
                        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                        self.used[pid] = (int(fields[11]) + int(fields[12])) / TICKS
                except OSError:
                    continue


def _below(pid: int) -> list[int]:
    try:
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(one for child in children for one in _below(child))]


if __name__ == "__main__":
    main()
