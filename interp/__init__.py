"""Mechanistic-interpretability probes for causal language models, as tidy DataFrames."""

from typing import Any

from interp.accessor import concat
from interp.errors import InputError, InterpError, ModelError, NumericalError, TooLong, UnknownName
from interp.frames import Column, Schema
from interp.loading import load
from interp.options import options
from interp.registry import probe
from interp.run import Run
from interp.subject import Subject
from interp.tape import Tape
from interp.tokens import Tokens

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


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext interp` calls."""
    from interp import notebook

    notebook.load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """What `%unload_ext interp` calls."""
    from interp import notebook

    notebook.unload(shell)
