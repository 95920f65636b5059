"""Run shards on Ray: an actor holds the model and takes one shard after another; one that dies is replaced."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import InputError, reason_of
from interp.options import options
from interp.sweeps.engines.blame import Blame
from interp.sweeps.shard import Done, Task

if TYPE_CHECKING:  # unpickling a `Work` imports what it needs
    from interp.sweeps.work import Work

_PATIENCE = 10.0  # seconds for a machine to answer


class Worker:
    """A process of Ray's, here or on another machine, that loads the model with its first shard."""

    def __init__(self, work: Work, folder: str) -> None:
        options.progress = False
        self._work = work
        with suppress(OSError):  # Ray's processes may begin elsewhere, and paths may be relative
            os.chdir(folder)

    def begin(self) -> None:
        """Do nothing, once there is a machine for this worker."""

    def compute(self, task: Task) -> Done | Exception:
        """Compute a shard, and return the error there was if any."""
        return self._work.attempt(task)


def run(
    work: Work, tasks: Sequence[Task], workers: int | None, *, num_gpus: float = 0, address: str | None = None
) -> Iterator[Done]:
    """Yield each shard as it is kept.

    Args:
        work: what to do.
        tasks: the shards.
        workers: actors; by default as many as the GPUs allow, without GPUs one for every two cores.
        num_gpus: of each actor.
        address: of a cluster; None takes one that Ray finds (`RAY_ADDRESS`), or starts Ray on this machine.

    Raises:
        InputError: Ray is not installed, no cluster is there, or none of its machines has as many GPUs.
        InterpError: actors die over one shard again and again, or the probe refuses it.
    """
    ray = installed()
    with _connected(ray, address):
        n_actors, n_cores = divided(ray.nodes(), workers, num_gpus)
        work.n_threads = n_cores
        kind = ray.remote(num_cpus=n_cores, num_gpus=num_gpus)(Worker)
        n_actors = min(n_actors, len(tasks))
        waiting, blame = deque(tasks), Blame(n_actors)
        running: dict[Any, tuple[Any, Task | None]] = {}  # without a shard: the actor waits for a machine

        def begin() -> None:
            actor = kind.remote(work, str(Path.cwd()))
            running[actor.begin.remote()] = actor, None

        try:
            for _ in range(n_actors):
                begin()
            while waiting or any(task is not None for _, task in running.values()):
                (reference,), _ = ray.wait(list(running))
                actor, task = running.pop(reference)
                try:
                    finished = ray.get(reference)
                except ray.exceptions.RayError as error:
                    ray.kill(actor)  # it may only be out of reach
                    if task is None:
                        blame.add_start(str(error).strip().splitlines()[-1])
                    else:
                        waiting.appendleft(task)
                        blame.add([task])
                    begin()
                    continue
                blame.begun()
                if isinstance(finished, Exception):
                    raise finished
                if waiting:
                    task = waiting.popleft()
                    running[actor.compute.remote(task)] = actor, task
                if finished is not None:
                    yield finished
        finally:
            for actor, _ in running.values():
                ray.kill(actor)


def installed() -> Any:
    """Import Ray.

    Raises:
        InputError: it is not there.
    """
    try:
        import ray
    except ImportError:
        raise InputError("executor='ray' needs Ray: pip install 'interp-probes[ray]'.") from None
    return ray


def require_reachable(address: str | None) -> None:
    """Refuse an address at which nobody listens; Ray itself would try for minutes.

    Args:
        address: as `run` takes it.

    Raises:
        InputError: nobody does.
    """
    asked = address or os.environ.get("RAY_ADDRESS", "")
    host, _, port = asked.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
        except (OSError, OverflowError) as error:
            raise _unreachable(asked, error) from error


def divided(nodes: Sequence[Mapping[str, Any]], workers: int | None, num_gpus: float) -> tuple[int, int]:
    """Return how many actors there are to be, and how many cores each gets, so that there is a place for all of them.

    Args:
        nodes: as `ray.nodes()` describes machines.
        workers: number of actors, if it is given.
        num_gpus: of each actor.

    >>> machine = {"Alive": True, "Resources": {"CPU": 5.0}}
    >>> divided([machine, machine], None, 0), divided([machine, machine], 3, 0), divided([machine], 20, 0)
    ((5, 1), (3, 2), (20, 1))
    """
    there = [node["Resources"] for node in nodes if node["Alive"]]
    cores = [int(one.get("CPU", 0)) for one in there]
    gpus = [float(one.get("GPU", 0)) for one in there]
    if num_gpus > max(gpus, default=0.0):
        raise InputError(
            f"num_gpus={num_gpus:g}: no machine of this Ray cluster has as many (the most is "
            f"{max(gpus, default=0.0):g}); give fewer, or the address= of another cluster."
        )
    if workers is None:
        workers = max(1, sum(int(n / num_gpus) for n in gpus) if num_gpus else sum(cores) // 2)
    n_cores = max(1, sum(cores) // workers)
    while n_cores > 1 and sum(n // n_cores for n in cores) < workers:
        n_cores -= 1
    return workers, n_cores


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to Ray's makers unasked
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error")
    except Exception as error:  # of many types
        raise _unreachable(address, error) from error
    try:
        yield
    finally:
        ray.shutdown()


def _unreachable(address: str | None, error: Exception) -> InputError:
    return InputError(
        f"address={address!r}: no Ray cluster can be reached or started ({reason_of(error)}); give the address of one, "
        "or 'local' to start Ray here."
    )
