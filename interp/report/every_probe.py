"""Run every installed probe on one model, and keep finished frames in a folder, so that a survey can resume."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import InputError, InterpError
from interp.model.loading import Source, load
from interp.model.subject import Subject
from interp.model.texts.forms import frame_of_texts
from interp.model.tokens import Texts
from interp.runs import registry
from interp.runs.code import hash_of
from interp.runs.description import needs
from interp.runs.progress import progress_bar
from interp.runs.registry import Probe
from interp.runs.run import kept_as
from interp.runs.store import Store

QUICK_TEXTS, QUICK_CHARACTERS = 4, 256  # characters: about 64 tokens of English


@dataclass(frozen=True)
class ProbeResult:
    """A probe with its frame, or with the reason for having none.

    Attributes:
        probe: the probe.
        frame: its rows, or None.
        absent: why there is no frame, a sentence.
        failed: True if that is an error the probe did not raise on purpose.
        kept: True if the frame was read from the folder.
    """

    probe: Probe
    frame: pd.DataFrame | None = None
    absent: str = ""
    failed: bool = False
    kept: bool = False


def run_every_probe(
    source: Source, texts: Texts, *, probes: Sequence[str] | None = None, folder: str | Path
) -> Iterator[ProbeResult]:
    """Run probes one after another, with a progress bar and an estimate of the time left.

    A probe runs with its own defaults and the arguments of its `example`. A probe that needs more arguments, or does
    not suit the model, has no frame. A frame in the folder is read, not computed again, if the model, texts, versions
    and code (of `interp` and of the probe's package) are the same.

    Args:
        source: anything `interp.load` takes.
        texts: in any form that a probe takes, except token ids; those longer than the context are cut.
        probes: names; by default all that are installed.
        folder: for the frames, as Parquet; created if its parent exists.

    Raises:
        InputError: a text cannot be used, or the folder cannot be created.
        UnknownName: there is no such model or probe.
    """
    chosen = [registry.get(name) for name in (registry.names() if probes is None else probes)]
    folder = _make_folder(Path(folder))
    subject, texts = load(source), frame_of_texts(texts)
    digest = subject.tokens(texts, truncate=True).digest  # refuses unusable texts before any probe runs
    with progress_bar(len(chosen), "probe") as bar:
        for probe in chosen:
            bar.set_description(probe.name)
            store = Store(folder, probe.name, key="run_id")
            key = hash_of({"frame": _key(probe, subject, texts, digest)})
            kept = store.read_part(key)
            if kept is not None:
                yield ProbeResult(probe, probe.schema.validate(kept), kept=True)
            else:
                entry = _run(probe, subject, texts)
                if entry.frame is not None:
                    store.write(key, entry.frame)
                yield entry
            bar.update()


def some_texts(texts: Texts, n: int) -> pd.DataFrame:
    """Return at most `n` texts at even distances, so that each group of a sorted dataset is represented.

    >>> some_texts("prompts", 3)["prompt_id"].tolist()
    [0, 60, 119]

    Raises:
        InputError: there are no texts or they cannot be used, or `n` is below 1.
    """
    if n < 1:
        raise InputError(f"n_prompts={n}: give at least 1.")
    table = frame_of_texts(texts)
    places = np.linspace(0, len(table) - 1, min(n, len(table))).round().astype(int)
    return table.iloc[places].reset_index(drop=True)


def quick_texts(texts: Texts, n: int) -> pd.DataFrame:
    """Return what a quick report reads: at most `QUICK_TEXTS` texts, and `QUICK_CHARACTERS` characters of each.

    >>> table = quick_texts("stories", 24)
    >>> len(table), [len(text) for text in table["text"]]
    (4, [256, 256, 256, 256])
    """
    table = some_texts(texts, min(n, QUICK_TEXTS))
    return table.assign(text=table["text"].str.slice(0, QUICK_CHARACTERS))


def _run(probe: Probe, subject: Subject, texts: pd.DataFrame) -> ProbeResult:
    try:
        arguments = arguments_of(probe, subject, texts)
        return ProbeResult(probe, probe.function(subject, **arguments))
    except InterpError as error:
        return ProbeResult(probe, absent=str(error))
    except Exception as error:  # another package's probe may fail; keep the frames of the rest
        return ProbeResult(probe, absent=f"{type(error).__name__}: {error}", failed=True)


def arguments_of(probe: Probe, subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    """Collect the arguments the probe is called with, besides the subject."""
    names = inspect.signature(probe.function).parameters
    given: dict[str, Any] = {"texts": texts, "truncate": True}
    example: Mapping[str, Any] = {} if probe.example is None else probe.example(subject, texts)
    arguments = {name: value for name, value in given.items() if name in names} | dict(example)
    needed = [name for name in needs(probe) if name not in arguments]
    if needed:
        raise InputError(f"it needs {', '.join(needed)}, which its example does not give; call it yourself.")
    return arguments


def _key(probe: Probe, subject: Subject, texts: pd.DataFrame, digest: str) -> str:
    """Name what a frame depends on: the model, the texts with their other columns, and the code."""
    model = [subject.name, subject.fingerprint, subject.backend.kind, str(subject.dtype), str(subject.device)]
    columns = texts.to_json(orient="split", default_handler=str)
    identity = json.dumps([probe.name, *model, subject.edits, digest, columns], sort_keys=True, default=str)
    return kept_as(hashlib.sha256(identity.encode()).hexdigest()[:12], subject, probe.schema)


def _make_folder(folder: Path) -> Path:
    if folder.is_file() or not folder.resolve().parent.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder and cannot be created; name another.")
    folder.mkdir(exist_ok=True)
    return folder
