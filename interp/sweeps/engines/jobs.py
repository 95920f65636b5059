"""Run shards as jobs of a Slurm array, by submitit; each job takes a part of the shards."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from interp.errors import InputError, InterpError, reason_of, warn
from interp.options import options
from interp.runs.store import Store
from interp.sweeps.shard import Done, Task

if TYPE_CHECKING:  # unpickling a `Work` imports what it needs
    from interp.sweeps.work import Work

_PAUSE = 2.0  # seconds between two looks into the folder
# A job that runs out of time is asked for again, and goes on; submitit's own 5 minutes may not do to read a model.
_MINUTES, _TIMES = 240, 100


@dataclass
class Job:
    """A job: some shards. submitit pickles it, and once more if it runs out of time or is preempted."""

    work: Work
    tasks: Sequence[Task]

    def __call__(self) -> list[Done | Exception]:
        """Compute the shards that are not kept, until one fails."""
        options.progress = False
        kept = Store(self.work.out, self.work.kept_as).whole_parts()
        done: list[Done | Exception] = []
        for task in self.tasks:
            if task.shard.name not in kept:
                done.append(self.work.attempt(task))
                if isinstance(done[-1], Exception):
                    break
        return done

    def checkpoint(self) -> Any:
        """Ask for the same job again; what it has kept is not computed twice."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run(
    work: Work, tasks: Sequence[Task], workers: int, *, logs: str, num_gpus: int = 0, slurm: Mapping[str, Any]
) -> Iterator[Done]:
    """Yield each shard as it appears in the folder. An interrupted call cancels its jobs; a killed one leaves them.

    Args:
        work: what to do.
        tasks: the shards.
        workers: jobs.
        logs: a folder on a disk that all machines share, for submitit's pickles and logs.
        num_gpus: of each job.
        slurm: further parameters of submitit's executor.

    Raises:
        InputError: submitit is not installed, or it refuses a parameter.
        InterpError: a job failed, or ended without its shards.
    """
    submitit = installed()
    given: dict[str, Any] = {
        "name": f"interp-{work.run_id}",
        "timeout_min": _MINUTES,
        "gpus_per_node": num_gpus or None,
    }
    executor = submitit.AutoExecutor(logs, slurm_max_num_timeout=_TIMES)
    try:
        executor.update_parameters(**(given | dict(slurm)))
    except Exception as error:  # submitit's own types
        raise InputError(f"slurm={dict(slurm)!r}: submitit refuses it: {reason_of(error)}.") from error
    n_jobs = min(workers, len(tasks))
    with _by_name(), executor.batch():
        jobs = [executor.submit(Job(work, tasks[first::n_jobs])) for first in range(n_jobs)]
    try:
        yield from _kept(Store(work.out, work.kept_as), {task.shard.name for task in tasks}, jobs)
    except BaseException:  # an interrupt, or the reader has enough
        for job in jobs:
            if not job.done():
                job.cancel(check=False)
        raise
    results = [one for job in jobs for one in _result(job, logs)]
    for one in results:
        if isinstance(one, Exception):
            raise one
    for message in dict.fromkeys(said for one in results if isinstance(one, Done) for said in one.warnings):
        warn(message)


def installed() -> Any:
    """Import submitit.

    Raises:
        InputError: it is not there.
    """
    try:
        import submitit
    except ImportError:
        raise InputError("executor='submitit' needs submitit: pip install 'interp-probes[slurm]'.") from None
    return submitit


@contextmanager
def _by_name() -> Iterator[None]:
    """Have cloudpickle pickle all code by its name inside a `with` block.

    Whoever ran a model remotely by nnsight has registered packages that are sent whole, for the rest of the process.
    """
    import cloudpickle

    whole = [import_module(name) for name in cloudpickle.list_registry_pickle_by_value()]
    for module in whole:
        cloudpickle.unregister_pickle_by_value(module)
    try:
        yield
    finally:
        for module in whole:
            cloudpickle.register_pickle_by_value(module)


def _kept(store: Store, asked: set[str], jobs: Sequence[Any]) -> Iterator[Done]:
    """Look into the folder until all jobs are over."""
    left = set(asked)
    over = False
    while left and not over:
        over = all(job.done() for job in jobs)  # before looking, so that nothing is missed
        found = left & set(store.parts())
        left -= found
        yield from map(Done, sorted(found))
        if left and not over:
            time.sleep(_PAUSE)


def _result(job: Any, logs: str) -> list[Done | Exception]:
    error = job.exception()
    if error is None:
        found: list[Done | Exception] = job.result()
        return found
    return [
        InterpError(f"a job ended too soon: {reason_of(error)}; its logs are in {logs!r}, and the same call goes on.")
    ]
