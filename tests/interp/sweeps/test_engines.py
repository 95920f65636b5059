"""Workers may die, and several sweeps may share a folder: the rows are those of one that nobody disturbed."""

from __future__ import annotations

import os
import random
import threading
import time

import pytest

import interp
from interp.errors import InputError, InterpError
from interp.sweeps.engines.blame import Blame
from interp.sweeps.shard import Shard
from interp.sweeps.work import Task
from tests.interp.sweeps.drivers import (
    GIVEN,
    actors_under,
    assert_same,
    kill_one,
    kill_when,
    n_files,
    start,
    workers_of,
)

ENGINES = ["local", "processes", "ray"]


def sweep(model, prompts, out, **engine):
    return interp.sweep("logit_lens", model, prompts, out=out, **GIVEN, **engine)


@pytest.fixture(scope="module")
def undisturbed(subject, prompts, tmp_path_factory):
    return sweep(subject, prompts, tmp_path_factory.mktemp("undisturbed")).frame()


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, which the module's sweeps and drivers share; its address.

    Each of two actors has one thread, as the other sweeps here: with more, a sum may round otherwise.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    context = ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield context.address_info["address"]
    ray.shutdown()


def engine_of(name, request):
    if name == "ray":
        return {"executor": "ray", "workers": 2, "address": request.getfixturevalue("cluster")}
    return {"executor": name} | ({"workers": 2} if name == "processes" else {})


def test_processes_give_the_rows_of_one_process(model_path, prompts, tmp_path, undisturbed):
    done = sweep(model_path, prompts, tmp_path, executor="processes", workers=2)
    assert done.status()["shards"] > 10
    assert_same(tmp_path, undisturbed)


def test_a_killed_driver_loses_nothing(model_path, subject, prompts, tmp_path, undisturbed):
    assert kill_when(start(model_path, prompts, tmp_path), tmp_path, 3)
    assert n_files(tmp_path) >= 3
    sweep(subject, prompts, tmp_path)
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


def test_what_a_worker_refuses_reaches_the_caller(model_path, prompts, tmp_path):
    with pytest.raises(InputError, match="id 99"):
        sweep(model_path, [*prompts, [99]], tmp_path, executor="processes", workers=1)


# -- counted ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", ENGINES)
def test_drivers_killed_at_fifty_moments(request, model_path, subject, prompts, tmp_path, undisturbed, name):
    draw, killed, engine = random.Random(0), 0, engine_of(name, request)
    for trial in range(200):
        out = tmp_path / str(trial)
        out.mkdir()
        killed += kill_when(start(model_path, prompts, out, **engine), out, draw.randrange(14), draw)
        sweep(subject, prompts, out)
        assert_same(out, undisturbed)
        print(f"{name}: {killed} drivers killed in {trial + 1} trials", flush=True)
        if killed == 50:
            return
    raise AssertionError(f"only {killed} drivers were killed in time")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_workers_of_a_pool_killed_at_fifty_moments(model_path, prompts, tmp_path, undisturbed):
    draw, killed = random.Random(1), 0
    for trial in range(200):
        out = tmp_path / str(trial)
        out.mkdir()
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
        killed += pid > 0
        print(f"processes: {killed} workers killed in {trial + 1} trials", flush=True)
        if killed == 50:
            return
    raise AssertionError(f"only {killed} workers were killed in time")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_actors_killed_at_fifty_moments(model_path, prompts, tmp_path, cluster, undisturbed):
    """A few in each sweep, as a new actor takes seconds to begin."""
    draw, killed = random.Random(2), 0
    began = time.monotonic()
    sweep(model_path, prompts, tmp_path / "first", executor="ray", workers=2)
    took = time.monotonic() - began
    for trial in range(200):
        out = tmp_path / str(trial)
        out.mkdir()
        pids: set[int] = set()
        over = threading.Event()

        def kill(over=over, pids=pids):
            while not over.wait(draw.random() * took):
                pids.add(kill_one(set(actors_under(os.getpid())) - pids, draw))

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            sweep(model_path, prompts, out, executor="ray", workers=2)
        finally:
            over.set()
            killer.join()
        assert_same(out, undisturbed)
        killed += len(pids - {0})
        print(f"ray: {killed} actors killed in {trial + 1} sweeps", flush=True)
        if killed >= 50:
            return
    raise AssertionError(f"only {killed} actors were killed in time")


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
