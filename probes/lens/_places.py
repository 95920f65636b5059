"""The residuals that the logit lens and top tokens read: choose them, read them, and name them in columns."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from interp.authoring import Batch, Column, Layers, Subject, layers_of
from interp.model.readout import Readout
from interp.model.tape import Tape
from probes.lens._maps import TunedLens

STATES = 2  # held per layer: the recorded residual, and the rows selected from it

SUBLAYER = Column(
    "sublayer", "str", "'pre': enters block `layer`; 'mid': between its attention and MLP; 'final': leaves the last"
)
AT = ("model", "run_id", "prompt_id", "pos", "token_id", "token", "layer", SUBLAYER)

Place: TypeAlias = tuple[int, str, str]
"""A residual to read: its layer, its sublayer, and the lens to read it through."""


def places_of(subject: Subject, layers: Layers, sublayers: bool) -> list[Place]:
    """Return the residuals to read at `layers`, in order.

    Raises:
        InputError: there is no such layer.
    """
    places = []
    for layer in layers_of(layers, subject.n_layers, subject.name):
        places.append((layer, sublayer_of(layer, subject), "logit"))
        if sublayers and layer < subject.n_layers:
            places.append((layer, "mid", "logit"))
    return places


def sublayer_of(layer: int, subject: Subject) -> str:
    """Return "final" for layer L, whose residual leaves the last block, and "pre" for layers that enter a block."""
    return "final" if layer == subject.n_layers else "pre"


def read_places(
    subject: Subject,
    batch: Batch,
    row: Tensor,
    pos: Tensor,
    places: list[Place],
    *,
    final_norm: bool,
    lens: TunedLens | None = None,
    **wanted: Any,
) -> Readout:
    """Read residuals at (row, pos) [n] of a batch through the model's own head.

    Args:
        subject: the model.
        batch: the prompts to run it on.
        row: the prompt of each residual in the batch.
        pos: the position of each residual in its prompt.
        places: the residuals to read, each with its lens.
        final_norm: see `Subject.reader`.
        lens: the tuned lens, if a place is read through one.
        wanted: see `Subject.reader`.

    Returns:
        Statistics [places, n, ...].
    """
    read = subject.reader(final_norm=final_norm, **wanted)

    def program(tape: Tape) -> Readout:
        at = row.to(tape.last.device), pos.to(tape.last.device)
        final = tape.last[at]
        states = []
        for layer, where, kind in places:
            state = final if where == "final" else (tape.mids[layer] if where == "mid" else tape.residual(layer))[at]
            states.append(state if kind == "logit" or lens is None else lens.translate(state, layer))
        return read(tape, states, final)

    return subject.run(batch.ids, program, mids=any(where == "mid" for _, where, _ in places))


def place_columns(places: list[Place]) -> dict[str, np.ndarray]:
    """Return the columns that say which residual each number is read from."""
    layer, sublayer, lens = zip(*places, strict=True)
    return {
        "layer": np.array(layer),
        "sublayer": np.array(sublayer, dtype=object),
        "lens": np.array(lens, dtype=object),
    }
