"""A model with a cloud that is known, planted in its embedding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import interp


@pytest.fixture
def with_embedding(small_model) -> Callable[[np.ndarray], interp.Subject]:
    """`with_embedding(points)`: a model whose embedding, tied to its unembedding, is a cloud [V, d]."""

    def build(points: np.ndarray) -> interp.Subject:
        vocab, width = points.shape
        model = small_model("gpt2", vocab_size=vocab, n_embd=width, n_head=1, n_layer=1)
        with torch.no_grad():
            model.transformer.wte.weight.copy_(torch.from_numpy(points))
        return interp.load(model)

    return build
