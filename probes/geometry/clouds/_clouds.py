"""The clouds of a model: rows of its embedding or unembedding, and residuals; and what each is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError, Layers, Run, Subject, content_order, layers_of, select_positions
from interp.model.tape import Tape
from interp.stats.clouds import matched_gaussian, permuted_columns, random_directions

Where: TypeAlias = Literal["embedding", "unembedding"]

Control: TypeAlias = Literal["gaussian", "columns", "directions"]
"""The stand-in for a cloud. "gaussian": Gaussian points of its mean and covariance. "columns": every coordinate
permuted by itself. "directions": random directions at the points' own distances from 0."""

DRAWN: Mapping[Control, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "gaussian": matched_gaussian,
    "columns": permuted_columns,
    "directions": random_directions,
}


def weight_rows(subject: Subject, where: Where) -> np.ndarray:
    """Return a vector for each token, [V, d_model], float32 or, of a model in float64, float64."""
    weights = subject.W_E if where == "embedding" else subject.W_U.T
    kept = weights.detach().cpu()
    rows: np.ndarray = (kept if kept.dtype == torch.float64 else kept.float()).contiguous().numpy()
    return rows


def layers_read(subject: Subject, layers: Layers) -> list[int]:
    """Return the layers of the residual stream to read, ascending.

    Raises:
        InputError: there is no such layer.
    """
    return layers_of(layers, subject.n_layers, subject.name)


def controlled(points: np.ndarray, control: Control, *key: int) -> np.ndarray:
    """Draw what stands in for a cloud [n, d]; equal keys (a seed, and numbers of the cloud) draw the same."""
    return DRAWN[control](points, np.random.default_rng([*key, list(DRAWN).index(control)]))


def drawn_residuals(run: Run, layers: Sequence[int], n_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the residuals of tokens drawn from all prompts, without position 0, by layer.

    Which tokens are drawn hangs on the contents of the prompts and the seed, and not on the order of prompts.

    Returns:
        States [layer, n, d_model], and the prompt of each, int64 [n], in the order of contents.

    Raises:
        InputError: fewer than three tokens are there.
    """
    seed = run.seed or 0
    by_content = content_order(run.tokens.ids, seed)
    lengths = np.array([len(ids) - 1 for ids in run.tokens.ids])[by_content]
    total = int(lengths.sum())
    if total < 3:
        raise InputError(f"the texts have {total} tokens after the first of each; give at least 3.")
    drawn = np.sort(np.random.default_rng(seed).permutation(total)[:n_points])
    starts = np.empty_like(lengths)
    starts[by_content] = np.cumsum(lengths) - lengths
    slot = np.full(total, -1)
    slot[drawn] = np.arange(len(drawn))
    double = run.subject.dtype == torch.float64
    states = np.empty((len(layers), len(drawn), run.subject.d_model), np.float64 if double else np.float32)
    for batch in run.batches():
        row, pos = select_positions(batch, None)
        row, pos = row[pos > 0], pos[pos > 0]
        own = slot[starts[batch.prompts[row].numpy()] + pos.numpy() - 1]
        kept = torch.from_numpy(own >= 0)
        found = run.subject.run(batch.ids, partial(_states, at=(row[kept], pos[kept]), layers=layers))
        states[:, own[own >= 0]] = found.numpy()
    return states, np.repeat(by_content, lengths)[drawn]


def _states(tape: Tape, at: tuple[Tensor, Tensor], layers: Sequence[int]) -> Tensor:
    row, pos = (one.to(tape.last.device) for one in at)
    found = torch.stack([tape.residual(layer)[row, pos] for layer in layers]).cpu()
    return found if found.dtype == torch.float64 else found.float()
