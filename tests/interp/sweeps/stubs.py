"""Work that needs no model, for the engines alone."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from interp.errors import InputError
from interp.runs.store import Store
from interp.sweeps.shard import Done, Shard, Task


@dataclass
class Deadly:
    """It does nothing, or ends its process the first time that it is given a shard."""

    folder: str
    n_threads: int | None = None

    def attempt(self, task):
        here = Path(self.folder) / task.shard.name
        if task.texts == "refused":
            return InputError(task.shard.name)
        if task.texts == "deadly" or (task.texts == "once deadly" and not here.exists()):
            here.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Done(task.shard.name)


@dataclass
class Rows:
    """Rows drawn by the number of each prompt, kept as those of a sweep; Ray begins such a worker in a second."""

    out: str
    kept_as: str = "rows"
    n_threads: int | None = None

    def attempt(self, task):
        time.sleep(0.02)
        draws = [np.random.default_rng(number).random(9) for number in task.shard.prompt_ids]
        numbers = np.repeat(task.shard.prompt_ids, 9)
        Store(self.out, self.kept_as).write(
            task.shard.name, pd.DataFrame({"prompt_id": numbers, "draw": np.concatenate(draws)})
        )
        return Done(task.shard.name)

    def missing(self, tasks):
        kept = Store(self.out, self.kept_as).whole_parts()
        return [task for task in tasks if task.shard.name not in kept]


def tasks_of(*kinds):
    return [Task(Shard(f"shard{number}", (number,)), kind) for number, kind in enumerate(kinds)]


@dataclass
class KeptBy(Deadly):
    """The same, with a file for each shard as a sweep keeps it."""

    out: str = ""
    kept_as: str = "rows"
    run_id: str = "1"

    def attempt(self, task):
        done = super().attempt(task)
        (Path(self.out) / f"{self.kept_as}-{task.shard.name}.parquet").write_bytes(b"PAR1")
        return done
