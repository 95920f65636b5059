"""Write and sum up a million rows of a sweep beside pyarrow alone, and open a folder of 3,000 shards.

    python benchmarks/bench_sweep_read.py [--prompts 504] [--shards 4] [--repeats 5]

Prints processor seconds (medians of interleaved rounds) and their ratios: writing against pyarrow's `write_table` of
the same columns, the summary against pyarrow's mean per prompt followed by the same bootstrap; bytes a row; how much
memory a summary adds with few and with many shards; the seconds in which a folder of 3,000 shards opens. The rows are
those that `logit_lens` gives on 31 layers for prompts of 64 tokens, with drawn numbers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from _timing import extra_memory, interleaved

sys.path.insert(0, str(Path(__file__).parents[1]))

import interp
from interp.runs.store import Store
from interp.stats import bootstrap_over_prompts
from tests.interp.sweeps.many_rows import KEPT_AS, rows, sweep_of, sweep_of_copies

GROUP = ["model", "run_id", "layer", "sublayer", "lens"]
VALUES = ["log_prob", "rank", "entropy", "kl_to_final", "agrees_final"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=504)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    each = arguments.prompts // arguments.shards
    frames = [rows(range(each * k, each * (k + 1))) for k in range(arguments.shards)]
    n_rows = sum(map(len, frames))
    sweep = sweep_of(folder / "sweep", frames)
    store = Store(folder / "again", KEPT_AS)

    def write() -> None:
        for k, frame in enumerate(frames):
            store.write(str(k), frame, texts_once=True)

    def write_with_pyarrow() -> None:
        for k, frame in enumerate(frames):
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / f"{k}.of-pyarrow")

    def means_with_pyarrow() -> pa.Table:
        table = sweep.dataset.to_table(columns=[*GROUP, *VALUES, "prompt_id"], filter=pc.field("pos") > 0)
        means = table.group_by([*GROUP, "prompt_id"]).aggregate([(name, "mean") for name in VALUES])
        return means.rename_columns([*GROUP, "prompt_id", *VALUES])

    def summary_with_pyarrow() -> None:
        bootstrap_over_prompts(means_with_pyarrow().to_pandas(), GROUP, VALUES)

    rounds = {
        "write": write,
        "write, pyarrow": write_with_pyarrow,
        "summary": sweep.summary,
        "summary, pyarrow and the bootstrap": summary_with_pyarrow,
        "means per prompt, pyarrow": means_with_pyarrow,
    }
    took = interleaved(rounds, arguments.repeats, warm_up=1, clock=time.process_time)
    print(f"{n_rows:,} rows in {arguments.shards} shards, processor seconds")
    for name, value in took.items():
        print(f"  {name:36s} {value:6.3f} s")
    print(f"  writing is {took['write'] / took['write, pyarrow']:.2f} x pyarrow's time (target 1.3)")
    ratio = took["summary"] / took["summary, pyarrow and the bootstrap"]
    print(f"  the summary is {ratio:.2f} x pyarrow's time (target 1.3)")
    size = sweep.status()["bytes"]
    in_pandas = sum(frame.memory_usage(deep=True).sum() for frame in frames)
    print(f"  {size / n_rows:.1f} bytes a row of drawn numbers in the folder, {in_pandas / n_rows:.0f} in pandas")
    for n_shards in (4, 16):
        some = sweep_of(folder / f"of-{n_shards}", [rows(range(64 * k, 64 * k + 64)) for k in range(n_shards)])
        extra = extra_memory(some.summary)
        if extra is not None:
            print(f"  a summary of {n_shards} shards of {64 * 64 * 31:,} rows adds {extra / 2**20:.0f} MiB")
    sweep_of_copies(folder / "many", rows(range(33), n_tokens=1, n_layers=2), 3000)
    begun = time.perf_counter(), time.process_time()
    many = interp.Sweep(folder / "many")
    n_done = many.status()["shards_done"], len(many.dataset.schema.names)
    wall, processor = time.perf_counter() - begun[0], time.process_time() - begun[1]
    print(f"  {n_done[0]:,} shards open in {wall:.2f} s, {processor:.2f} of the processor (target 1)")


if __name__ == "__main__":
    main()
