"""Workers may die, and several sweeps may share a folder: the rows are those of one that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import interp
from interp.errors import InputError, InterpError
from interp.sweeps.engines.blame import Blame
from interp.sweeps.shard import Shard
from interp.sweeps.work import Task

PACKAGES = str(Path(interp.__file__).parents[1])
SCRIPT = """
import json, sys, interp
if __name__ == "__main__":
    interp.options.progress = False
    model, prompts, out, executor, workers = json.loads(sys.argv[1])
    interp.sweep("logit_lens", model, prompts, out=out, shard_tokens=12, targets="argmax",
                 executor=executor, workers=workers)
"""


def command(model_path, prompts, out, executor="local", workers=None):
    import json

    return [sys.executable, "-c", SCRIPT, json.dumps([model_path, prompts, str(out), executor, workers])]


def start(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": PACKAGES, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command(*arguments, **options), env=environment, start_new_session=True)


@pytest.fixture(scope="module")
def undisturbed(model_path, prompts, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    return interp.sweep("logit_lens", model_path, prompts, out=out, shard_tokens=12, targets="argmax").frame()


def assert_same(out, undisturbed):
    """Bit for bit, and each row once, also for who reads the folder without us."""
    pd.testing.assert_frame_equal(interp.Sweep(out).frame(), undisturbed)
    assert len(pd.read_parquet(out)) == len(undisturbed)


def kill_at_a_random_moment(process, out, n_files):
    """Kill when as many files are there, or the process is over."""
    while process.poll() is None and len(list(Path(out).glob("*.parquet"))) < n_files:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_processes_give_the_rows_of_one_process(model_path, prompts, tmp_path, undisturbed):
    done = interp.sweep(
        "logit_lens", model_path, prompts, out=tmp_path, shard_tokens=12, targets="argmax",
        executor="processes", workers=2,
    )  # fmt: skip
    assert done.status()["shards"] > 10
    assert_same(tmp_path, undisturbed)


def test_a_killed_driver_loses_nothing(model_path, prompts, tmp_path, undisturbed):
    process = start(model_path, prompts, tmp_path)
    kill_at_a_random_moment(process, tmp_path, 3)
    assert len(list(tmp_path.glob("*.parquet"))) >= 3
    interp.sweep("logit_lens", model_path, prompts, out=tmp_path, shard_tokens=12, targets="argmax")
    assert_same(tmp_path, undisturbed)


def test_two_sweeps_at_once_share_a_folder(model_path, prompts, tmp_path, undisturbed):
    several = [start(model_path, prompts, tmp_path) for _ in range(2)]
    assert [process.wait() for process in several] == [0, 0]
    assert_same(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("executor", ["local", "processes"])
def test_drivers_killed_at_fifty_moments(model_path, prompts, tmp_path, undisturbed, executor):
    draw = random.Random(0)
    for trial in range(50):
        out = tmp_path / str(trial)
        out.mkdir()
        process = start(model_path, prompts, out, executor, 2)
        kill_at_a_random_moment(process, out, draw.randrange(1, 12))
        interp.sweep("logit_lens", model_path, prompts, out=out, shard_tokens=12, targets="argmax")
        assert_same(out, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_times_two_and_four_sweeps_at_once(model_path, prompts, tmp_path, undisturbed):
    for trial in range(20):
        out = tmp_path / str(trial)
        out.mkdir()
        several = [start(model_path, prompts, out) for _ in range(2 + 2 * (trial % 2))]
        assert [process.wait() for process in several] == [0] * len(several)
        assert_same(out, undisturbed)


def test_a_worker_that_is_killed_is_replaced(model_path, prompts, tmp_path, undisturbed):
    """The workers are the children of the driver; each is killed once."""
    process = start(model_path, prompts, tmp_path, "processes", 2)
    killed: set[int] = set()
    while process.poll() is None and len(killed) < 2:
        for child in children(process.pid):
            if child not in killed and list(tmp_path.glob("*.parquet")):
                os.kill(child, signal.SIGKILL)
                killed.add(child)
                break
        time.sleep(0.01)
    assert process.wait() == 0
    assert killed
    assert_same(tmp_path, undisturbed)


def children(pid: int) -> list[int]:
    """The workers of a driver, without Python's tracker of shared memory."""
    found = []
    for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(int(one))
        except OSError:
            continue
    return found


def test_a_shard_that_kills_its_workers_is_given_up_by_name():
    blame, task = Blame(), Task(Shard("s", (4, 5, 9)), ["x"])
    blame.add([task])
    blame.add([task])
    with pytest.raises(InterpError, match="3 workers died over the shard of prompts 4 to 9"):
        blame.add([task])


def test_what_a_worker_refuses_reaches_the_caller(model_path, prompts, tmp_path):
    with pytest.raises(InputError, match="id 99"):
        interp.sweep("logit_lens", model_path, [*prompts, [99]], out=tmp_path, executor="processes", workers=1)
