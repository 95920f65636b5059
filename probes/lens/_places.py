"""The residuals that the logit lens and top tokens read: choose them, read them, and name them in columns."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from interp.authoring import Batch, Column, InputError, Layers, Run, Subject, layers_of, say_cost
from interp.data import tensor_file
from interp.model.readout import Readout
from interp.model.tape import Tape
from probes.lens._jacobian import FORMAT, JacobianLens, load_jacobian_lens
from probes.lens._maps import TunedLens, load_tuned_lens

STATES = 2  # held per layer: the recorded residual, and the rows selected from it

SUBLAYER = Column(
    "sublayer", "str", "'pre': enters block `layer`; 'mid': between its attention and MLP; 'final': leaves the last"
)
AT = ("model", "run_id", "prompt_id", "pos", "token_id", "token", "layer", SUBLAYER)

Place: TypeAlias = tuple[int, str, str]
"""A residual to read: its layer, its sublayer, and the lens to read it through."""


Lens: TypeAlias = TunedLens | JacobianLens
"""A map of a layer's residual to an estimate of the last one; its `kind` is the frame's column `lens`."""


def lenses_of(given: Lens | str | Sequence[Lens | str] | None) -> list[Lens]:
    """Return the lenses that are meant by lenses, files' names and names of shipped tuned lenses.

    Raises:
        InputError: one cannot be read, or two are of one kind.
    """
    several = (
        [] if given is None else list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    )
    found = [_read(one) if isinstance(one, str) else one for one in several]
    kinds = [one.kind for one in found]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    if twice:
        raise InputError(
            f"lens= holds {kinds.count(twice[0])} {twice[0]} lenses, whose rows could not be told apart; give one."
        )
    return found


def _read(path: str) -> Lens:
    ours = path.endswith(".safetensors") and tensor_file.format_of(path) == FORMAT
    return load_jacobian_lens(path) if ours or path.endswith(".pt") else load_tuned_lens(path)


def translated_places(lenses: Sequence[Lens], layers: Layers, subject: Subject) -> list[Place]:
    """Return the places to read through lenses, always with the control: layer 0, where a lens has it.

    Raises:
        InputError: a layer was named that a lens does not have.
    """
    places: list[Place] = []
    wanted = layers_of(layers, subject.n_layers, subject.name)
    for lens in lenses:
        known = {*lens.layers, subject.n_layers}
        lost = [layer for layer in wanted if layer and layer not in known]
        if lost and layers is not None and layers != "all":
            raise InputError(f"layers {lost} are not in this {lens.kind} lens: it has layers {sorted(known)}.")
        chosen = sorted({0, *wanted} & known)
        places += [(layer, sublayer_of(layer, subject), lens.kind) for layer in chosen]
    return places


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
    lenses: Sequence[Lens] = (),
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
        lenses: those that places are read through.
        wanted: see `Subject.reader`.

    Returns:
        Statistics [places, n, ...].
    """
    read = subject.reader(final_norm=final_norm, **wanted)
    through = {lens.kind: lens for lens in lenses}

    def program(tape: Tape) -> Readout:
        at = row.to(tape.last.device), pos.to(tape.last.device)
        final = tape.last[at]
        states = []
        for layer, where, kind in places:
            state = final if where == "final" else (tape.mids[layer] if where == "mid" else tape.residual(layer))[at]
            at_end = kind == "logit" or where == "final"
            states.append(state if at_end else through[kind].translate(state, layer))
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


def say_cost_of(run: Run, places: Sequence[Place], asked: Sized | None) -> None:
    """Say what reading these places at the chosen positions, or at all, costs."""
    n_read = sum(map(len, run.tokens.ids)) if asked is None else len(asked)
    say_cost(run, passes=1, unembedded=len(places) * n_read)
