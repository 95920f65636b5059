"""The paper's probe, a network with two hidden layers, for many letters and controls at once.

The networks of all letters and controls share one tensor per weight, [probe, in, out], and are trained together: one
`bmm` replaces a matrix product for each network. Each still sees its own examples in its own order, with the batches
and the number of steps it would have if trained alone, and the same random numbers whatever is trained beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, selu

_TEST_ROWS = 512  # test rows of each probe at once
_COPIES = 4  # tensors as large as the weights: weights, gradients, and Adam's two moments


@dataclass(frozen=True)
class Training:
    """Settings of a network's training; defaults are the paper's, which sets the learning rate per model, 1e-4 to 1e-3.

    Attributes:
        epochs: passes over the examples, in the same order each time.
        lr: of Adam.
        batch: examples per step; the last step of an epoch takes the rest.
        dropout: share of the second hidden layer that is dropped, the same for all probes at a step.
    """

    epochs: int = 5
    lr: float = 3e-4
    batch: int = 64
    dropout: float = 0.1


@dataclass(frozen=True)
class Examples:
    """Rows of a table of features, each multiplied by a factor.

    Attributes:
        rows: int64 [n].
        scale: float32 [n].
    """

    rows: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class MLPFit:
    """The training and test examples of one network.

    Attributes:
        train: examples [n_train], n_train > 0.
        labels: bool [n_train].
        test: examples [n_test].
        draw: seed of its initial weights.
    """

    train: Examples
    labels: np.ndarray
    test: Examples
    draw: int


def n_steps_of(n_train: int, training: Training) -> int:
    """Count the steps of a network with `n_train` examples."""
    return training.epochs * ceil(n_train / training.batch)


def fit_mlps(
    table: Tensor,
    fits: Sequence[MLPFit],
    training: Training,
    *,
    memory: int,
    seed: int,
    advance: Callable[[int], object],
) -> list[np.ndarray]:
    """Train one network per fit and return its logits on the test examples, float32 [n_test] each.

    Args:
        table: features, float32 [m, d].
        fits: examples of each network.
        training: settings of the training.
        memory: bytes that networks trained together may take; a single network may take more.
        seed: of the dropout masks.
        advance: called after every step with the number of networks that made it.
    """
    per_fit = _COPIES * 4 * (2 * table.shape[1] ** 2) + 12 * 4 * table.shape[1] * max(training.batch, _TEST_ROWS // 2)
    together = max(1, memory // per_fit)
    # Sorted by number of steps, because the shorter fits of a group end before the longer ones.
    order = sorted(range(len(fits)), key=lambda place: -len(fits[place].labels))
    logits: list[np.ndarray] = [np.empty(0)] * len(fits)
    for start in range(0, len(order), together):
        places = order[start : start + together]
        chosen = [fits[place] for place in places]
        weights = _train(table, chosen, training, seed, advance)
        for place, result in zip(places, _evaluate(table, chosen, weights), strict=True):
            logits[place] = result
    return logits


def _train(
    table: Tensor, fits: Sequence[MLPFit], training: Training, seed: int, advance: Callable[[int], object]
) -> list[Tensor]:
    """Train all networks and return weights and biases; `fits` are ordered by falling number of examples."""
    size = training.batch
    n_steps = torch.tensor([n_steps_of(len(fit.labels), training) for fit in fits])
    n_batches = n_steps // training.epochs
    rows, scale = _padded([fit.train for fit in fits], int(n_batches[0]) * size, table.device)
    labels = torch.zeros(rows.shape, device=table.device)
    weight = torch.zeros(rows.shape, device=table.device)
    for place, fit in enumerate(fits):
        n = len(fit.labels)
        labels[place, :n] = torch.from_numpy(fit.labels).to(labels)
        in_batch = np.minimum(size, n - size * (np.arange(n) // size))  # the last batch of an epoch is smaller
        weight[place, :n] = torch.from_numpy(1 / in_batch).to(weight)
    batches = [one.view(len(fits), -1, size) for one in (rows, scale, labels, weight)]

    weights = _first_weights([fit.draw for fit in fits], table.shape[1], table.device)
    masks = torch.Generator().manual_seed(seed)
    active, parameters, optimizer = len(fits), weights, _adam(weights, training.lr)
    with torch.enable_grad():
        for step in range(int(n_steps[0])):
            still = int((n_steps > step).sum())
            if still < active:
                active = still
                parameters, optimizer = _only_first(active, parameters, optimizer, training.lr)
            which = torch.arange(active), step % n_batches[:active]
            at, factor, answer, share = (one[which] for one in batches)
            kept = torch.rand(size, table.shape[1], generator=masks) >= training.dropout
            mask = kept.to(table) / (1 - training.dropout)
            logits = _forward(parameters, table[at] * factor[..., None], mask)
            loss = (binary_cross_entropy_with_logits(logits, answer, reduction="none") * share).sum()
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
            optimizer.step()
            advance(active)
    return [weight.detach() for weight in weights]


def _adam(parameters: list[Tensor], lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=lr, fused=parameters[0].device.type in ("cpu", "cuda"))


def _only_first(
    n: int, parameters: list[Tensor], optimizer: torch.optim.Adam, lr: float
) -> tuple[list[Tensor], torch.optim.Adam]:
    """Continue with the first n networks: return views of their weights, and Adam with their moments."""
    fewer = [parameter.detach()[:n].requires_grad_() for parameter in parameters]
    narrowed = _adam(fewer, lr)
    for old, new in zip(parameters, fewer, strict=True):
        narrowed.state[new] = {name: value[:n] if value.ndim else value for name, value in optimizer.state[old].items()}
    return fewer, narrowed


def _forward(parameters: Sequence[Tensor], x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the logits [probe, example] of examples [probe, example, d]."""
    first, first_bias, second, second_bias, last, last_bias = parameters
    hidden = selu(torch.baddbmm(first_bias, x, first), inplace=True)
    hidden = torch.baddbmm(second_bias, hidden, second).tanh_()
    if mask is not None:
        hidden = hidden * mask
    return torch.baddbmm(last_bias, hidden, last).squeeze(2)


