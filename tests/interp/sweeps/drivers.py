"""Sweeps in processes of their own, which may be killed.

They and their workers begin as copies of a process that has imported everything, so that a trial takes a second.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pandas as pd

import interp

COPIES = multiprocessing.get_context("forkserver")
COPIES.set_forkserver_preload(["tests.interp.sweeps.warm"])
GIVEN: dict[str, Any] = {"shard_tokens": 12, "targets": "argmax"}


def copy_of_this(target, *arguments):
    """Begin a function of a test module in a process of its own."""
    forkserver.ensure_running()
    # The copied process may have begun before Ray did here, which notes in the environment how to reach it.
    given = forkserver._forkserver._forkserver_address, dict(os.environ), target, *arguments
    process = COPIES.Process(target=_begin, args=given)
    process.start()
    return process


def _begin(address, environment, target, *arguments):
    os.environ.update(environment)
    interp.options.progress = False
    origin = forkserver._forkserver  # of this process's workers too; Python would begin another
    origin._forkserver_address, origin.ensure_running = address, lambda: None
    multiprocessing.get_context = lambda _: COPIES
    target(*arguments)


def start(model_path, prompts, out, **engine):
    """Begin a sweep in a process of its own."""
    return copy_of_this(_sweep, model_path, prompts, str(out), engine)


def sweep(model, prompts, out, **engine):
    """Sweep here."""
    return interp.sweep("logit_lens", model, prompts, out=out, **GIVEN, **engine)


def _sweep(model_path, prompts, out, engine):
    sweep(model_path, prompts, out, **engine)


def assert_same(out, undisturbed):
    """Bit for bit, and each row once, also for who reads the folder without us."""
    pd.testing.assert_frame_equal(interp.Sweep(out).frame(), undisturbed)
    assert len(pd.read_parquet(out)) == len(undisturbed)


def n_files(out):
    return len(list(Path(out).glob("*.parquet")))


def kill_when(process, out, n, draw=None):
    """Kill a driver when `n` shards are kept, and a random time later; return whether it was still there."""
    while process.is_alive() and n_files(out) < n:
        time.sleep(0.002)
    time.sleep(draw.random() * (0.05 if n else 1) if draw else 0)
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


def workers_of(process):
    """The processes of a driver's pool: they are children of the process that all are copied from."""
    return [pid for pid in children(forkserver._forkserver._forkserver_pid) if pid != process.pid]


def actors_under(pid):
    """Ray's processes that hold a worker of ours."""
    found = []
    for child in children(pid):
        if title(child).startswith("ray::Worker"):
            found.append(child)
        found += actors_under(child)
    return found


def children(pid):
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def title(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def kill_one(pids, draw: random.Random):
    """Kill one of these processes, if there are any; return its number."""
    if not pids:
        return 0
    pid = draw.choice(sorted(pids))
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return pid
