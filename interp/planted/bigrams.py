"""`bigram`: an MLP that holds a whole transition matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.errors import InputError
from interp.planted._build import Planted, empty_model
from interp.planted._truth import Layout, every_layer, interleave, one_hot


@dataclass(frozen=True, eq=False)
class BigramTruth:
    """The answers of `bigram`.

    At a position with token w the logits after the planted block are log P(· | w). Before it, or without it, they are
    e_w: 1 for w and 0 elsewhere.

    Attributes:
        layout: the planted block and the noise blocks.
        transition: P [V, V] float64; row w is the distribution of the next token after w and sums to 1.
    """

    layout: Layout
    transition: Tensor

    def logits(self, ids: Tensor, schedule: Sequence[int] | None = None) -> Tensor:
        """Return final logits [..., pos, V] for ids [..., pos] under a schedule of blocks (None: all, in order).

        With the planted block they are normalised log-probabilities, nats.
        """
        current = one_hot(ids, len(self.transition))
        return current @ self.transition.log() if self.layout.steps(schedule) else current

    def lens(self, ids: Tensor) -> Tensor:
        """Return the logit-lens logits at layers 0..L, [L + 1, ..., pos, V]."""
        return every_layer(lambda schedule: self.logits(ids, schedule), self.layout.n_layers)

    def entropy(self) -> Tensor:
        """Return the entropy after each token, nats, [V]: the lowest expected loss any predictor can have there."""
        return -(self.transition * self.transition.log()).sum(dim=-1)


def bigram(
    transition: Tensor | Sequence[Sequence[float]] | None = None,
    *,
    vocab: int = 12,
    noise_blocks: int = 0,
    seed: int = 0,
    n_ctx: int = 64,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Planted[BigramTruth]:
    """Build a model whose next-token distribution after token w is row w of a transition matrix.

    Neuron w of the planted block reads coordinate w of the one-hot token, so it is 1 on token w and 0 on every other.
    Its output column is log P(· | w) - e_w: it adds the log-probabilities and removes the current token, so the logits
    are log P(· | w) up to the rounding of 1 + (log P - 1).

    Args:
        transition: P [V, V], every entry above 0 (the logarithm of 0 cannot be a weight), every row summing to 1;
            None draws one from `seed`.
        vocab: tokens V if `transition` is None, else ignored.
        noise_blocks: blocks of random weights, after the planted one, that change no logit.
        seed: of the noise, and of the matrix if `transition` is None.
        n_ctx: longest input, in tokens.
        device: of the model; None is the CPU.
        dtype: of the model.

    Raises:
        InputError: the matrix is not square, not positive or not row-stochastic, or a size is below its minimum.

    >>> planted = bigram([[0.9, 0.1], [0.5, 0.5]])
    >>> probs = planted.model(torch.tensor([[0, 1]])).softmax(dim=-1)
    >>> [[round(p, 6) for p in row] for row in probs[0].tolist()]
    [[0.9, 0.1], [0.5, 0.5]]
    """
    matrix = random_transition(vocab, seed) if transition is None else _checked(transition)
    vocab = len(matrix)
    layout = interleave(1, noise_blocks)
    model, weights = empty_model("bigram", layout, vocab, seed=seed, n_ctx=n_ctx, device=device, dtype=dtype)
    block = weights.blocks[layout.planted[0]]
    block.fc_in.weight[:, :vocab].fill_diagonal_(1.0)
    block.fc_out.weight[:vocab] = (matrix.log() - torch.eye(vocab)).T.to(block.fc_out.weight)
    return Planted(model, model.tokenizer, BigramTruth(layout, matrix))


def random_transition(vocab: int, seed: int) -> Tensor:
    """Draw a row-stochastic matrix [V, V], float64: softmax of normal logits with standard deviation 1.5.

    >>> matrix = random_transition(3, seed=0)
    >>> bool(matrix.min() > 0), [round(total, 9) for total in matrix.sum(dim=1).tolist()]
    (True, [1.0, 1.0, 1.0])

    Raises:
        InputError: `vocab` is below 2.
    """
    if vocab < 2:
        raise InputError(f"vocab is {vocab}; give at least 2 tokens.")
    generator = torch.Generator().manual_seed(seed)
    return (1.5 * torch.randn(vocab, vocab, generator=generator, dtype=torch.float64)).softmax(dim=-1)


def _checked(transition: Tensor | Sequence[Sequence[float]]) -> Tensor:
    matrix = torch.as_tensor(transition, dtype=torch.float64).detach().cpu()
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise InputError(f"transition has shape {list(matrix.shape)}; give a square matrix of 2 tokens or more.")
    if not bool((matrix > 0).all()):  # also refuses NaN
        raise InputError(
            f"transition has an entry {float(matrix.min())}; give probabilities above 0: log 0 cannot be a weight."
        )
    sums = matrix.sum(dim=1, keepdim=True)
    row = int((sums - 1).abs().argmax())
    if abs(float(sums[row]) - 1) > 1e-6:  # float32 input rounds sums by about 1e-7
        raise InputError(f"row {row} of transition sums to {float(sums[row]):.6g}; divide each row by its sum.")
    return matrix / sums
