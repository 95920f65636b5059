"""The gain of a model's final norm, whatever the architecture keeps of it."""

from __future__ import annotations

import torch
from torch import Tensor

from interp.authoring import Subject
from interp.model.tape import Tape


def final_gain(subject: Subject) -> tuple[Tensor, bool]:
    """The gain of the final norm, float32 [d_model], and whether it takes the mean over d_model off first.

    Read off what the norm does, for architectures keep different things: a gain, a gain less one, none, no norm at all.
    """
    # A power of two: halved and doubled without rounding; beside its square the norm's epsilon is nothing.
    level = torch.full((subject.d_model,), 1024.0)
    signs = level.clone()
    signs[1::2] *= -1
    given = torch.stack([level, signs, 2 * signs])

    def program(tape: Tape) -> Tensor:
        at = given.to(tape.last)
        return (tape.head.norm(at[None]) - tape.head.norm(-at[None]))[0].float().cpu() / 2  # without a bias

    of_level, of_signs, of_double = subject.run(torch.zeros(1, 1, dtype=torch.long), program)
    if of_double.norm() > 1.5 * of_signs.norm():  # no norm: what goes in twice as long comes out twice as long
        return (of_signs / signs).to(subject.device), False
    centred = bool(of_level.norm() < 1e-2 * of_signs.norm())
    scaled = signs - signs.mean() if centred else signs
    return (of_signs / (scaled / scaled.square().mean().sqrt())).to(subject.device), centred
