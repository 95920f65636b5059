"""Load each model and compute each frame once for all tests of a process."""

from __future__ import annotations

import hashlib
import inspect
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.data.shipped import read_data
from interp.errors import InputError, InterpError, UnknownName
from interp.runs import registry

if TYPE_CHECKING:
    import pandas as pd

    from interp.model.subject import Subject


@dataclass
class Session:
    """The settings of a test run, with its loaded models and computed frames.

    Attributes:
        model: the command line's model, used instead of the tests' own; None if not given.
        device: of the models; None leaves them where they are.
        dtype: of their weights; None keeps it as loaded.
        update: True to rewrite recorded values.
    """

    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    update: bool = False
    _subjects: dict[Any, tuple[Any, Subject | InterpError]] = field(default_factory=dict)
    _frames: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict)

    def subject(self, source: Any) -> Subject:
        """Return the model, loaded on first use; a model that failed to load is not tried again.

        Raises:
            InterpError: as `interp.load` does.
        """
        key = source if isinstance(source, str) else id(source)
        if key not in self._subjects:
            self._subjects[key] = (source, self._load(source))  # keep the source, so that no other object gets its id
        loaded = self._subjects[key][1]
        if isinstance(loaded, InterpError):
            raise loaded
        return loaded

    def run(self, probe: str, subject: Subject, texts: Any, parameters: dict[str, Any]) -> pd.DataFrame:
        """Return a probe's frame; the same call in two tests runs once, and each test gets its own copy.

        Raises:
            UnknownName: there is no such probe or parameter.
            InputError: the probe reads texts and there are none.
        """
        function = registry.get(probe).function
        known = list(inspect.signature(function).parameters)[1:]
        for name in parameters:
            if name not in known:
                raise UnknownName(f"parameter of {probe!r}", name, known)
        arguments = dict(parameters)
        if "texts" in known and "texts" not in arguments:
            if texts is None:
                raise InputError(f"{probe!r} reads texts; add data= to @pytest.mark.finding, or pass texts=.")
            arguments["texts"] = texts
        digest = _digest(probe, arguments)
        if digest is None:
            return function(subject, **arguments)
        key = (f"{subject.fingerprint} {subject.backend.kind} {subject.device} {subject.edits}", digest)
        if key not in self._frames:
            self._frames[key] = function(subject, **arguments)
        return self._frames[key].copy()

    def _load(self, source: Any) -> Subject | InterpError:
        from interp.model.loading import load

        try:
            return load(source() if inspect.isroutine(source) else source, device=self.device, dtype=self.dtype)
        except InterpError as error:
            return error


def _digest(probe: str, arguments: dict[str, Any]) -> str | None:
    """Return a hash that is equal for equal calls; None if the arguments cannot be compared by content."""
    try:
        return hashlib.sha256(pickle.dumps((probe, sorted(arguments.items())))).hexdigest()
    except Exception:  # an object's own pickling may raise anything
        return None


def read_texts_of(data: Any, n: int | None, beside: Path) -> pd.DataFrame:
    """Return the texts that a marker names, as a frame with a `text` column.

    Args:
        data: a shipped dataset's name, a file, texts or a frame.
        n: number of texts, from the first; None for all.
        beside: the folder of the test module, where a file is looked for first.

    Raises:
        UnknownName: `data` is neither a shipped dataset nor a file.
        InputError: there are fewer than n texts.
    """
    import pandas as pd

    from interp.model.texts.forms import frame_of_texts

    if isinstance(data, str):
        frame = read_data(str(beside / data) if (beside / data).is_file() else data)
    else:
        frame = data.copy() if isinstance(data, pd.DataFrame) else frame_of_texts(data)
    if n is not None and len(frame) < n:
        raise InputError(f"n={n}, but {data!r} has {len(frame)} texts; lower n.")
    return frame if n is None else frame.head(n)
