"""Workers may die, and several sweeps may share a folder: the rows are those of one that nobody disturbed."""

from __future__ import annotations

import multiprocessing
import pickle
import random
import sys
import time
from unittest.mock import Mock

import pandas as pd
import pytest

import interp
from interp.errors import InputError, InterpError, UnknownName
from interp.sweeps.engines.blame import Blame
from interp.sweeps.engines.choice import Engine
from interp.sweeps.shard import Shard, Task
from interp.sweeps.work import Work
from tests.interp.sweeps.drivers import (
    COPIES,
    assert_same,
    kill_one,
    kill_when,
    n_files,
    start,
    sweep,
    workers_of,
)


def test_processes_give_the_rows_of_one_process(model_path, prompts, tmp_path, undisturbed):
    done = sweep(model_path, prompts, tmp_path, executor="processes", workers=2)
    assert done.status()["shards"] > 10
    assert_same(tmp_path, undisturbed)


def test_a_killed_driver_loses_nothing(model_path, subject, prompts, tmp_path, undisturbed):
    assert kill_when(start(model_path, prompts, tmp_path), tmp_path, 3)
    assert n_files(tmp_path) >= 3
    sweep(subject, prompts, tmp_path)
    assert_same(tmp_path, undisturbed)


def test_a_folder_is_read_while_a_sweep_writes_to_it(model_path, prompts, tmp_path, undisturbed):
    """Whoever reads sees whole shards, once each, and more of them as time goes on."""
    length = undisturbed.groupby("prompt_id").size()
    process, seen = start(model_path, prompts, tmp_path), [0]
    while process.is_alive():
        if n_files(tmp_path):
            found = pd.read_parquet(tmp_path, columns=["prompt_id"]).groupby("prompt_id").size()
            assert found.equals(length[found.index])
            assert len(found) >= seen[-1]
            seen.append(len(found))
        time.sleep(0.01)
    assert process.exitcode == 0
    assert any(0 < n < len(prompts) for n in seen)
    assert_same(tmp_path, undisturbed)


def test_two_sweeps_at_once_share_a_folder(model_path, prompts, tmp_path, undisturbed):
    several = [start(model_path, prompts, tmp_path) for _ in range(2)]
    for process in several:
        process.join()
    assert [process.exitcode for process in several] == [0, 0]
    assert_same(tmp_path, undisturbed)


def test_a_worker_that_is_killed_is_replaced(model_path, prompts, tmp_path, undisturbed):
    process = start(model_path, prompts, tmp_path, executor="processes", workers=2)
    killed: set[int] = set()
    while process.is_alive() and len(killed) < 2:
        if n_files(tmp_path):
            killed |= {kill_one(set(workers_of(process)) - killed, random.Random(0))} - {0}
        time.sleep(0.005)
    process.join()
    assert process.exitcode == 0
    assert killed
    assert_same(tmp_path, undisturbed)


def test_a_shard_that_kills_its_workers_is_given_up_by_name():
    blame, task = Blame(), Task(Shard("s", (4, 5, 9)), ["x"])
    blame.add([task])
    blame.add([task])
    with pytest.raises(InterpError, match="3 workers died over the shard of prompts 4 to 9"):
        blame.add([task])


def test_workers_that_die_as_they_begin_are_given_up():
    blame = Blame(n_workers=1)
    blame.add_start("no such module.")
    blame.begun()
    blame.add_start("no such module.")
    blame.add_start("no such module.")
    with pytest.raises(InterpError, match=r"3 workers died as they began: no such module\.$"):
        blame.add_start("no such module.")


def test_what_a_worker_refuses_reaches_the_caller(model_path, prompts, tmp_path, monkeypatch):
    """A list for all prompts does not fit a shard, which only the worker finds."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: COPIES)
    targets = [[1]] * len(prompts)
    with pytest.raises(InputError, match=r"targets holds 24 lists for . prompts.*in per_prompt="):
        interp.sweep(
            "logit_lens", model_path, prompts, out=tmp_path, shard_tokens=30, targets=targets, executor="processes"
        )


class Unpicklable(Exception):
    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


def test_an_error_that_cannot_be_pickled_is_told_in_words(monkeypatch):
    work = Work("logit_lens", "reference", {}, {}, "", "", "memory://never", "", {}, 1)
    task = Task(Shard("s", (0,)), ["x"])
    monkeypatch.setattr(Work, "run", Mock(side_effect=Unpicklable("this", "that")))
    (error,) = [work.attempt(task)]
    assert str(error) == "a worker failed: Unpicklable: this and that"
    monkeypatch.setattr(Work, "run", Mock(side_effect=UnknownName("probe", "lense", ["lens"])))
    error = pickle.loads(pickle.dumps(work.attempt(task)))
    assert isinstance(error, UnknownName) and str(error) == "unknown probe 'lense'; did you mean 'lens'?"


@pytest.mark.parametrize("name", ["ray", "submitit"])
def test_a_library_that_is_not_installed_is_named(model_path, prompts, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    extra = {"ray": "ray", "submitit": "slurm"}[name]
    with pytest.raises(InputError, match=rf"pip install 'interp-probes\[{extra}\]'"):
        sweep(model_path, prompts, tmp_path, executor=name, workers=1)


def test_workers_load_on_their_gpu_and_the_plan_is_made_without_one():
    on_ray = Engine("ray", num_gpus=1)
    assert on_ray.loading({"dtype": "bfloat16"}) == {"dtype": "bfloat16", "device": "cuda"}
    assert on_ray.loading({"device_map": "auto"}) == {"device_map": "auto"}
    assert on_ray.planning({"device": "cuda:1", "dtype": "bfloat16"}) == {"dtype": "bfloat16"}
    assert Engine("processes").planning({"device": "cuda"}) == {"device": "cuda"}
