"""Mechanistic-interpretability probes for causal language models, as tidy DataFrames.

Importing it brings pandas, so that every frame has `.interp`, and no model library: those come with the first name that
needs them. A pytest run or a shell completion that never asks for a model does not pay for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from interp.errors import InputError, InterpError, ModelError, NumericalError, TooLong, UnknownName
from interp.frames.schema import Column, Schema
from interp.options import options
from interp.runs.accessor import concat
from interp.runs.registry import probe

if TYPE_CHECKING:
    from interp.model.loading import load
    from interp.model.subject import Subject
    from interp.model.tape import Tape
    from interp.model.tokens import Tokens
    from interp.runs.run import Run

__all__ = [
    "Column",
    "InputError",
    "InterpError",
    "ModelError",
    "NumericalError",
    "Run",
    "Schema",
    "Subject",
    "Tape",
    "Tokens",
    "TooLong",
    "UnknownName",
    "concat",
    "load",
    "options",
    "probe",
]

_NEED_TORCH = {
    "Run": "runs.run",
    "Subject": "model.subject",
    "Tape": "model.tape",
    "Tokens": "model.tokens",
    "load": "model.loading",
}


def __getattr__(name: str) -> Any:
    if name == "probes":
        return import_module("interp.probes")
    if name not in _NEED_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_NEED_TORCH[name]}"), name)
    globals()[name] = value  # from now on found without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext interp` calls."""
    from interp import notebook

    notebook.load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """What `%unload_ext interp` calls."""
    from interp import notebook

    notebook.unload(shell)
