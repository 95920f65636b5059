"""Mechanistic-interpretability probes for causal language models, as tidy DataFrames.

Importing it imports pandas, so that every frame has `.interp`, but no model library: torch is imported with the first
name that needs it. So a pytest run or a shell completion without a model starts quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from interp.data.shipped import dataset
from interp.errors import InputError, InterpError, ModelError, NumericalError, TooLong, UnknownName
from interp.frames.schema import Column, Schema
from interp.options import options
from interp.runs.accessor import concat
from interp.runs.registry import probe

if TYPE_CHECKING:
    from interp.data.shared_frames import pull
    from interp.findings.compare import compare
    from interp.model.loading import load
    from interp.model.sources.fetching import fetch
    from interp.model.subject import Subject
    from interp.model.tape import Tape
    from interp.model.tokens import Tokens
    from interp.runs.run import Run
    from interp.scorecard.table import tokenizer_scorecard
    from interp.sweeps.result import Sweep
    from interp.sweeps.sweep import sweep

    __version__: str

__all__ = [
    "Column",
    "InputError",
    "InterpError",
    "ModelError",
    "NumericalError",
    "Run",
    "Schema",
    "Subject",
    "Sweep",
    "Tape",
    "Tokens",
    "TooLong",
    "UnknownName",
    "compare",
    "concat",
    "dataset",
    "fetch",
    "load",
    "options",
    "probe",
    "pull",
    "sweep",
    "tokenizer_scorecard",
]

_LATE = {
    "Run": "runs.run",
    "Subject": "model.subject",
    "Sweep": "sweeps.result",
    "Tape": "model.tape",
    "Tokens": "model.tokens",
    "compare": "findings.compare",
    "fetch": "model.sources.fetching",
    "load": "model.loading",
    "pull": "data.shared_frames",
    "sweep": "sweeps.sweep",
    "tokenizer_scorecard": "scorecard.table",
}


def __getattr__(name: str) -> Any:
    if name == "probes":
        return import_module("interp.probes")
    if name == "__version__":
        from importlib.metadata import version

        return version("interp-probes")
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    globals()[name] = value  # the next lookup does not call this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def load_ipython_extension(shell: Any) -> None:
    """Register the magics; called by `%load_ext interp`."""
    from interp import notebook

    notebook.load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Remove the magics; called by `%unload_ext interp`."""
    from interp import notebook

    notebook.unload(shell)
