"""One vector per token: its row of the embedding, its column of the unembedding, or its residual at a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from interp.authoring import Layers, Subject, layers_of, options, start_of_text
from interp.model.tape import Tape
from interp.model.weights import require_one_vocabulary

Where: TypeAlias = Literal["embedding", "unembedding"]


def layers_to_read(subject: Subject, layers: Layers) -> list[int]:
    """Return the layers to read; [-1] for weights."""
    if layers is None:
        return [-1]
    return layers_of(layers, subject.n_layers, subject.name)


def token_vectors(subject: Subject, ids: np.ndarray, where: Where, layers: list[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield each layer with the words' vectors there, float32 [n, d_model]."""
    if layers == [-1]:
        if where == "embedding":
            require_one_vocabulary(subject, "where='embedding'")
        weights = subject.W_E if where == "embedding" else subject.W_U.T
        yield -1, weights[torch.from_numpy(ids).to(weights.device)].float()
        return
    # As many layers per pass over the vocabulary as half the memory budget holds.
    per_pass = max(1, options.available // 2 // (4 * len(ids) * subject.d_model))
    for start in range(0, len(layers), per_pass):
        together = layers[start : start + per_pass]
        for layer, matrix in zip(together, single_token_residuals(subject, ids, together), strict=True):
            yield layer, matrix.to(subject.device)


def single_token_residuals(subject: Subject, ids: np.ndarray, layers: Sequence[int]) -> Tensor:
    """Return the residual of each token alone after the start of a text, float32 [layer, n, d_model].

    The start is what the tokenizer begins texts with, else its start-of-text token; a model with neither reads the
    token alone. The result is on the CPU.
    """
    start = start_of_text(subject.tokenizer)
    tokens = torch.from_numpy(ids)[:, None]
    prompts = torch.cat([torch.tensor(start, dtype=torch.long).expand(len(ids), -1), tokens], dim=1)
    found = torch.empty(len(layers), len(ids), subject.d_model)

    def program(tape: Tape) -> Tensor:
        return torch.stack([tape.residual(layer)[:, -1] for layer in layers])

    size = max(1, subject.batch_tokens() // prompts.shape[1])
    for first in range(0, len(ids), size):
        found[:, first : first + size] = subject.run(prompts[first : first + size], program).float().cpu()
    return found
