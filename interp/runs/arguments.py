"""Parse the arguments of a probe from a shell command or notebook magic."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from interp.checks import example_call, kinds_of
from interp.data.frame_files import read_frame
from interp.data.writing import check_target
from interp.errors import InputError, UnknownName

_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters(
    function: Callable[..., Any], given: Iterable[tuple[str, str]], *, complete: bool = True
) -> dict[str, Any]:
    """Parse a probe's own keyword arguments from names and texts; a value that is not JSON stays text.

    >>> from probes import logit_lens
    >>> parameters(logit_lens, [("positions", "[-1]"), ("targets", "argmax")])
    {'positions': [-1], 'targets': 'argmax'}

    Raises:
        UnknownName: the probe has no such parameter.
        InputError: one without a default is not given, and they are meant to be complete.
    """
    signature = inspect.signature(function).parameters
    known = [name for name, one in signature.items() if name not in ("subject", "texts") and one.kind not in _OPEN]
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature.values())
    values: dict[str, Any] = {}
    for name, text in given:
        if name not in known and not takes_any:
            raise UnknownName("parameter", name, known)
        values[name] = value_of(text)
    for name in known if complete else ():
        if signature[name].default is inspect.Parameter.empty and name not in values:
            raise InputError(f"{function.__name__!r} needs a value for {name!r}{_as_in_its_example(function, name)}.")
    return values


def _as_in_its_example(function: Callable[..., Any], name: str) -> str:
    """Return how the docstring's example gives an argument: as JSON, or as a call from Python."""
    call = example_call(function)
    if call is None:
        return ": give one, or call the probe from Python if it cannot be written as JSON"
    bound = inspect.signature(function).bind_partial(*call.args, **{str(one.arg): one.value for one in call.keywords})
    try:
        value = json.dumps(ast.literal_eval(bound.arguments[name]))
    except (KeyError, ValueError, TypeError):  # left out there, or made before
        return f", which cannot be written as JSON: call the probe from Python, as in {ast.unparse(call)}"
    return f", such as {name}='{value}'"


def with_files(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the path of a file by what it holds, where a parameter takes a frame or a class that can be loaded.

    Raises:
        InputError: a file of such a parameter cannot be read.
    """
    kinds = kinds_of(function)
    return {name: _from_file(value, kinds.get(name)) for name, value in given.items()}


def _from_file(value: Any, hint: Any) -> Any:
    if not isinstance(value, str) or not Path(value).is_file():
        return value
    kinds = [hint, *get_args(hint)]
    if any(kind is pd.DataFrame for kind in kinds):
        return read_frame(value)
    refused: list[InputError] = []
    for kind in kinds:
        if isinstance(kind, type) and hasattr(kind, "load"):
            try:
                return kind.load(value)
            except InputError as error:  # perhaps the file is of another kind that the parameter takes
                refused.append(error)
    if refused:
        raise refused[0]
    return value


def takes_texts(function: Callable[..., Any]) -> bool:
    """Tell whether a probe reads texts; if not, it reads weights only."""
    return "texts" in inspect.signature(function).parameters


def value_of(text: str) -> Any:
    """Read a value from a text: JSON, or the text itself if it is not JSON.

    >>> value_of("[-1]"), value_of("argmax")
    ([-1], 'argmax')
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def pairs(given: Iterable[str], option: str = "--param") -> list[tuple[str, str]]:
    """Split `key=value` arguments of an option into names and texts.

    Raises:
        InputError: an argument without `=`.
    """
    split = [(pair, *pair.partition("=")) for pair in given]
    for pair, _, equals, _ in split:
        if not equals:
            raise InputError(f"{option} {pair!r} has no '='; write key=value.")
    return [(key, value) for _, key, _, value in split]


def check_output(file: Path) -> None:
    """Refuse an output file that cannot be written, before a run of minutes instead of after it.

    Raises:
        InputError: its folder does not exist or cannot be written to, or it is a folder itself.
    """
    folder = file.resolve().parent
    if not folder.is_dir():
        raise InputError(f"the folder of {str(file)!r} does not exist; create it first.")
    if file.is_dir():
        raise InputError(f"{str(file)!r} is a folder; give the name of a file in it.")
    check_target(file)
