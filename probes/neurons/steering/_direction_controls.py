"""The controls of steering along a direction: the same change at every token, along another vector as long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from interp.authoring import InputError
from probes.neurons.steering._controls import Conditions, Control, random_direction
from probes.neurons.steering._doses import AlphaUnit, Mode
from probes.neurons.steering._pushes import Coordinates, Push
from probes.neurons.steering.direction import Direction

OF_DIRECTIONS: tuple[Control, ...] = ("shuffled", "norm_matched", "random_direction", "sign_flip", "mean")


def controls_of(direction: Direction) -> tuple[Control, ...]:
    """Return all controls that a direction has."""
    return tuple(one for one in OF_DIRECTIONS if one != "shuffled" or direction.shuffled)


def check_controls(direction: Direction, controls: Sequence[Control]) -> None:
    """Refuse controls that are of neurons, and "shuffled" where no groups were contrasted.

    Raises:
        InputError: the direction does not have a control.
    """
    for control in controls:
        if control not in OF_DIRECTIONS:
            raise InputError(f"the control {control!r} is of neurons; for a Direction choose from {OF_DIRECTIONS}.")
        if control == "shuffled" and not direction.shuffled:
            raise InputError(
                f"the direction {direction.concept!r} has no shuffled groups; make it with contrast_direction from two "
                "or more on each side, or leave the control out."
            )


def direction_conditions(
    direction: Direction,
    alphas: Sequence[float],
    controls: Sequence[Control],
    known: Mapping[int, Coordinates],
    *,
    mode: Mode,
    alpha_unit: AlphaUnit,
    seed: int,
) -> Conditions:
    """Make a push per alpha for the measurement and for each control; see `probes.neurons.steering._controls`."""
    all_pushes: list[Push] = []

    def numbers(new: Sequence[Push]) -> list[int]:
        all_pushes.extend(new)
        return list(range(len(all_pushes) - len(new), len(all_pushes)))

    sd = {layer: of.sd for layer, of in known.items()} if alpha_unit == "sd" else None

    def pushes(sign: float = 1.0, along: Mapping[int, Tensor] | None = None) -> list[Push]:
        return pushes_of(direction, [sign * alpha for alpha in alphas], mode=mode, sd=sd, along=along)

    found = {"none": numbers(pushes())}
    for control in dict.fromkeys(controls):
        if control == "sign_flip":
            # A dose of zero is the same with either sign.
            flipped = zip(alphas, found["none"], pushes(-1.0), strict=True)
            found[control] = [same if alpha == 0 else numbers([push])[0] for alpha, same, push in flipped]
        elif control == "mean":
            at_mean = {layer: known[layer].mean for layer in direction.by_layer}
            found[control] = numbers([Push(direction.by_layer, 0.0, at_mean)]) * len(alphas)
        else:
            found[control] = numbers(pushes(along=_instead(direction, control, known, seed)))
    return Conditions(all_pushes, found)


def pushes_of(
    direction: Direction,
    alphas: Sequence[float],
    *,
    mode: Mode,
    sd: Mapping[int, float] | None = None,
    along: Mapping[int, Tensor] | None = None,
) -> list[Push]:
    """Make one push per alpha; `sd` of the coordinate at each layer, for alphas in standard deviations."""
    made = []
    for alpha in alphas:
        put = {
            layer: 0.0 if mode == "scale" else float(alpha) * (1.0 if sd is None else sd[layer])
            for layer in direction.by_layer
        }
        made.append(Push(direction.by_layer, {"override": 0.0, "add": 1.0, "scale": float(alpha)}[mode], put, along))
    return made


def _instead(direction: Direction, control: Control, known: Mapping[int, Coordinates], seed: int) -> dict[int, Tensor]:
    """Return the vectors of a control, with the lengths of the direction's."""
    found = {}
    for layer, vector in direction.by_layer.items():
        if control == "shuffled":
            other = direction.shuffled[layer]
        elif control == "norm_matched":
            other = known[layer].difference
        else:
            other = random_direction(len(vector), seed, layer)
        found[layer] = torch.nn.functional.normalize(other, dim=0) * vector.norm()
    return found
