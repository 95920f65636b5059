"""Compare the logit lens with its peer and its bound, on a model of GPT-2 small's size with random weights.

    python benchmarks/bench_logit_lens.py [--batch 8] [--length 64] [--repeats 3]

Prints one line each for: our finished frame with every statistic; transformer-lens' own `logit_lens` with ranks and
entropies (and the same with its frame built); the unavoidable unembedding matrix products alone, in the fastest order
we know; the forward pass. Seconds depend on the machine; quote the ratios. Times are medians of interleaved rounds.
"""

from __future__ import annotations

import argparse

import torch
from _timing import extra_memory, interleaved
from transformer_lens.tools.analysis.logit_lens import logit_lens as peer_lens
from transformers import GPT2Config, GPT2LMHeadModel

import interp
from probes import logit_lens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config()).eval()
    subject = interp.load(model)
    ids = torch.randint(0, subject.d_vocab, (arguments.batch, arguments.length))
    _ = subject.fingerprint  # hashed once per subject, not per run
    bridge = subject.backend.bridge  # type: ignore[attr-defined]
    outs = [torch.empty(ids.numel(), len(columns)) for columns in model.lm_head.weight.split(4096)]
    residuals = [torch.randn(ids.numel(), subject.d_model) for _ in range(subject.n_layers + 1)]

    def ours() -> None:
        logit_lens(subject, ids)

    def peer() -> object:
        return peer_lens(bridge, ids[:, :-1], targets=ids[:, 1:], positions=list(range(arguments.length - 1)))

    def peer_with_frame() -> None:
        peer().to_dataframe()  # type: ignore[attr-defined]

    def products() -> None:
        with torch.inference_mode():
            for columns, out in zip(model.lm_head.weight.split(4096), outs, strict=True):
                for residual in residuals:
                    torch.mm(residual, columns.T, out=out)

    def forward() -> None:
        with torch.inference_mode():
            model.transformer(ids)

    rounds = {"ours": ours, "peer": peer, "peer, with frame": peer_with_frame, "products": products, "forward": forward}
    logit_lens(subject, ids[:1, :2])  # imports, and verifies the model on its first tokens
    extra = extra_memory(ours)  # of the first full call: later ones reuse memory that the allocator kept
    seconds = interleaved(rounds, arguments.repeats, warm_up=1)
    bound = seconds["products"]
    positions = ids.numel()
    shape = f"{subject.n_layers + 1} layers x {positions} positions, vocabulary {subject.d_vocab}"
    print(f"logit lens, {shape}, {torch.get_num_threads()} threads")
    for name, value in seconds.items():
        print(f"  {name:18s} {value:7.2f} s   {value / bound:5.2f} x the products")
    print(
        f"  ours is {seconds['peer'] / seconds['ours']:.2f} x as fast as the peer (target 1.5), "
        f"{seconds['peer, with frame'] / seconds['ours']:.2f} x with its frame"
    )
    print(f"  ours costs {seconds['ours'] / bound:.2f} x the products alone (target 1.5)")
    dense = (subject.n_layers + 1) * positions * subject.d_vocab * 4
    if extra is not None:
        print(
            f"  extra memory {extra / 2**20:.0f} MiB = {extra / dense:.1%} of [layers, batch, pos, vocab] (target 10 %)"
        )


if __name__ == "__main__":
    main()