def _first_weights(draws: Sequence[int], d: int, device: torch.device) -> list[Tensor]:
    """Draw initial weights as PyTorch does in a linear layer: uniform within 1 / sqrt(d); one generator per network."""
    shapes = ((d, d), (1, d), (d, d), (1, d), (d, 1), (1, 1))
    weights = [torch.empty(len(draws), *shape) for shape in shapes]
    for place, draw in enumerate(draws):
        generator = torch.Generator().manual_seed(draw)
        for weight in weights:
            weight[place].uniform_(-(d**-0.5), d**-0.5, generator=generator)
    return [weight.to(device).requires_grad_() for weight in weights]


def _padded(examples: Sequence[Examples], width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return rows and factors [probe, width], padded with row 0 and factor 0."""
    rows = torch.zeros(len(examples), width, dtype=torch.int64)
    scale = torch.zeros(len(examples), width)
    for place, one in enumerate(examples):
        rows[place, : len(one.rows)] = torch.from_numpy(one.rows)
        scale[place, : len(one.rows)] = torch.from_numpy(one.scale)
    return rows.to(device), scale.to(device)


@torch.no_grad()
def _evaluate(table: Tensor, fits: Sequence[MLPFit], weights: Sequence[Tensor]) -> list[np.ndarray]:
    lengths = np.array([len(fit.test.rows) for fit in fits])
    rows, scale = _padded([fit.test for fit in fits], int(lengths.max()), table.device)
    logits = torch.empty(rows.shape)
    for start in range(0, rows.shape[1], _TEST_ROWS):
        upto = int(np.flatnonzero(lengths > start)[-1]) + 1
        part = slice(0, upto), slice(start, start + _TEST_ROWS)
        x = table[rows[part]] * scale[part][..., None]
        logits[part] = _forward([weight[:upto] for weight in weights], x).cpu()
    return [logits[place, :length].numpy() for place, length in enumerate(lengths)]
