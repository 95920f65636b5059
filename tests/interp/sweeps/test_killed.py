"""Drivers and workers killed at fifty random moments each, and sweeps at once: counted, minutes each.

`pytest -s -m "" tests/interp/sweeps/test_killed.py` says how far it is.
"""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from interp.sweeps.engines import actors
from tests.interp.sweeps.drivers import (
    actors_under,
    assert_same,
    copy_of_this,
    kill_one,
    kill_when,
    n_files,
    start,
    sweep,
    workers_of,
)
from tests.interp.sweeps.stubs import Rows, tasks_of

ENGINES = {"local": {}, "processes": {"executor": "processes", "workers": 2}}


def until_fifty_are_killed(whom, tmp_path, trial):
    """Repeat a trial, each in a folder of its own, which tells whether it killed somebody in time."""
    killed = 0
    for number in range(200):
        out = tmp_path / str(number)
        out.mkdir()
        killed += trial(out)
        print(f"{killed} {whom} killed in {number + 1} trials", flush=True)
        if killed == 50:
            return
    raise AssertionError(f"only {killed} {whom} were killed in time")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", ENGINES)
def test_drivers_killed_at_fifty_moments(model_path, subject, prompts, tmp_path, undisturbed, name):
    draw = random.Random(0)

    def trial(out):
        killed = kill_when(start(model_path, prompts, out, **ENGINES[name]), out, draw.randrange(14), draw)
        sweep(subject, prompts, out)
        assert_same(out, undisturbed)
        return killed

    until_fifty_are_killed(f"drivers ({name})", tmp_path, trial)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_workers_of_a_pool_killed_at_fifty_moments(model_path, prompts, tmp_path, undisturbed):
    draw = random.Random(1)

    def trial(out):
        process = start(model_path, prompts, out, executor="processes", workers=2)
        moment, pid = draw.randrange(14), 0
        while process.is_alive() and not pid:
            if n_files(out) >= moment:
                time.sleep(draw.random() * 0.05)
                pid = kill_one(workers_of(process), draw)
            time.sleep(0.002)
        process.join()
        assert process.exitcode == 0
        assert_same(out, undisturbed)
        return pid > 0

    until_fifty_are_killed("workers", tmp_path, trial)


# -- Ray: a worker with a model takes seconds to begin, so that most trials are about one without ---------------------

TASKS = tasks_of(*["easy"] * 60)


def content(folder):
    return {file.name: file.read_bytes() for file in folder.glob("*.parquet")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    work = Rows(str(tmp_path_factory.mktemp("whole")))
    for task in TASKS:
        work.attempt(task)
    return content(Path(work.out))


def _compute(out, address):
    work = Rows(out)
    for _ in actors.run(work, work.missing(TASKS), 2, address=address):
        pass


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_drivers_of_actors_killed_at_fifty_moments(tmp_path, cluster, whole):
    draw = random.Random(3)

    def trial(out):
        killed = kill_when(copy_of_this(_compute, str(out), cluster), out, draw.randrange(60), draw)
        work = Rows(str(out))
        for task in work.missing(TASKS):
            work.attempt(task)
        assert content(out) == whole
        return killed

    until_fifty_are_killed("drivers (ray)", tmp_path, trial)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_actors_killed_at_fifty_moments(tmp_path, cluster, whole):
    """One in each trial, when a random number of shards is kept, and a random time later."""
    draw = random.Random(4)

    def trial(out):
        moment, pids = draw.randrange(55), []

        def kill():
            while len(content(out)) < moment or not actors_under(os.getpid()):
                time.sleep(0.002)
            time.sleep(draw.random() * 0.05)
            pids.append(kill_one(actors_under(os.getpid()), draw))

        killer = threading.Thread(target=kill)
        killer.start()
        _compute(str(out), cluster)
        killer.join()
        assert content(out) == whole
        return pids != [0]

    until_fifty_are_killed("actors", tmp_path, trial)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("whom", ["driver", "actor"])
def test_ray_with_a_model_killed_at_three_moments(model_path, subject, prompts, tmp_path, cluster, undisturbed, whom):
    for moment in (0, 3, 8):
        out = tmp_path / str(moment)
        out.mkdir()
        process = start(model_path, prompts, out, executor="ray", workers=2, address=cluster)
        if whom == "driver":
            assert kill_when(process, out, moment)
            sweep(subject, prompts, out)
        else:
            while n_files(out) < moment or not actors_under(os.getpid()):
                time.sleep(0.005)
            assert kill_one(actors_under(os.getpid()), random.Random(moment))
            process.join()
            assert process.exitcode == 0
        assert_same(out, undisturbed)
        print(f"ray: a {whom} killed at {moment} shards", flush=True)


# -- sweeps at once --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_times_two_and_four_sweeps_at_once(model_path, prompts, tmp_path, undisturbed):
    for trial in range(20):
        for n in (2, 4):
            out = tmp_path / f"{trial}-{n}"
            out.mkdir()
            several = [start(model_path, prompts, out) for _ in range(n)]
            for process in several:
                process.join()
            assert [process.exitcode for process in several] == [0] * n
            assert_same(out, undisturbed)
            print(f"{n} sweeps at once: trial {trial + 1}", flush=True)
