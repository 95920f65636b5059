"""A million rows are written and summed up about as fast as pyarrow does; thousands of shards open in a second."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import interp
from interp.runs.store import Store
from interp.stats import bootstrap_over_prompts
from tests.interp.sweeps.many_rows import rows, sweep_of, sweep_of_copies

GROUP = ["model", "run_id", "layer", "sublayer", "lens"]
VALUES = ["log_prob", "rank", "entropy", "kl_to_final", "agrees_final"]
N_SHARDS, N_PROMPTS = 4, 126  # of 64 tokens and 31 layers: a million rows
RATIO = 1.3


@pytest.fixture(scope="module")
def million(tmp_path_factory):
    """A sweep of a million rows, and its shards as frames."""
    frames = [rows(range(N_PROMPTS * k, N_PROMPTS * (k + 1))) for k in range(N_SHARDS)]
    return sweep_of(tmp_path_factory.mktemp("million"), frames), frames


def least(work, other):
    """Least processor seconds of two pieces of work, in turns: what else the machine does only adds."""
    times = [[], []]
    for _ in range(9):
        for one, taken in zip((work, other), times, strict=True):
            start = time.process_time()
            one()
            taken.append(time.process_time() - start)
    return min(times[0]), min(times[1])


def pyarrow_means(sweep):
    """The mean per prompt in each group, as somebody would write it with pyarrow."""
    table = sweep.dataset.to_table(columns=[*GROUP, *VALUES, "prompt_id"], filter=pc.field("pos") > 0)
    means = table.group_by([*GROUP, "prompt_id"]).aggregate([(name, "mean") for name in VALUES])
    return means.rename_columns([*GROUP, "prompt_id", *VALUES])


@pytest.mark.slow
def test_writing_a_million_rows_costs_what_pyarrow_costs(million, tmp_path):
    _, frames = million
    assert sum(map(len, frames)) > 999_000
    store = Store(tmp_path, "a-b")

    def ours():
        for k, frame in enumerate(frames):
            store.write(str(k), frame, texts_once=True)

    def pyarrows():
        for k, frame in enumerate(frames):
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), tmp_path / f"{k}.of-pyarrow")

    mine, others = least(ours, pyarrows)
    assert mine < RATIO * others
    # 19 columns, of which 4 hold drawn numbers of 8 bytes that nothing makes shorter; pandas holds them in over 200.
    assert store.bytes_of(store.parts()) < 45 * sum(map(len, frames))


@pytest.mark.slow
def test_summing_up_a_million_rows_costs_what_pyarrow_costs(million):
    """Both read, take the mean per prompt, and draw the same bootstrap."""
    sweep, _ = million

    def pyarrows():
        return bootstrap_over_prompts(pyarrow_means(sweep).to_pandas(), GROUP, VALUES)

    mine, others = least(sweep.summary, pyarrows)
    assert mine < RATIO * others
    # The same sums in another order.
    np.testing.assert_allclose(sweep.summary()[VALUES], pyarrows()[VALUES], rtol=1e-12)


@pytest.mark.slow
def test_the_summary_is_that_of_all_rows(million):
    sweep, frames = million
    whole = interp.authoring.summarise_by_prompt(interp.probes.logit_lens.probe.schema, pd.concat(frames))
    # pyarrow adds 63 numbers up in order, pandas carries along what is lost: a difference of some roundings.
    pd.testing.assert_frame_equal(sweep.summary(), whole, rtol=1e-12)


def test_memory_is_that_of_a_shard_however_many_there_are(tmp_path):
    """Four times the shards need no more of Arrow's memory, which holds the rows."""
    peaks, default = [], pa.default_memory_pool()
    for n_shards in (3, 12):
        sweep = sweep_of(tmp_path / str(n_shards), [rows(range(8 * k, 8 * k + 8)) for k in range(n_shards)])
        pool = pa.proxy_memory_pool(default)
        pa.set_memory_pool(pool)
        try:
            sweep.summary(n_resamples=10)
        finally:
            pa.set_memory_pool(default)
        peaks.append(pool.max_memory())
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.slow
def test_thousands_of_shards_open_in_under_a_second(tmp_path):
    """Processor seconds; each shard stands for 33 prompts, so that the plan is one of 99,000."""
    sweep_of_copies(tmp_path, rows(range(33), n_tokens=1, n_layers=2), 3000)
    start = time.process_time()
    sweep = interp.Sweep(tmp_path)
    status, dataset = sweep.status(), sweep.dataset
    assert time.process_time() - start < 1
    assert (status["shards_done"], status["prompts_done"]) == (3000, 99_000)
    assert dataset.count_rows() == 198_000
