"""Compare exact next bytes with the bounds of their model passes, and with brute force.

    python benchmarks/bench_exact_bytes.py [--model smollm2] [--cuts 12] [--repeats 3]

Prints processor seconds, medians of interleaved rounds, and their ratios: all cuts of `tokenization_bias` beside one
batched pass of each cut's contexts and its unembedding; `byte_log_prob`, every cut of a text, beside the passes
of its contexts alone and as many products of a single row with the head, which leave out all blocks; what may follow,
looked up again, in ms for a cut; and brute force, which asks the tokenizer for each candidate and reads each context
alone, for one cut. The first call asks the tokenizer, which a second one does not; both are printed.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import torch
from _timing import interleaved

import interp
from interp.authoring import Run
from interp.tokenization import lattice_of
from probes import byte_log_prob, tokenization_bias
from probes.tokenization._contexts import Contexts, _alike
from probes.tokenization._covers import Cut, splits_of
from probes.tokenization._prompts import places, read_prompts
from probes.tokenization.byte_log_prob import _Chain
from probes.tokenization.tokenization_bias import TOKENIZATION_BIAS

TEXT = "The capital of France is Paris, and the weather there is wonderful in summer."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="reference")
    parser.add_argument("--cuts", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    interp.options.progress = False
    warnings.simplefilter("ignore", interp.errors.WithoutTemplate)
    subject = interp.load(arguments.model)
    subject.logits(["a"])  # verifies the model
    _ = subject.fingerprint  # hashed once per subject
    lattice = lattice_of(subject)
    run = Run(TOKENIZATION_BIAS, subject, [TEXT], parameters={})
    (prompt,) = read_prompts(run.tokens, lattice, [TEXT])
    (chosen,) = places([prompt], lattice, arguments.cuts, seed=0, last=False)

    asked = []
    for place in chosen:
        contexts = Contexts()
        Cut(lattice, prompt, place, contexts)
        asked.append(list(contexts._asked))
    batches = [_padded(one) for one in asked]

    def bias() -> None:
        tokenization_bias(subject, [TEXT], cuts=chosen)

    def passes() -> None:
        for ids, ends in batches:
            subject.next_token_logits(ids, ends, torch.clone)

    def every_byte() -> None:
        byte_log_prob(subject, [TEXT])

    of_text = Contexts()
    _Chain(lattice, prompt, of_text)
    left, shared = sorted(of_text._asked, key=len, reverse=True), []
    while left:
        shared.append(_padded(batch := _alike(left)))
        left = left[len(batch) :]

    def all_passes() -> None:
        for ids, ends in shared:
            subject.next_token_logits(ids, ends, torch.clone)

    weight = subject.W_U.T.contiguous()  # [d_vocab, d_model], as heads hold it
    row = torch.randn(1, subject.d_model)
    n_bytes = len(TEXT.encode()) - len(lattice.vocabulary.spelt[prompt.ids[0]] or b"")

    def rows() -> None:
        with torch.inference_mode():
            for _ in range(n_bytes):
                torch.nn.functional.linear(row, weight)

    cold = {work.__name__: _once(work) for work in (bias, every_byte)}
    seconds = interleaved(
        {"bias": bias, "passes": passes, "every byte": every_byte, "all passes": all_passes, "rows": rows},
        arguments.repeats,
        warm_up=1,
    )
    n_contexts, n = sum(map(len, asked)), len(chosen)
    print(f"exact bytes of {subject.name}: {n} cuts, {n_contexts / n:.1f} contexts each, {n_bytes} bytes scored")
    first = cold["bias"] / n * 1000
    print(f"  tokenization_bias  {seconds['bias'] / n * 1000:7.1f} ms a cut   (first call {first:.0f} ms)")
    print(f"  its passes alone   {seconds['passes'] / n * 1000:7.1f} ms a cut")
    print(f"  it costs {seconds['bias'] / seconds['passes']:.2f} x its passes (target 1.3)")
    print(f"  byte_log_prob      {seconds['every byte']:7.2f} s   (first call {cold['every_byte']:.2f} s)")
    print(
        f"  its passes alone   {seconds['all passes']:7.2f} s   {seconds['every byte'] / seconds['all passes']:.2f} x"
    )
    print(f"  {n_bytes} products of a row {seconds['rows']:7.2f} s")
    print(f"  it costs {seconds['every byte'] / seconds['rows']:.2f} x the products (target 1.5)")
    _print_look_ups(lattice, prompt, chosen)
    _print_brute_force(subject, lattice, prompt, chosen, seconds["bias"] / n)


def _padded(contexts: list[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [torch.tensor(one) for one in contexts]
    ends = torch.tensor([len(one) - 1 for one in contexts])
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), ends


def _once(work) -> float:  # type: ignore[no-untyped-def]
    start = time.process_time()
    work()
    return time.process_time() - start


def _print_look_ups(lattice, prompt, chosen) -> None:  # type: ignore[no-untyped-def]
    """Time the look-ups of all candidates of all cuts, the second time."""
    splits = [
        split for place in chosen for split in splits_of(lattice, prompt.text[: place + prompt.added], prompt.ids[:1])
    ]

    def look_up() -> None:
        for left, ids, _ in splits:
            lattice.follow(left, ids)

    look_up()
    seconds = np.median([_once(look_up) for _ in range(20)])
    n = sum(len(ids) for _, ids, _ in splits) / len(chosen)
    print(
        f"  what may follow: {seconds / len(chosen) * 1000:.2f} ms a cut of {n:,.0f} candidates (target 5 ms for 6,600)"
    )


def _print_brute_force(subject, lattice, prompt, chosen, ours: float) -> None:  # type: ignore[no-untyped-def]
    """Time the cut with the median number of candidates: each asked of the tokenizer, each context read alone."""
    several = [list(splits_of(lattice, prompt.text[: at + prompt.added], prompt.ids[:1])) for at in chosen]
    one = sorted(several, key=lambda splits: sum(len(ids) for _, ids, _ in splits))[len(several) // 2]

    def brute() -> None:
        for left, ids, _ in one:
            for index in ids.tolist():
                lattice.canonical([*left, index])
            context = torch.tensor([left])
            subject.next_token_logits(context, torch.tensor([len(left) - 1]), torch.clone)

    seconds, n = _once(brute), sum(len(ids) for _, ids, _ in one)
    print(f"  brute force: {seconds * 1000:,.0f} ms for a cut of {n:,} candidates, {seconds / ours:.1f} x ours")


if __name__ == "__main__":
    main()
