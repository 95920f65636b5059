"""Subnetworks as Chang & Bergen released them: a pickled dictionary from Hugging Face names to boolean arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.authoring import InputError, Subject
from probes.subnetworks.subnetwork import Subnetwork


def released_subnetwork(subject: Subject, path: str | Path) -> Subnetwork:
    """Convert a released dictionary; fused queries, keys and values are told apart head by head where they lie so.

    The released files are pickles, which can run code. Only tensors and plain values are read here
    (`torch.load(weights_only=True)`), and a file with anything else is refused. Convert such a file once, on a machine
    that may be lost: `torch.save({name: torch.as_tensor(mask) for name, mask in pickle.load(file).items()}, path)`,
    leaving out the entries that are no arrays.

    Args:
        subject: the model the masks are of, loaded with `backend="nnsight"`, which keeps Hugging Face's names. What is
            returned applies to it on either backend.
        path: of a file of `torch.save`.

    Raises:
        InputError: the file holds something else, or lacks a matrix; or the subject keeps other names.
    """
    if subject.backend.kind != "nnsight":
        raise InputError(
            f"{subject.name!r} is on a bridge, which renames weights; load it with backend='nnsight' here."
        )
    try:
        released = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises its own kinds; whichever, nothing of it was run
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{str(path)!r} holds more than tensors and is not unpickled; save its masks as tensors with torch.save "
            f"first, see the docstring. ({type(error).__name__}: {reason})"
        ) from error
    if not isinstance(released, Mapping):
        raise InputError(f"{str(path)!r} holds a {type(released).__name__}, not a dictionary of masks.")
    names = {id(weight): name for name, weight in subject.named_weights()}
    masks = {}
    for matrix in subject.weight_matrices():
        weight: Any = matrix.module.weight
        whole = released.get(names[id(weight)])
        if not isinstance(whole, Tensor) or whole.shape != weight.shape:
            shape = list(whole.shape) if isinstance(whole, Tensor) else "none"
            raise InputError(f"the mask of {names[id(weight)]!r} is {shape}; {list(weight.shape)} is wanted.")
        masks[matrix.name] = matrix.view(whole.bool()).reshape(matrix.shape).contiguous()
    note = {"made": "released", "file": Path(path).name, "orig_model_name": str(released.get("orig_model_name", ""))}
    return Subnetwork(masks, subject.name, None, note)
