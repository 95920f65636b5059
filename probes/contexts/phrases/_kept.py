"""Run a prompt with all of a phrase's states replaced but some, from every layer, in one growing batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from interp.authoring import Subject, options
from interp.model.schedules import Plan, Root
from interp.model.tape import Tape
from probes.contexts.phrases._prompts import Prompt

Kept: TypeAlias = Literal["one", "others", "none"]

OTHER = "other"
"""The control: states of the same places with another phrase are kept."""


@dataclass(frozen=True)
class Variant:
    """A run in which states of a phrase are kept, and all others of it are the filler's.

    Attributes:
        layer: of the states, 0..L.
        kept: "one" state, all "others", or "none".
        place: in the phrase, of that one; -1 for none.
        control: "none", or `OTHER`.
    """

    layer: int
    kept: Kept
    place: int
    control: str

    def keeps(self, n: int) -> Tensor:
        """Return which of n states are kept, bool [n]."""
        one = torch.arange(n) == self.place
        return ~one if self.kept == "others" else one


def variants(n: int, layers: Sequence[int], *, other: bool) -> list[Variant]:
    """List all variants of a phrase of n tokens: at each layer none kept, then one and all others of each."""
    kinds: tuple[Kept, ...] = ("one", "others") if n > 1 else ("one",)
    return [
        variant
        for layer in layers
        for variant in (
            Variant(layer, "none", -1, "none"),
            *(
                Variant(layer, kept, place, control)
                for control in (("none", OTHER) if other else ("none",))
                for kept in kinds
                for place in range(n)
            ),
        )
    ]


def log_probs(subject: Subject, prompt: Prompt, replacing: Sequence[Tensor], chosen: Sequence[Variant]) -> np.ndarray:
    """Return the target's log-probability in each variant, and in the prompt itself last, float64 [variant + 1].

    Args:
        subject: the model.
        prompt: the phrase in its context.
        replacing: the filler, and the other phrase where a variant keeps its states.
        chosen: the variants.
    """
    layers = list(dict.fromkeys(variant.layer for variant in chosen))
    inside = slice(prompt.first, prompt.stop)

    def states(tape: Tape) -> Tensor:
        return torch.stack([tape.residual(layer)[:, inside] for layer in layers])

    # Nothing behind the phrase can change its states.
    replaced = subject.run(torch.stack([prompt.up_to(phrase) for phrase in replacing]), states)
    read = subject.reader(entropy=False, kl=False, targets=torch.full((len(chosen) + 1, 1), prompt.target))
    last, width = subject.n_layers, len(prompt.ids)
    at_once = subject.block_tokens(width)
    runs = [((variant.layer, at), tuple(range(variant.layer, last))) for at, variant in enumerate(chosen)]
    size = width * subject.d_model * torch.finfo(subject.dtype).bits // 8
    group = max(1, options.available // 4 // size)
    places = [layers.index(variant.layer) for variant in chosen]
    keeps = [variant.keeps(prompt.stop - prompt.first) for variant in chosen]
    own = [variant.control == "none" for variant in chosen]

    def program(tape: Tape) -> Tensor:
        def start(at: int) -> Tensor:
            state = tape.residual(layers[places[at]]).clone()
            filler, *other = replaced[places[at]].to(state)
            kept = state[0, inside] if own[at] else other[0]
            state[0, inside] = torch.where(keeps[at].to(state.device)[:, None], kept, filler)
            return state

        ends: list[Tensor] = []
        for first in range(0, len(runs), group):
            some = runs[first : first + group]
            starts: dict[Root, partial[Tensor]] = {root: partial(start, root[1]) for root, _ in some}
            plan = Plan(tuple(some))
            ends += tape.execute(plan, starts, keep=lambda state: state[:, -1].clone(), tokens_at_once=at_once)
        rows = torch.cat([*ends, tape.last[:, -1]])
        return read(tape, [rows], rows).log_prob[0, :, 0].cpu()

    found: np.ndarray = subject.run(prompt.ids[None], program).double().numpy()
    return found
