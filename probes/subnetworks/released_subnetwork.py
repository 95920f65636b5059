"""Subnetworks released by Chang & Bergen: a pickled dictionary from Hugging Face names to boolean arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.authoring import InputError, Subject, checked
from probes.subnetworks.subnetwork import Subnetwork


@checked
def released_subnetwork(subject: Subject, path: str | Path) -> Subnetwork:
    """Convert a released dictionary; fused queries, keys and values are split, head by head if they are stored so.

    The released files are pickles, which can run code. Only tensors and plain values are read here
    (`torch.load(weights_only=True)`); a file with anything else is refused. Convert such a file once, on a machine that
    you can afford to lose: `torch.save({name: torch.as_tensor(mask) for name, mask in pickle.load(file).items()},
    path)`, without the entries that are not arrays.

    Args:
        subject: the model the masks belong to, loaded with `backend="nnsight"`, which keeps Hugging Face's names. The
            result can be applied to it on either backend.
        path: of a file written by `torch.save`.

    Raises:
        InputError: the file holds something else or lacks a matrix, or the subject has other names for its weights.
    """
    if subject.backend.kind != "nnsight":
        raise InputError(f"{subject.name!r} is on a bridge, which renames weights{subject.backend.alternative()}")
    try:
        released = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises many kinds of errors; none of the file's code has run
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{str(path)!r} holds more than tensors and is not unpickled; first save its masks as tensors with "
            f"torch.save, see the docstring. ({type(error).__name__}: {reason})"
        ) from error
    if not isinstance(released, Mapping):
        raise InputError(f"{str(path)!r} holds a {type(released).__name__}; give a dictionary of masks.")
    names = {id(weight): name for name, weight in subject.named_weights()}
    masks = {}
    for matrix in subject.weight_matrices():
        weight: Any = matrix.module.weight
        whole = released.get(names[id(weight)])
        if not isinstance(whole, Tensor) or whole.shape != weight.shape:
            shape = list(whole.shape) if isinstance(whole, Tensor) else "missing"
            raise InputError(f"the mask of {names[id(weight)]!r} is {shape}; give one of shape {list(weight.shape)}.")
        masks[matrix.name] = matrix.view(whole.bool()).reshape(matrix.shape).contiguous()
    note = {"made": "released", "file": Path(path).name, "orig_model_name": str(released.get("orig_model_name", ""))}
    return Subnetwork(masks, subject.name, None, note)
