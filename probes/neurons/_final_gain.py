"""Measure the gain of a model's final norm, however the architecture stores it."""

from __future__ import annotations

import torch
from torch import Tensor

from interp.authoring import Subject
from interp.model.tape import Tape


def final_gain(subject: Subject) -> tuple[Tensor, bool]:
    """Return the gain of the final norm, float32 [d_model], and whether the norm first subtracts the mean over d_model.

    The gain is measured on inputs, because architectures store different things: a gain, a gain minus one, or none.
    """
    # A power of two, so that halving and doubling do not round; its square makes the norm's epsilon negligible.
    level = torch.full((subject.d_model,), 1024.0)
    signs = level.clone()
    signs[1::2] *= -1
    given = torch.stack([level, signs, 2 * signs])

    def program(tape: Tape) -> Tensor:
        at = given.to(tape.last)
        return (tape.head.norm(at[None]) - tape.head.norm(-at[None]))[0].float().cpu() / 2  # without a bias

    of_level, of_signs, of_double = subject.run(torch.zeros(1, 1, dtype=torch.long), program)
    if of_double.norm() > 1.5 * of_signs.norm():  # no norm: twice the input gives twice the output
        return (of_signs / signs).to(subject.device), False
    centred = bool(of_level.norm() < 1e-2 * of_signs.norm())
    scaled = signs - signs.mean() if centred else signs
    return (of_signs / (scaled / scaled.square().mean().sqrt())).to(subject.device), centred
