"""`cue`: one token anywhere in the prompt determines every later prediction."""

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
class CueTruth:
    """The answers of `cue`.

    At position n with token w, and the cue at m of the positions 0..n, the logit of token v is
    1[v = w] + 1[v = answer] · a · m·exp(b) / (m·exp(b) + n + 1 - m) after the planted block, and 1[v = w] without it.
    With one cue at position k the answer's logit depends only on the token at k, and on the token at n, whose own logit
    is 1.

    Attributes:
        layout: the planted block and the noise blocks.
        vocab: number of tokens V.
        cue: the token that attention looks for.
        answer: the token predicted after the cue.
        a: logit of the answer if all attention is on the cue.
        b: attention score of the cue minus that of every other token.
    """

    layout: Layout
    vocab: int
    cue: int
    answer: int
    a: float
    b: float

    def attention(self, ids: Tensor) -> Tensor:
        """Return the share of attention on cues at each position, [..., pos]."""
        cues = (ids.detach().cpu().long() == self.cue).double().cumsum(dim=-1)
        others = torch.arange(1, ids.shape[-1] + 1, dtype=cues.dtype) - cues
        return cues * math.exp(self.b) / (cues * math.exp(self.b) + others)

    def logits(self, ids: Tensor, schedule: Sequence[int] | None = None) -> Tensor:
        """Return final logits [..., pos, V] for ids [..., pos] under a schedule of blocks (None: all, in order)."""
        logits = one_hot(ids, self.vocab)
        if self.layout.steps(schedule):
            logits[..., self.answer] += self.a * self.attention(ids)
        return logits

    def lens(self, ids: Tensor) -> Tensor:
        """Return the logit-lens logits at layers 0..L, [L + 1, ..., pos, V]."""
        return every_layer(lambda schedule: self.logits(ids, schedule), self.layout.n_layers)


def cue(
    vocab: int = 12,
    a: float = 6.0,
    b: float = 10.0,
    *,
    noise_blocks: int = 0,
    seed: int = 0,
    n_ctx: int = 64,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Planted[CueTruth]:
    """Build a model with one attention block that looks for token 0 and, after finding it, predicts token 1.

    Every query asks for the cue, only the cue's key matches, and the value read there raises the answer's logit.

    Args:
        vocab: tokens V, at least 3, so that some token is neither cue nor answer.
        a: logit of the answer if all attention is on the cue.
        b: attention score of the cue minus that of every other token.
        noise_blocks: blocks of random weights, after the planted one, that change no logit.
        seed: of the noise.
        n_ctx: longest input, in tokens.
        device: of the model; None is the CPU.
        dtype: of the model.

    Raises:
        InputError: a size is below its minimum, or `a` or `b` is not finite.

    >>> planted = cue(vocab=5)
    >>> planted.model(torch.tensor([[3, 0, 2, 4]])).argmax(dim=-1).tolist()
    [[3, 1, 1, 1]]
    """
    if vocab < 3:
        raise InputError(f"vocab is {vocab}; give at least 3 tokens, so that some token is neither cue nor answer.")
    if not (math.isfinite(a) and math.isfinite(b)):
        raise InputError(f"a is {a} and b is {b}; give finite numbers.")
    layout = interleave(1, noise_blocks)
    model, weights = empty_model("cue", layout, vocab, seed=seed, n_ctx=n_ctx, device=device, dtype=dtype)
    block = weights.blocks[layout.planted[0]]
    truth = CueTruth(layout, vocab, cue=0, answer=1, a=float(a), b=float(b))
    d_head = len(block.q.bias)  # scores are divided by its square root
    block.q.bias[truth.cue] = 1.0
    block.k.weight[truth.cue, truth.cue] = b * math.sqrt(d_head)
    block.v.weight[truth.cue, truth.cue] = 1.0
    block.o.weight[truth.answer, truth.cue] = a
    return Planted(model, model.tokenizer, truth)
