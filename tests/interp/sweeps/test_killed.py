"""Drivers and workers killed at fifty random moments each, and sweeps at once: counted, minutes each.

`pytest -s -m "" tests/interp/sweeps/test_killed.py` says how far it is.
"""

from __future__ import annotations

import os
import random
import threading
import time

import pytest

from tests.interp.sweeps.drivers import (
    actors_under,
    assert_same,
    kill_one,
    kill_when,
    n_files,
    start,
    sweep,
    workers_of,
)

ENGINES = ["local", "processes", "ray"]


def engine_of(name, request):
    if name == "ray":
        return {"executor": "ray", "workers": 2, "address": request.getfixturevalue("cluster")}
    return {"executor": name} | ({"workers": 2} if name == "processes" else {})


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
