"""Texts for a tiny model, and the states of its residual stream."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import interp


@pytest.fixture(scope="session")
def texts() -> Callable[..., Tensor]:
    """`texts(n=60, length=30)`: random token ids."""

    def draw(n: int = 60, length: int = 30) -> Tensor:
        return torch.randint(3, 61, (n, length), generator=torch.Generator().manual_seed(5))

    return draw


@pytest.fixture(scope="module")
def subject(small_subject) -> interp.Subject:
    return small_subject("gpt2", "bridge")


@pytest.fixture(scope="session")
def residuals() -> Callable[[interp.Subject, Tensor], list[Tensor]]:
    """`residuals(subject, ids)`: states [prompt, pos, d_model] of layers 0..L, float64."""

    def read(subject: interp.Subject, ids: Tensor) -> list[Tensor]:
        layers = range(subject.n_layers + 1)
        states = subject.run(ids, lambda tape: torch.stack([tape.residual(layer) for layer in layers]))
        return list(states.double())

    return read
