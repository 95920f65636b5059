"""Generate text under steering: every prompt under all doses and under none, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from interp.authoring import Subject, continuation
from probes.neurons.steering._doses import Dose, Positions, steered
from probes.neurons.steering._pushes import Push


def texts_under(
    subject: Subject,
    prompts: Sequence[Tensor],
    doses: Sequence[Dose] | Sequence[Push],
    concept: Tensor,
    *,
    positions: Positions,
    skip_bos: bool,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> dict[str, np.ndarray]:
    """Continue every prompt under every dose. All rows of a prompt draw from the same random numbers.

    Returns:
        `text`, `unsteered_text`, `concept_frequency`, `unsteered_frequency`, [prompts, doses] each: continuations, and
        the share of their tokens that are the concept's (0 for an empty one).
    """
    rows = [doses[0].nothing(), *doses]
    text = np.empty((len(prompts), len(rows)), dtype=object)
    frequency = np.zeros(text.shape)
    for index, prompt in enumerate(prompts):
        with steered(subject, rows, positions=positions, skip_bos=skip_bos, note={"steering": "steer"}):
            found = subject.continue_ids([prompt] * len(rows), max_new_tokens, temperature=temperature, seed=seed)
        text[index] = [continuation(subject.tokenizer, prompt, ids) for ids in found]
        added = [ids[len(prompt) :] for ids in found]
        frequency[index] = [torch.isin(ids, concept).float().mean().item() if len(ids) else 0.0 for ids in added]
    n_doses = len(doses)
    return {
        "text": text[:, 1:],
        "unsteered_text": np.repeat(text[:, :1], n_doses, axis=1),
        "concept_frequency": frequency[:, 1:],
        "unsteered_frequency": np.repeat(frequency[:, :1], n_doses, axis=1),
    }
