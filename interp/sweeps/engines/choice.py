"""Choose what runs the shards, and refuse early what it cannot do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from interp.data.folders import Folder
from interp.errors import InputError
from interp.model.loading import Source
from interp.sweeps.engines import actors, jobs, local, processes
from interp.sweeps.shard import Done, Task
from interp.sweeps.work import Work

Executor = Literal["local", "processes", "ray", "submitit"]


@dataclass(frozen=True)
class Engine:
    """An engine that runs the shards; see `interp.sweep` for the fields.

    Raises:
        InputError: they do not go together, or a library is not installed.
    """

    executor: Executor
    workers: int | None = None
    num_gpus: float = 0
    address: str | None = None
    slurm: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        executor, num_gpus = self.executor, self.num_gpus
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers={self.workers}: give at least 1.")
        if num_gpus < 0 or ((num_gpus > 1 or executor == "submitit") and num_gpus != int(num_gpus)):
            some = ", or a part of one GPU" if executor == "ray" else ""
            raise InputError(f"num_gpus={num_gpus:g}: give a whole number of 0 or more{some}.")
        if num_gpus and executor not in ("ray", "submitit"):
            raise InputError(
                f"num_gpus={num_gpus:g} is for executor='ray' and 'submitit'; for {executor!r} name the device in "
                "loading={'device': 'cuda'}."
            )
        if self.address is not None and executor != "ray":
            raise InputError(f"address={self.address!r} is that of a Ray cluster; give executor='ray' too.")
        if self.slurm is not None and executor != "submitit":
            raise InputError(f"slurm={dict(self.slurm)!r} is for submitit's jobs; give executor='submitit' too.")
        if executor == "submitit" and self.workers is None:
            raise InputError("executor='submitit' needs workers=, the number of jobs.")
        if executor == "ray":
            actors.installed()
            actors.require_reachable(self.address)
        elif executor == "submitit":
            jobs.installed()

    def require_loadable(self, source: Source) -> None:
        """Refuse a model that workers cannot load.

        Raises:
            InputError: it is an object of this process.
        """
        if self.executor != "local" and not isinstance(source, str | Path):
            raise InputError(
                f"executor={self.executor!r} loads the model anew in every worker: give its name or path, not "
                f"{type(source).__name__}; loading= takes further arguments."
            )

    def planning(self, loading: Mapping[str, Any]) -> dict[str, Any]:
        """Return how this process loads the model: where other machines compute, this one may have no GPU."""
        elsewhere = self.executor in ("ray", "submitit")
        return {name: value for name, value in loading.items() if not (elsewhere and name == "device")}

    def loading(self, loading: Mapping[str, Any]) -> dict[str, Any]:
        """Return how a worker loads the model: on its GPU, if it gets one and nothing else is said."""
        told = self.num_gpus and "device" not in loading and "device_map" not in loading
        return {**loading, "device": "cuda"} if told else dict(loading)

    def run(self, work: Work, tasks: Sequence[Task]) -> Iterator[Done]:
        """Yield each shard as it is kept."""
        if self.executor == "local":
            return local.run(work, tasks)
        if self.executor == "ray":
            return actors.run(work, tasks, self.workers, num_gpus=self.num_gpus, address=self.address)
        if self.executor == "submitit":
            folder = Folder(work.out)
            logs = str((folder.local or Path.cwd()) / ".submitit")
            return jobs.run(
                work, tasks, self.workers or 1, logs=logs, num_gpus=int(self.num_gpus), slurm=self.slurm or {}
            )
        n_workers = min(self.workers or max(1, _n_cores() // 2), len(tasks))
        work.n_threads = max(1, _n_cores() // n_workers)
        return processes.run(work, tasks, n_workers)


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
