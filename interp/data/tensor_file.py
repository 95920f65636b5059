"""What was trained for a model, kept as one safetensors file that says what it is and of which weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from interp.errors import InputError, ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from interp.model.subject import Subject

_KEY = "interp"  # of the file's metadata


def write(path: str | Path, what: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Path:
    """Write tensors and, as JSON beside them, what they are; folders are made.

    Raises:
        InputError: the file cannot be written; `what` ("a tuned lens") begins the sentence.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {_KEY: json.dumps(about)})
    except OSError as error:
        raise InputError(f"{what} cannot be written to {str(path)!r}: {error.strerror}.") from error
    return path


def read(path: str | Path, what: str, kind: str, else_try: str = "") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file says of itself, and its tensors.

    Args:
        path: of the file.
        what: "tuned lens", for the error's sentence.
        kind: the file's `format`; another one is refused.
        else_try: a sentence that ends the error where nothing can be read.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            if about.get("format") != kind:
                raise InputError(f"{str(path)!r} holds no {what} of this project.")
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"no {what} can be read from {str(path)!r}: {reason}.{else_try and ' ' + else_try}") from error


def require_same_weights(what: str, model: str, fingerprint: str | None, subject: Subject, mend: str) -> None:
    """Refuse a model with another fingerprint; None, where the file came without one, fits any.

    Raises:
        ModelError: it is another one; `what` ("this subnetwork") begins the sentence, `mend` ends it.
    """
    if fingerprint is not None and fingerprint != subject.fingerprint:
        raise ModelError(
            f"{what} is of {model!r} with fingerprint {fingerprint}, but {subject.name!r} has "
            f"{subject.fingerprint}: other weights or processing. {mend}"
        )
