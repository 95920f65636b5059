"""Compare a step of mask training with a plain forward and backward pass, and with torch.nn.utils.parametrize.

    python benchmarks/bench_bigram_subnetworks.py [--layers 4] [--batch 4] [--length 128] [--repeats 3] [--processor]

Prints one line each for: our step (target from the shipped bigram counts, pass, mask gradients, optimiser, counts for
the stop rule); a plain forward and backward pass of the same batch through the same bridge, with weight gradients and
the cross-entropy of one token each; the same masks as parametrisations of every matrix, trained on our target with our
cross-entropy, a fused AdamW and the same counts. Then prints the memory that our masks hold between steps. Seconds
depend on the machine; quote the ratios.
"""

from __future__ import annotations

import argparse
import time

import torch
from _timing import interleaved
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import GPT2Config, GPT2LMHeadModel

import interp
from probes import bigram_model
from probes.subnetworks.search._batches import DrawnContexts
from probes.subnetworks.search._targets import BigramTarget, cross_entropy
from probes.subnetworks.search._training import MaskSchedule, MaskTraining

DECIDED = 2.1972245773362196  # logit(0.9)


class Masked(nn.Module):
    """A masked weight, w * sigmoid(T m), as torch.nn.utils.parametrize computes it."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.zeros_like(weight))
        self.inverse_temperature = 1.0

    def forward(self, weight: Tensor) -> Tensor:  # noqa: D102
        self.soft = torch.sigmoid(self.inverse_temperature * self.m)  # kept for the penalty
        return weight * self.soft


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processor", action="store_true", help="processor seconds, for a machine with other work")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    bigrams = bigram_model("reference")  # rows of a corpus have few pairs; a random matrix would be dense
    config = GPT2Config(
        n_layer=arguments.layers, n_embd=512, n_head=8, vocab_size=bigrams.d_vocab, bos_token_id=None, eos_token_id=None
    )
    subject, other = (interp.load(GPT2LMHeadModel(config).eval()) for _ in range(2))
    shape = arguments.batch, arguments.length
    contexts = DrawnContexts(bigrams, shape, start=(), seed=0)
    ids = contexts.batch(0)
    schedule = MaskSchedule(lr=1e-3, growth=1.0, steps=10**6, batch=shape[0], length=shape[1], retries=0)
    target = BigramTarget(bigrams, subject.device)
    training = MaskTraining(
        subject,
        target,
        lambda attempt: contexts,
        sparsity=1.0,
        unit="weight",
        schedule=schedule,
        checkpoint=None,
    )
    plain_weights = [matrix.module.weight for matrix in subject.weight_matrices()]
    masked = parametrised(other)
    masks = [one.m for one in masked]
    optimiser = torch.optim.AdamW(masks, lr=1e-3, fused=True)
    n_weights = sum(mask.numel() for mask in masks)
    counts: list[list[int]] = []

    def ours() -> None:
        training._advance(ids, lambda logged: None)

    def plain() -> None:
        with torch.enable_grad():
            loss = nn.functional.cross_entropy(forward(subject, ids).flatten(0, 1), ids.flatten())
        torch.autograd.grad(loss, plain_weights)

    def by_parametrisation() -> None:
        with torch.enable_grad():
            logits = forward(other, ids)
            kept = torch.stack([one.soft.sum() for one in masked]).sum() / n_weights
        _, outer = cross_entropy(logits.detach().flatten(0, 1), target.begin(ids)(slice(None)), target.d_vocab)
        outer = outer.div_(ids.numel()).view_as(logits)
        gradients = torch.autograd.grad([logits, kept], masks, [outer, torch.ones_like(kept)])
        for mask, gradient in zip(masks, gradients, strict=True):
            mask.grad = gradient
        optimiser.step()
        with torch.no_grad():
            counts.append([int((mask > edge).sum()) for mask in masks for edge in (-DECIDED, DECIDED)])

    rounds = {"ours": ours, "plain": plain, "parametrize": by_parametrisation}
    clock = time.process_time if arguments.processor else time.perf_counter
    seconds = interleaved(rounds, arguments.repeats, warm_up=1, clock=clock)
    print(f"{n_weights:,} weights, {shape[0]} x {shape[1]} tokens, {torch.get_num_threads()} threads")
    for name, value in seconds.items():
        print(f"  {name:12s} {value:7.2f} s   {value / seconds['plain']:5.2f} x plain forward and backward")
    print(f"  ours costs {seconds['ours'] / seconds['plain']:.2f} x the plain pass (target 1.3)")
    print(f"  ours is {seconds['parametrize'] / seconds['ours']:.2f} x as fast as parametrize (target 1)")
    copy = 4 * n_weights
    held = training.masks.held_bytes() / copy
    print(f"  memory beyond the model: {held:.2f} float32 copies of the masked weights (target 4)")


def forward(subject: interp.Subject, ids: Tensor) -> Tensor:
    """Return the logits [batch, pos, V] through the bridge."""
    return subject.backend.bridge(ids, use_cache=False)  # type: ignore[attr-defined,no-any-return]


def parametrised(subject: interp.Subject) -> list[Masked]:
    """Register masks for every matrix of the subject, permanently, and return them."""
    masks = []
    for matrix in subject.weight_matrices():
        mask = Masked(matrix.module.weight)
        parametrize.register_parametrization(matrix.module, "weight", mask, unsafe=True)
        masks.append(mask)
    return masks


if __name__ == "__main__":
    main()
