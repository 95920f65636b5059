"""Record the states of a bank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError, Layers, Subject, Tokens, in_batches, layers_of, options
from interp.model.tape import Tape
from probes.contexts._occurrences import Occurrences

BankDtype = Literal["float16", "float32"]
_PUBLISHED = (1, 2, 4, 8, 16, 24)  # beside the last two layers, of the authors' default

_DTYPES = {"float16": torch.float16, "float32": torch.float32}


def layers_kept(subject: Subject, layers: Layers) -> list[int]:
    """Return the layers to keep: those given, or None for the authors' that there are.

    Raises:
        InputError: there is no such layer.
    """
    last = subject.n_layers
    if layers is None:
        return sorted({layer for layer in (*_PUBLISHED, last - 2, last - 1) if 0 < layer < last} or {last})
    return layers_of(layers, last, subject.name)


def require_memory(n_bytes: int) -> None:
    """Refuse states that take more than the available memory.

    Raises:
        InputError: they do.
    """
    if n_bytes > options.available:
        raise InputError(
            f"the states would take {n_bytes / 2**30:.2f} GiB, and interp.options.memory leaves "
            f"{options.available / 2**30:.2f} GiB; raise it, or give fewer layers, texts or max_per_token."
        )


def record(
    subject: Subject, tokens: Tokens, places: Occurrences, layers: Sequence[int], dtype: BankDtype
) -> tuple[Tensor, Tensor]:
    """Return directions [layers, n, d], in this dtype, and lengths, float32 [layers, n], of the states at `places`.

    Raises:
        InputError: they take too much memory.
    """
    shape, kind = (len(layers), len(places), subject.d_model), _DTYPES[dtype]
    require_memory(math.prod(shape) * kind.itemsize)
    units, norms = torch.empty(shape, dtype=kind), torch.empty(shape[:2])
    with options.reserving(units.nbytes + norms.nbytes):
        _fill(subject, tokens, places, layers, units, norms)
    return units, norms


def _fill(
    subject: Subject, tokens: Tokens, places: Occurrences, layers: Sequence[int], units: Tensor, norms: Tensor
) -> None:
    starts = np.searchsorted(places.text, np.arange(len(tokens) + 1))
    without = np.flatnonzero(np.diff(starts) == 0).tolist()
    for batch in in_batches(tokens, subject.batch_tokens(1), "StateBank", skip=set(without)):
        slices = [slice(starts[index], starts[index + 1]) for index in batch.prompts.tolist()]
        row = torch.repeat_interleave(torch.arange(len(slices)), torch.tensor([one.stop - one.start for one in slices]))
        index = torch.from_numpy(np.concatenate([np.arange(one.start, one.stop) for one in slices]))
        pos = torch.from_numpy(places.pos[index.numpy()])

        def program(tape: Tape, row: Tensor = row, pos: Tensor = pos) -> tuple[Tensor, Tensor]:
            at = row.to(tape.last.device), pos.to(tape.last.device)
            lengths, directions = [], []
            for layer in layers:
                state = tape.residual(layer)[at].float()
                length = state.norm(dim=1)
                lengths.append(length.cpu())
                directions.append((state / length.clamp(min=1e-30)[:, None]).to("cpu", units.dtype))
            return torch.stack(directions), torch.stack(lengths)

        units[:, index], norms[:, index] = subject.run(batch.ids, program)


def mean_of(units: Tensor, norms: Tensor) -> Tensor:
    """Return the mean state, float32 [d]."""
    total = torch.zeros(units.shape[1], dtype=torch.float64)
    for part, own in zip(torch.split(units, 4096), torch.split(norms, 4096), strict=True):
        total += own.double() @ part.double()
    return (total / len(norms)).float()
