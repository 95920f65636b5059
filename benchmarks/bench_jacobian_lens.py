"""Compare the Jacobian lens with transformer-lens' fit, and with the backward passes that both need.

    python benchmarks/bench_jacobian_lens.py [--texts 1] [--tokens 64] [--repeats 3]

Prints processor seconds, which depend on the machine, and ratios, which you may quote; both are medians of interleaved
rounds. The bound is d_model backward passes over every token, through the graph of one forward pass that is not
counted, in the batch size of all those tried that is the fastest.
"""

from __future__ import annotations

import argparse
import time

import torch
from _timing import interleaved
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.tools.analysis import JacobianLens as Theirs

import interp
from interp.data.shipped import dataset, shipped_path
from interp.model.tape import Tape
from probes import jacobian_lens

_COPIES = (2, 4, 8, 16)
_SKIP = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    subject = interp.load("reference")
    bridge = TransformerBridge.boot_transformers(str(shipped_path("reference")), device="cpu")
    texts = [" ".join(dataset("stories")["text"].iloc[[n, n + 1]]) for n in range(arguments.texts)]
    subject.logits(texts[:1])  # verifies the model on its first tokens
    ids = [ids[: arguments.tokens] for ids in subject.tokens(texts).ids]
    same = [
        torch.equal(bridge.to_tokens(text)[0, : arguments.tokens], one) for text, one in zip(texts, ids, strict=True)
    ]
    if not all(same) or any(len(one) < arguments.tokens for one in ids):
        raise SystemExit("the two libraries read other tokens, or a text is too short")

    settings = {"corpus": "stories", "max_seq_len": arguments.tokens, "skip_first_positions": _SKIP}
    work = {
        "jacobian_lens": lambda: jacobian_lens(subject, ids, skip=_SKIP),
        "the same without layer 0": lambda: jacobian_lens(subject, ids, skip=_SKIP, layers=range(1, subject.n_layers)),
        "transformer-lens": lambda: Theirs.fit(bridge, texts, **settings, show_progress=False),
    }
    seconds = interleaved(work, arguments.repeats, clock=time.process_time)
    bounds = [{copies: _backward(subject, ids, copies) for copies in _COPIES} for _ in range(arguments.repeats)]
    median = {copies: sorted(one[copies] for one in bounds)[arguments.repeats // 2] for copies in _COPIES}
    fastest = min(median, key=lambda copies: median[copies])
    bound = median[fastest]

    n_tokens = sum(map(len, ids))
    print(f"{len(ids)} texts, {n_tokens} tokens, of the reference model: {subject.d_model} backward passes each")
    print(f"  {'backward passes alone':26s} {bound:7.2f} s   ({fastest} at once)")
    for name, value in seconds.items():
        print(f"  {name:26s} {value:7.2f} s   {value / bound:5.2f} x the backward passes (target 1.2)")
    print(f"  transformer-lens takes {seconds['transformer-lens'] / seconds['the same without layer 0']:.2f} x as long")
    ours, theirs = work["the same without layer 0"](), work["transformer-lens"]()
    gap = max(float((ours.matrix[layer] - matrix).abs().max()) for layer, matrix in theirs.jacobians.items())
    print(f"  largest difference of an entry: {gap:.1e} of {float(ours.matrix.abs().max()):.1f}")


def _backward(subject: interp.Subject, ids: list[torch.Tensor], copies: int) -> float:
    """Return the processor seconds of d_model backward passes over every text, `copies` at once."""

    def program(tape: Tape) -> float:
        state = first = tape.residual(0).detach().repeat(copies, 1, 1).requires_grad_()
        with torch.enable_grad():
            for block in range(tape.n_layers):
                state = tape.run_block(block, state)
        outer = torch.ones_like(state)
        start = time.process_time()
        for _ in range(subject.d_model // copies):
            torch.autograd.grad(state, first, outer, retain_graph=True)
        return time.process_time() - start

    return sum(subject.run(one[None], program) for one in ids)


if __name__ == "__main__":
    main()
