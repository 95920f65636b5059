"""What was trained for a model, kept as one safetensors file that says what it is and of which weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from interp.errors import InputError, ModelError

if TYPE_CHECKING:
    from torch import Tensor

_KEY = "interp"  # of the file's metadata


def write(path: str | Path, what: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Path:
    """Write tensors and, as JSON beside them, what they are; folders are made.

    Raises:
        InputError: the file cannot be written; `what` ("a tuned lens") begins the sentence.
    """
    from safetensors.torch import save_file  # brings torch, which reading this module should not

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


def require_same_weights(
    what: str, model: str, fingerprint: str | None, *, name: str, own_fingerprint: str, mend: str
) -> None:
    """Refuse a model with another fingerprint; None, for a file without one, fits any.

    Args:
        what: "this subnetwork", begins the error's sentence.
        model: the model that the file is of.
        fingerprint: of that model.
        name: the model at hand.
        own_fingerprint: of the model at hand.
        mend: a sentence that ends the error.

    Raises:
        ModelError: it is another model.
    """
    if fingerprint is not None and fingerprint != own_fingerprint:
        raise ModelError(
            f"{what} is of {model!r} with fingerprint {fingerprint}, but {name!r} has "
            f"{own_fingerprint}: other weights or processing. {mend}"
        )
