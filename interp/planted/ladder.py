"""`bias_ladder`: every block adds the same amount to one token's logit, for any input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.errors import InputError
from interp.planted._build import Planted, empty_model
from interp.planted._truth import Layout, every_layer, interleave, one_hot


@dataclass(frozen=True)
class LadderTruth:
    """The answers of `bias_ladder`.

    With x = a · (planted blocks run) / n_layers, the logits at a position with token w are e_w + x · e_target.

    Attributes:
        layout: the planted blocks and the noise blocks.
        vocab: number of tokens V.
        a: logit that all planted blocks together add to the target.
        target: token id.
    """

    layout: Layout
    vocab: int
    a: float
    target: int

    def logits(self, ids: Tensor, schedule: Sequence[int] | None = None) -> Tensor:
        """Return final logits [..., pos, V] for ids [..., pos] under a schedule of blocks (None: all, in order)."""
        x = self._lift(len(self.layout.steps(schedule)))
        logits = one_hot(ids, self.vocab)
        logits[..., self.target] += x
        return logits

    def lens(self, ids: Tensor) -> Tensor:
        """Return the logit-lens logits at layers 0..L, [L + 1, ..., pos, V]."""
        return every_layer(lambda schedule: self.logits(ids, schedule), self.layout.n_layers)

    def log_prob(self, ids: Tensor) -> Tensor:
        """Return the log-probability of the target (minus the cross-entropy), nats, [L + 1, ..., pos]."""
        return self._target_logit(ids) - self._log_z(ids)

    def rank(self, ids: Tensor) -> Tensor:
        """Return the number of tokens with a strictly larger logit than the target, int64 [L + 1, ..., pos].

        If the added logit is exactly 1, the target ties with the current token in exact arithmetic, and the model's
        rounding of a / n_layers decides between rank 0 and 1: choose another `a`.
        """
        at_target, x = self._at_target(ids), self._target_logit(ids)
        others = self.vocab - 2 + at_target.long()
        return (~at_target & (x < 1)).long() + others * (x < 0).long()

    def entropy(self, ids: Tensor) -> Tensor:
        """Return the entropy of the next-token distribution, nats, [L + 1, ..., pos]."""
        log_z, x = self._log_z(ids), self._target_logit(ids)
        mean_logit = (x - log_z).exp() * x + (1 - log_z).exp() * ~self._at_target(ids)
        return log_z - mean_logit

    def kl_to_final(self, ids: Tensor) -> Tensor:
        """Return KL(final layer ‖ this layer) of the next-token distribution, nats, [L + 1, ..., pos]."""
        log_z, x = self._log_z(ids), self._target_logit(ids)
        # The two layers' logits differ only at the target, so every other term of the sum is the change of log Z.
        return (x[-1] - log_z[-1]).exp() * (x[-1] - x) + log_z - log_z[-1]

    def _lift(self, n_run: int) -> float:
        return self.a * n_run / len(self.layout.planted)

    def _at_target(self, ids: Tensor) -> Tensor:
        return one_hot(ids, self.vocab)[..., self.target].bool()

    def _target_logit(self, ids: Tensor) -> Tensor:
        n_run = [len(self.layout.steps(range(layer))) for layer in range(self.layout.n_layers + 1)]
        at_target = self._at_target(ids).double()
        return torch.stack([at_target + self._lift(n) for n in n_run])

    def _log_z(self, ids: Tensor) -> Tensor:
        # log(e^x + e + V - 2), or log(e^(1 + x) + V - 1) if the current token is the target.
        x = self._target_logit(ids)
        rest = self.vocab - 1 + (math.e - 1) * (~self._at_target(ids)).double()
        return torch.logaddexp(x, rest.log())


def bias_ladder(
    n_layers: int = 4,
    vocab: int = 12,
    a: float = 6.0,
    target: int = 3,
    *,
    noise_blocks: int = 0,
    seed: int = 0,
    n_ctx: int = 64,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Planted[LadderTruth]:
    """Build a model whose blocks each add a / n_layers to the target's logit through the MLP's output bias.

    Args:
        n_layers: planted blocks.
        vocab: tokens V, at least 2.
        a: total logit added to the target; may be negative.
        target: token id.
        noise_blocks: blocks of random weights, after and between the planted ones, that change no logit.
        seed: of the noise.
        n_ctx: longest input, in tokens.
        device: of the model; None is the CPU.
        dtype: of the model.

    Raises:
        InputError: a size is below its minimum, the target is outside the vocabulary, or `a` is not finite.

    >>> ladder = bias_ladder()
    >>> ids = torch.tensor([[0, 5]])
    >>> (-ladder.truth.log_prob(ids)[:, 0, 0]).tolist()  # cross-entropy at layers 0..4, nats
    [2.618..., 1.344..., 0.490..., 0.132..., 0.031...]
    >>> bool(torch.allclose(ladder.model(ids).double(), ladder.truth.logits(ids)))
    True
    """
    if not 0 <= target < vocab:
        raise InputError(f"target is {target}; give a token id from 0 to {vocab - 1}.")
    if not math.isfinite(a):
        raise InputError(f"a is {a}; give a finite number of logits.")
    layout = interleave(n_layers, noise_blocks)
    model, weights = empty_model("bias_ladder", layout, vocab, seed=seed, n_ctx=n_ctx, device=device, dtype=dtype)
    for block in layout.planted:
        weights.blocks[block].fc_out.bias[target] = a / n_layers
    return Planted(model, model.tokenizer, LadderTruth(layout, vocab, float(a), target))
