"""Compare NormXLogit with its bound, one forward pass, on a model of GPT-2 small's size with random weights.

    python benchmarks/bench_attribution.py [--batch 8] [--length 64] [--targets 1 100] [--repeats 5] [--others] [--cpu]

Prints the time of the scores alone and of the finished frame, for each number of targets per prompt, as a ratio to the
model's own forward pass, without unembedding (the stricter bound) and with it. The target is 1.1. --others adds the
cheaper of the other methods, as ratios to the same pass. Times are medians of interleaved rounds; quote the ratios.
--cpu counts this process's own processor time, for a machine with other work; set OMP_NUM_THREADS=1 for it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from _timing import interleaved
from transformers import GPT2Config, GPT2LMHeadModel

import interp
from probes import normxlogit
from probes.attribution._finding import find_targets, plan_targets
from probes.attribution.attribute import METHODS
from probes.attribution.normxlogit import read_factors

SLOW = ("integrated_gradients", "occlusion", "reagent", "reagent_ls")  # minutes at this size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--targets", type=int, nargs="*", default=[1, 100])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config()).eval()
    subject = interp.load(model)
    bridge = subject.backend.bridge  # type: ignore[attr-defined]
    ids = torch.randint(0, subject.d_vocab, (arguments.batch, arguments.length))
    tokens = subject.tokens(ids)
    _ = subject.fingerprint  # hashed once per subject, not per run
    layers = [subject.n_layers]

    def body() -> None:
        subject.run(ids, lambda tape: tape.last[:1, :1])

    @torch.no_grad()
    def whole() -> None:
        bridge(ids, use_cache=False)

    rounds: dict[str, Callable[[], object]] = {"forward, no unembedding": body, "forward": whole}
    for n in arguments.targets:
        target = "argmax" if n == 1 else [list(range(n))] * arguments.batch
        planned = plan_targets(subject, tokens, target=target)
        rounds[f"scores, {n} targets"] = lambda planned=planned: read_factors(subject, planned, layers=layers)
        rounds[f"frame, {n} targets"] = lambda target=target: normxlogit(subject, ids, target=target)
    found = find_targets(subject, tokens)
    for name in METHODS if arguments.others else ():
        if name not in ("normxlogit", "random", *SLOW):
            rounds[name] = lambda name=name: METHODS[name](subject, found, seed=0)
    seconds = interleaved(
        rounds, arguments.repeats, warm_up=1, clock=time.process_time if arguments.cpu else time.perf_counter
    )
    print(f"attribution, {arguments.batch} prompts of {arguments.length} tokens, {torch.get_num_threads()} threads")
    bare, full = seconds["forward, no unembedding"], seconds["forward"]
    for name, value in seconds.items():
        print(
            f"  {name:24s} {value:7.3f} s   {value / bare:6.2f} x without unembedding   {value / full:6.2f} x with it"
        )


if __name__ == "__main__":
    main()
