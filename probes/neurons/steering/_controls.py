"""The controls of a steering experiment: other interventions of the same size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from interp.authoring import InputError, Subject, UnknownName, warn
from probes.neurons.steering._doses import AlphaUnit, Dose, Mode, NeuronMoments, doses_of
from probes.neurons.steering._pushes import Push

Control: TypeAlias = Literal["random", "norm_matched", "sign_flip", "direction", "random_direction", "mean", "shuffled"]
"""What stands in for the neurons or the direction. For neurons, "random": as many random neurons in each block.
"norm_matched": neurons of similar value-vector norm and mean activation. "sign_flip": the neurons at minus alpha.
"direction": the mean of their value vectors, scaled to the norm of their effect; where one neuron is chosen in every
block, this would be the neurons themselves, and it is left out. "random_direction": the same along a random
direction of each block. "mean": the neurons at their own mean, which removes their information and has no alpha.

For a direction, the same change at every token along another vector as long: "shuffled": the contrast of random halves
of the same groups; "norm_matched": the difference of the states of two random tokens of the texts; "random_direction":
a random vector. "sign_flip": the direction at minus alpha. "mean": its coordinate at its own mean."""

OF_NEURONS: tuple[Control, ...] = ("random", "norm_matched", "sign_flip", "direction", "random_direction", "mean")

_NEAREST = 5  # a matched neuron is drawn from among so many nearest


class Conditions(NamedTuple):
    """The doses of a steering experiment, each once.

    Attributes:
        doses: all that are to be run: doses of neurons, or pushes along a direction.
        by_control: for the measurement ("none") and for each control, which of them stands at each alpha.
    """

    doses: list[Dose] | list[Push]
    by_control: dict[str, list[int]]


def need_moments(controls: Sequence[Control], alpha_unit: AlphaUnit) -> bool:
    """Check whether `conditions` needs the neurons' moments on the texts."""
    return alpha_unit == "sd" or not {"norm_matched", "mean"}.isdisjoint(controls)


def conditions(
    subject: Subject,
    by_layer: Mapping[int, Tensor],
    alphas: Sequence[float],
    controls: Sequence[Control],
    known: Mapping[int, NeuronMoments],
    *,
    mode: Mode,
    alpha_unit: AlphaUnit,
    seed: int,
) -> Conditions:
    """Make a dose per alpha for the measurement and for each control. A dose that two of them share is made once.

    Args:
        subject: the model.
        by_layer: the neurons, int64 [n] per block.
        alphas: see `probes.neurons.steering._doses.Mode`.
        controls: see `Control`.
        known: moments of the blocks' neurons if `need_moments`, else empty.
        mode: see `probes.neurons.steering._doses.Mode`.
        alpha_unit: see `probes.neurons.steering._doses.AlphaUnit`.
        seed: of the random neurons and directions.

    Raises:
        UnknownName: there is no such control.
        InputError: a block has too few other neurons to draw from.
    """
    for control in controls:
        if control not in OF_NEURONS:
            raise UnknownName("control", control, OF_NEURONS)

    def doses(neurons: Mapping[int, Tensor], sign: float = 1.0) -> list[Dose]:
        sd = {layer: known[layer].sd[of] for layer, of in neurons.items()} if alpha_unit == "sd" else None
        return doses_of(neurons, [sign * alpha for alpha in alphas], mode=mode, alpha_unit=alpha_unit, sd=sd)

    all_doses: list[Dose] = []

    def numbers(new: Sequence[Dose]) -> list[int]:
        all_doses.extend(new)
        return list(range(len(all_doses) - len(new), len(all_doses)))

    own = doses(by_layer)
    found = {"none": numbers(own)}
    for control in dict.fromkeys(controls):
        if control in ("random", "norm_matched"):
            others = other_neurons(subject, by_layer, known, seed, matched=control == "norm_matched")
            found[control] = numbers(doses(others))
        elif control == "sign_flip":
            # A dose of zero is the same with either sign.
            flipped = zip(alphas, found["none"], doses(by_layer, -1.0), strict=True)
            found[control] = [same if alpha == 0 else numbers([dose])[0] for alpha, same, dose in flipped]
        elif control == "direction":
            alone = [layer for layer, of in by_layer.items() if len(of) == 1]
            if alone:
                warn(
                    f"the control 'direction' is the neuron itself in blocks {', '.join(map(str, alone))}, where one "
                    f"is chosen{', and is left out' if len(alone) == len(by_layer) else ''}: compare with "
                    "'random_direction', or choose neurons in fewer blocks."
                )
            if len(alone) < len(by_layer) or not by_layer:
                found[control] = numbers([replace(dose, along=True) for dose in own])
        elif control == "random_direction":
            instead = {layer: random_direction(subject.d_model, seed, layer) for layer in by_layer}
            found[control] = numbers([replace(dose, along=True, instead=instead) for dose in own])
        else:
            at_mean = {layer: known[layer].mean[of] for layer, of in by_layer.items()}
            nothing = {layer: torch.zeros(len(of)) for layer, of in by_layer.items()}
            found[control] = numbers([Dose(by_layer, nothing, at_mean)]) * len(alphas)
    return Conditions(all_doses, found)


def random_direction(d_model: int, seed: int, layer: int) -> Tensor:
    """Draw a unit vector for a block, [d_model]."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + layer)
    return torch.nn.functional.normalize(torch.randn(d_model, generator=generator), dim=0)


def other_neurons(
    subject: Subject, by_layer: Mapping[int, Tensor], known: Mapping[int, NeuronMoments], seed: int, *, matched: bool
) -> dict[int, Tensor]:
    """Draw as many neurons in each block that were not chosen: at random or matched, int64 [n] per block.

    Matched neurons are near the chosen ones in rank of value-vector norm and of mean activation within the block.
    """
    others = {}
    for layer, chosen in by_layer.items():
        generator = torch.Generator().manual_seed(seed * 1_000_003 + layer)
        free = torch.ones(subject.d_mlp, dtype=torch.bool)
        free[chosen] = False
        if int(free.sum()) < len(chosen):
            raise InputError(
                f"{len(chosen)} of the {subject.d_mlp} neurons of block {layer} are chosen; too few are left to "
                "compare with. Choose fewer, or leave out the controls 'random' and 'norm_matched'."
            )
        if not matched:
            left = free.nonzero()[:, 0]
            others[layer] = left[torch.randperm(len(left), generator=generator)[: len(chosen)]]
            continue
        norms = subject.value_vectors(layer).float().norm(dim=1).cpu()
        ranks = torch.stack([norms.argsort().argsort(), known[layer].mean.argsort().argsort()], dim=1).double()
        picked = []
        for neuron in chosen.tolist():
            distance = (ranks - ranks[neuron]).square().sum(dim=1).where(free, torch.inf)
            nearest = distance.topk(min(_NEAREST, int(free.sum())), largest=False).indices
            picked.append(int(nearest[torch.randint(len(nearest), (1,), generator=generator)]))
            free[picked[-1]] = False
        others[layer] = torch.tensor(picked)
    return others
