"""Prepare what `steer` steers with, neurons or a direction: its identity, layers and doses, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from interp.authoring import InputError, Run, Subject, TooLong, require_two_tokens, say_cost
from probes.neurons.steering._controls import OF_NEURONS, Conditions, Control, conditions, need_moments
from probes.neurons.steering._direction_controls import check_controls, controls_of, direction_conditions
from probes.neurons.steering._doses import AlphaUnit, Mode, Positions, moments
from probes.neurons.steering._pushes import coordinates
from probes.neurons.steering.direction import Direction
from probes.neurons.steering.neuron_set import NeuronSet

Steered: TypeAlias = NeuronSet | Direction


def identity(chosen: Steered) -> dict[str, Any]:
    """Return what identifies neurons or a direction in a run."""
    held_out = None if chosen.words is None else chosen.words.held_out
    if isinstance(chosen, Direction):
        return {"direction": chosen.digest, "at": list(chosen.by_layer), "held_out": held_out}
    return {"neurons": {layer: of.tolist() for layer, of in chosen.by_layer.items()}, "held_out": held_out}


def controls_for(chosen: Steered, controls: Sequence[Control] | None) -> Sequence[Control]:
    """Return the controls asked for, or all that fit.

    Raises:
        InputError: a direction does not have a control.
    """
    if not isinstance(chosen, Direction):
        return OF_NEURONS if controls is None else controls
    if controls is None:
        return controls_of(chosen)
    check_controls(chosen, controls)
    return controls


def check_steered(run: Run, chosen: Steered, positions: str, generate: int) -> None:
    """Refuse what cannot be steered or measured.

    Raises:
        InputError: no words are held out, a text has one token, or an argument does not fit the others.
        ModelError: a direction is of another model.
        TooLong: a prompt leaves no room to generate.
    """
    if generate < 0:
        raise InputError(f"generate={generate}: give 0 or more tokens.")
    if positions == "generated" and not generate:
        raise InputError("positions='generated' edits no prompt; pass generate= too.")
    if chosen.words is None:
        raise InputError(f"no words measure the direction {chosen.concept!r}; name some with words= where it is made.")
    if not len(chosen.words.held_out_ids):
        raise InputError(
            f"no words of {chosen.concept!r} are held out, and measuring on those that chose the neurons would be "
            "circular; choose with held_out above 0."
        )
    require_two_tokens(run.tokens)  # position 0 is left out
    for number, ids in zip(run.tokens.table["prompt_id"], run.tokens.ids, strict=True):
        if generate and len(ids) == run.subject.n_ctx:
            raise TooLong(f"prompt {number} fills the context of {len(ids)} tokens; shorten it, or leave generate=0.")
    chosen.check(run.subject)
    if isinstance(chosen, Direction):
        chosen.require_steerable()
    else:
        NeuronSet.of(run.subject, {layer: of.tolist() for layer, of in chosen.by_layer.items()}, chosen.words)


def say_cost_of(
    run: Run, chosen: Steered, n_alphas: int, controls: Sequence[Control], n_layers: int, positions: Positions
) -> None:
    """Say what the replays will cost; each runs the blocks behind the first edited one."""
    n_doses = n_alphas * (1 + len(set(controls) - {"mean"})) + ("mean" in controls)
    behind = 1 - min(chosen.by_layer, default=0) / run.subject.n_layers
    n_read = len(run.tokens) if positions == "last" else sum(len(ids) - 1 for ids in run.tokens.ids)
    passes = 1 + bool({"mean", "norm_matched"}.intersection(controls)) + n_doses * behind
    say_cost(run, passes=passes, unembedded=(1 + n_doses) * n_layers * n_read)


def conditions_of(
    run: Run,
    chosen: Steered,
    alphas: Sequence[float],
    controls: Sequence[Control],
    *,
    mode: Mode,
    alpha_unit: AlphaUnit,
    seed: int,
) -> Conditions:
    """Make the doses of the measurement and of its controls, after the pass over the texts that some of them need."""
    needed = need_moments(controls, alpha_unit)
    settings: Mapping[str, Any] = {"mode": mode, "alpha_unit": alpha_unit, "seed": seed}
    if isinstance(chosen, Direction):
        at = coordinates(run.subject, run.tokens, chosen.by_layer, seed) if needed else {}
        return direction_conditions(chosen, alphas, controls, at, **settings)
    known = moments(run.subject, run.tokens, list(chosen.by_layer)) if needed else {}
    return conditions(run.subject, chosen.by_layer, alphas, controls, known, **settings)


def recorded(run: Run, chosen: Steered) -> float:
    """Return how many residuals' worth of numbers the clean pass keeps of neurons, for each token."""
    per_block = 0.0 if isinstance(chosen, Direction) else 1 + run.subject.d_mlp / run.subject.d_model
    return len(chosen.by_layer) * per_block


def layers_to_read(subject: Subject, chosen: Steered, through: str) -> list[int]:
    """Return the output alone, or all layers from the first edited one on."""
    if through != "lens":
        return [subject.n_layers]
    if isinstance(chosen, Direction):
        return list(range(min(chosen.by_layer), subject.n_layers + 1))
    return list(range(min(chosen.by_layer, default=subject.n_layers - 1) + 1, subject.n_layers + 1))


def layer_group(subject: Subject, chosen: Steered) -> str:
    """Return which half of the blocks is edited: early, late, full or none. Layer l leaves block l - 1."""
    earlier = 1 if isinstance(chosen, Direction) else 0
    late = {layer - earlier >= subject.n_layers / 2 for layer in chosen.by_layer}
    return {(): "none", (False,): "early", (True,): "late"}.get(tuple(late), "full")
