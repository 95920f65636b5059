"""Load a model once in a worker, and turn shards into files."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from interp.errors import InputError, InterpError, ModelError
from interp.model.loading import Source, load
from interp.model.subject import Subject
from interp.model.tokens import Tokens
from interp.options import options
from interp.runs import registry
from interp.runs.rehearsal import rehearse
from interp.runs.store import Store
from interp.runs.streams import Sums, collect
from interp.sweeps.manifest import sums_folder
from interp.sweeps.shard import Done, Task
from interp.sweeps.sums import write_sums


@dataclass
class Work:
    """Everything a worker needs to know, and nothing that cannot be pickled unless the subject is given as an object.

    Attributes:
        probe: its name, or the function itself.
        source: what `interp.load` takes.
        loading: further arguments of `interp.load`.
        arguments: of the probe, without subject and texts.
        run_id: of the sweep, in place of each shard's own.
        fingerprint: of the model that the sweep was planned with.
        out: the folder.
        kept_as: what the names of the shards begin with.
        parameters: of the run as planned, in JSON types.
        memory: of the worker, see `interp.options`.
        n_threads: of torch in this worker; None leaves them as they are.
        tokens: of all prompts, for a probe whose rows are about all of them together: a shard is its sums then.
    """

    probe: str | Callable[..., pd.DataFrame]
    source: Source
    loading: Mapping[str, Any]
    arguments: Mapping[str, Any]
    run_id: str
    fingerprint: str
    out: str
    kept_as: str
    parameters: Mapping[str, Any]
    memory: int
    n_threads: int | None = None
    tokens: Tokens | None = None
    _subject: Subject | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_subject": None}

    def run(self, task: Task) -> Done:
        """Compute a shard and keep it."""
        if self.tokens is not None:
            return self._sum(task, self.tokens)
        with options.local(memory=self.memory), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frame = self._function()(self._loaded(), task.texts, **self.arguments, **task.own)
        (run,) = frame.interp.runs.values()
        if any(run["parameters"].get(name) != value for name, value in self.parameters.items()):
            differ = [name for name, value in self.parameters.items() if run["parameters"].get(name) != value]
            raise InputError(
                f"{', '.join(differ)} of {run['probe']!r} depends on the prompts; pass what each prompt has of its "
                "own in per_prompt=, or call the probe itself."
            )
        frame = frame.assign(run_id=self.run_id)
        frame.attrs = {}
        Store(self.out, self.kept_as).write(task.shard.name, frame, texts_once=True)
        said = dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, UserWarning))
        return Done(task.shard.name, len(frame), tuple(said))

    def _sum(self, task: Task, tokens: Tokens) -> Done:
        """Sum up a shard's prompts and keep the sums; which are held out or drawn, all prompts decide."""
        function = self._function()
        found: registry.Probe = function.probe  # type: ignore[attr-defined]
        with options.local(memory=self.memory), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where the sweep is planned, it was said
            run = rehearse(function, found.name, self._loaded(), tokens, self.arguments)
            assert found.sums is not None
            sums: Sums = found.sums(run)
            collect(run, [sums], prompt_ids=task.shard.prompt_ids)
        state = sums.state()
        write_sums(Store(sums_folder(self.out), self.kept_as), task.shard.name, state)
        return Done(task.shard.name, len(state))

    def attempt(self, task: Task) -> Done | Exception:
        """Compute a shard for another process: an error is returned, one of another type if it cannot be pickled."""
        try:
            return self.run(task)
        except Exception as error:  # plug-ins may raise anything
            try:
                pickle.loads(pickle.dumps(error))
            except Exception:
                return InterpError(f"a worker failed: {type(error).__name__}: {error}")
            return error

    def _function(self) -> Callable[..., pd.DataFrame]:
        return registry.get(self.probe).function if isinstance(self.probe, str) else self.probe

    def _loaded(self) -> Subject:
        if self._subject is None:
            if self.n_threads is not None:
                import torch

                torch.set_num_threads(self.n_threads)
            subject = load(self.source, **self.loading)
            if subject.fingerprint != self.fingerprint:
                raise ModelError(
                    f"{subject.name!r} has the fingerprint {subject.fingerprint} here, not {self.fingerprint} as where "
                    "the sweep was planned; give every machine the same weights and versions."
                )
            self._subject = subject
        return self._subject
