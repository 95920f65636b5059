"""Save and load trained artefacts as safetensors, with metadata and the model's fingerprint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from safetensors import safe_open

from interp.data.writing import written
from interp.errors import InputError, InterpError, ModelError

if TYPE_CHECKING:
    from torch import Tensor

_KEY = "interp"  # in the file's metadata


def write(path: str | Path, what: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Path:
    """Write tensors with metadata `about` as JSON; missing folders are created.

    Raises:
        InputError: the file cannot be written; the message begins with `what` ("a tuned lens").
    """
    from safetensors.torch import save  # imports torch, which importing this module should not

    with creating(path, what) as file:
        file.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}, {_KEY: json.dumps(about)}))
    return Path(path)


@contextmanager
def creating(path: str | Path, what: str) -> Iterator[BinaryIO]:
    """Open a new file to write an artefact to, see `interp.data.writing.written`; missing folders are created.

    Raises:
        InputError: the file cannot be written; the message begins with `what` ("a tuned lens").
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{what} cannot be written to {str(path)!r}: {error.strerror}.") from error
    with written(path, what) as file:
        yield file


@contextmanager
def reading(path: str | Path, what: str, else_try: str = "") -> Iterator[None]:
    """Raise InputError for whatever a missing, damaged or foreign file causes inside the `with` block.

    A file that someone else wrote can be wrong in any way: it is read, taken apart and checked in here.

    Args:
        path: of the file.
        what: the content, such as "tuned lens".
        else_try: a sentence that ends the error message.

    >>> with reading("lens.safetensors", "tuned lens", "Train it anew."):
    ...     {}["weight"]
    Traceback (most recent call last):
    interp.errors.InputError: no tuned lens can be read from 'lens.safetensors': KeyError, 'weight'. Train it anew.
    """
    try:
        yield
    except InterpError:
        raise
    except Exception as error:  # libraries raise errors of many kinds, a bare Exception among them
        text = str(error.strerror if isinstance(error, OSError) and error.strerror else error)
        reason = (text.strip().splitlines() or [""])[0].rstrip(".")
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}, "
        raise InputError(
            f"no {what} can be read from {str(path)!r}: {kind}{reason}.{else_try and ' ' + else_try}"
        ) from error


def format_of(path: str | Path) -> str | None:
    """Return the `format` in a file's metadata; None if it has none or cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_KEY, "{}"))
    except Exception:  # libraries raise errors of many kinds, a bare Exception among them
        return None
    return about.get("format") if isinstance(about, dict) else None


def read(path: str | Path, what: str, kind: str, else_try: str = "") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the metadata and the tensors of a file.

    Args:
        path: of the file.
        what: the content, such as "tuned lens", for the error message.
        kind: the required `format` in the metadata.
        else_try: a sentence that ends the error message if nothing can be read.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    with reading(path, what, else_try), safe_open(path, framework="pt") as file:
        about = json.loads((file.metadata() or {}).get(_KEY, "{}"))
        if not isinstance(about, dict) or about.get("format") != kind:
            raise InputError(f"{str(path)!r} holds no {what} of this project.")
        return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def require_same_weights(what: str, made_for: tuple[str, str | None], given: tuple[str, str], mend: str) -> None:
    """Refuse a model with another fingerprint; a file without one (None) fits any model.

    Args:
        what: the start of the error message, such as "this subnetwork".
        made_for: name and fingerprint of the model that the file was made for.
        given: name and fingerprint of the given model.
        mend: a sentence that ends the error message.

    Raises:
        ModelError: the fingerprints differ.
    """
    if made_for[1] is not None and made_for[1] != given[1]:
        raise ModelError(
            f"{what} is of {made_for[0]!r} with fingerprint {made_for[1]}, but {given[0]!r} has "
            f"{given[1]}: other weights or processing. {mend}"
        )
