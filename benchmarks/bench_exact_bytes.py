"""Compare exact next bytes and re-cut texts with the bounds of their model passes, and with brute force.

    python benchmarks/bench_exact_bytes.py [--model smollm2] [--backend bridge] [--cuts 12] [--only PART ...]

Prints processor seconds, medians of interleaved rounds after one that does not count, and their ratios:

- some cuts of `tokenization_bias` beside a batched pass of each cut's contexts and their unembedding;
- all cuts of a text (`byte_log_prob`, and `tokenization_bias` at every place) beside as many products of a single row
  with the head, which leave out all blocks; beside them the same contexts read whole, as models without trees do;
- what may follow a text, looked up for 6,600 candidates, beside the tokenizer, asked for each (`follow`'s answers);
- `byte_log_prob` of new texts, what may follow told from the tokenizer's merges, and by asking it for each token;
- one cut by brute force, which asks the tokenizer for each candidate and reads each context alone; the second time it
  remembers the answers, as ours does. Both give the same distribution;
- `retokenisation` beside passes of the same variants and controls, batched by length, with all tokens unembedded.

Measured on SmolLM2, one thread of a busy machine: a cut 0.22 times its passes; `byte_log_prob` 0.84 times the products
(both backends), `tokenization_bias` at all places 1.3 to 1.6 times, where contexts read whole take 3.6 to 4.4; look-ups
0.01 ms; new texts 4.7 times as fast by merges, with equal numbers; one cut by brute force 10 times ours, equal to 1e-7;
`retokenisation` 1.00 times its passes. On the shipped model, whose head is small, 1.5 is out of reach: its blocks make
the tree alone 1.2 times the products, and the checks that begin every run cost as much as a text; `byte_log_prob` takes
3.3 times (77 bytes) or 2.1 times (303), `tokenization_bias` 5.7 to 7.8 times, new texts are 3.5 to 4.5 times as fast by
merges, and brute force costs 8 times ours.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from _timing import interleaved

import interp
from interp.authoring import Run, Subject, Tokens, dataset
from interp.model.prefixes import tree
from interp.tokenization import Lattice, Pieces, kept, lattice_of
from probes import byte_log_prob, retokenisation, tokenization_bias
from probes.tokenization._contexts import Contexts
from probes.tokenization._covers import Cut, first_bytes, splits_of
from probes.tokenization._prompts import Prompt, places, read_prompts
from probes.tokenization.byte_log_prob import _Chain
from probes.tokenization.recutting._comparison import STATES_PER_LAYER
from probes.tokenization.recutting._variants import keys_of, laid_out
from probes.tokenization.tokenization_bias import TOKENIZATION_BIAS

TEXT = "The capital of France is Paris, and the weather there is wonderful in summer."
N_CANDIDATES = 6600
N_STORIES = 2
N_FIRST_BYTES = 240
PARTS = ("cuts", "every", "look-ups", "first", "brute", "recut")
SCHEMES = ("split_one", "stochastic", "bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="reference")
    parser.add_argument("--backend", default="bridge", choices=("bridge", "nnsight"))
    parser.add_argument("--cuts", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS)
    arguments = parser.parse_args()

    interp.options.progress = False
    for category in (interp.errors.WithoutTemplate, interp.errors.EndsInsideToken):
        warnings.simplefilter("ignore", category)
    subject = interp.load(arguments.model, backend=arguments.backend)
    subject.logits(["a"])  # verifies the model
    _ = subject.fingerprint  # hashed once per subject
    lattice = lattice_of(subject)
    run = Run(TOKENIZATION_BIAS, subject, [TEXT], parameters={})
    (prompt,) = read_prompts(run.tokens, lattice, [TEXT])
    every = [at for at in range(1, prompt.n_bytes) if _can_cut(prompt, lattice, at)]
    (chosen,) = places([prompt], lattice, arguments.cuts, seed=0, last=False)
    print(f"exact bytes of {subject.name} by {arguments.backend}: processor seconds")
    parts = {
        "cuts": lambda: _time_cuts(subject, lattice, prompt, chosen, arguments.repeats),
        "every": lambda: _time_every_cut(subject, lattice, prompt, every, arguments.repeats),
        "look-ups": lambda: _time_look_ups(lattice, prompt),
        "first": lambda: _time_first(subject),
        "brute": lambda: _time_brute_force(run, lattice, prompt, chosen),
        "recut": lambda: _time_recutting(subject, arguments.repeats),
    }
    for part in arguments.only:
        parts[part]()


def _time_cuts(subject: Subject, lattice: Lattice, prompt: Prompt, chosen: list[int], repeats: int) -> None:
    asked = []
    for place in chosen:
        contexts = Contexts()
        Cut(lattice, prompt, place, contexts)
        asked.append(list(contexts._asked))
    cold = _seconds(lambda: tokenization_bias(subject, [TEXT], cuts=chosen))
    seconds = _interleaved(
        {
            "bias": lambda: tokenization_bias(subject, [TEXT], cuts=chosen),
            "passes": lambda: [tree._read_whole(subject, one, torch.clone) for one in asked],
        },
        repeats,
    )
    n = len(chosen)
    print(f"{n} cuts, {sum(map(len, asked)) / n:.1f} contexts each:")
    print(
        f"  tokenization_bias   {seconds['bias'] / n * 1000:7.1f} ms a cut  (the first time {cold / n * 1000:.0f} ms)"
    )
    print(f"  its passes alone    {seconds['passes'] / n * 1000:7.1f} ms a cut")
    print(f"  it costs {seconds['bias'] / seconds['passes']:.2f} x its passes (target 1.3)")


def _time_every_cut(subject: Subject, lattice: Lattice, prompt: Prompt, every: list[int], repeats: int) -> None:
    contexts = Contexts()
    n_bytes = _Chain(lattice, prompt, contexts).n_scored
    asked = sorted(contexts._asked)
    n_tokens = len({one[: n + 1] for one in asked for n in range(len(one))})
    weight = subject.W_U.T.contiguous()  # [d_vocab, d_model], as heads hold it
    row = torch.randn(1, subject.d_model, dtype=weight.dtype)

    def products(n: int) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode():
                for _ in range(n):
                    torch.nn.functional.linear(row, weight)

        return run

    def whole() -> None:
        left = sorted(asked, key=len, reverse=True)
        while left:
            some = tree._alike(left)
            tree._read_whole(subject, some, torch.clone)
            left = left[len(some) :]

    seconds = _interleaved(
        {
            "bytes": lambda: byte_log_prob(subject, [TEXT]),
            "bias": lambda: tokenization_bias(subject, [TEXT], cuts=every),
            "tree": lambda: list(tree.logits_after(subject, asked, torch.clone)),
            "whole": whole,
            "products": products(n_bytes),
        },
        repeats,
    )
    of_cut = seconds["products"] / n_bytes
    print(f"all cuts of {n_bytes} bytes, {len(asked)} contexts, {n_tokens} tokens in a tree:")
    print(f"  byte_log_prob       {seconds['bytes']:7.2f} s")
    print(f"  tokenization_bias   {seconds['bias']:7.2f} s  ({len(every)} cuts)")
    print(f"  their tree alone    {seconds['tree']:7.2f} s  ({seconds['tree'] / n_bytes / of_cut:.2f} x)")
    print(f"  contexts read whole {seconds['whole']:7.2f} s")
    print(f"  products of a row   {seconds['products']:7.2f} s")
    print(f"  byte_log_prob costs {seconds['bytes'] / n_bytes / of_cut:.2f} x as many products (target 1.5)")
    print(f"  tokenization_bias   {seconds['bias'] / len(every) / of_cut:.2f} x (target 1.5)")


def _time_look_ups(lattice: Lattice, prompt: Prompt) -> None:
    """Time the look-ups of candidates, the second time, behind the places of a text that has most of them."""
    splits = [one for at in range(4, len(prompt.text)) for one in splits_of(lattice, prompt.text[:at], prompt.ids[:1])]
    splits.sort(key=lambda split: len(split[1]), reverse=True)
    asked, n = [], 0
    for left, ids, _ in splits:
        if n < N_CANDIDATES:
            asked.append((left, ids[: N_CANDIDATES - n]))
            n += len(asked[-1][1])

    def look_up() -> list[np.ndarray]:
        return [lattice.follow(left, ids) for left, ids in asked]

    def ask() -> list[np.ndarray]:
        return [np.array([lattice.canonical([*left, one]) for one in ids.tolist()]) for left, ids in asked]

    brute = _seconds(ask)
    assert all((one == other).all() for one, other in zip(look_up(), ask(), strict=True))
    warm = float(np.median([_seconds(look_up) for _ in range(100)]))
    print(f"{n:,} candidates behind {len(asked)} beginnings:")
    print(f"  look-ups            {warm * 1000:7.2f} ms (target 5 ms)")
    print(f"  tokenizer asked     {brute * 1000:7.0f} ms")


def _time_first(subject: Subject) -> None:
    """Time texts whose tokens were not asked about before: what may follow told from merges, and by the tokenizer."""
    texts = [text[:N_FIRST_BYTES] for text in dataset("stories")["text"][:N_STORIES]]
    seconds, frames, before = {}, {}, lattice_of(subject)
    for name in ("merges", "tokenizer"):
        lattice = kept._KEPT[subject] = Lattice(subject.tokenizer, subject.d_vocab)
        if name == "tokenizer":
            lattice._joins = None  # type: ignore[misc]
        start = time.process_time()
        frames[name] = byte_log_prob(subject, texts)
        seconds[name] = time.process_time() - start
    kept._KEPT[subject] = before
    difference = (frames["merges"]["log_prob"] - frames["tokenizer"]["log_prob"]).abs().max()
    print(f"byte_log_prob of {N_STORIES} new texts of {N_FIRST_BYTES} bytes; the two differ by up to {difference:.0e}:")
    print(f"  told from merges    {seconds['merges']:7.2f} s")
    print(f"  tokenizer asked     {seconds['tokenizer']:7.2f} s  ({seconds['tokenizer'] / seconds['merges']:.1f} x)")


def _time_brute_force(run: Run, lattice: Lattice, prompt: Prompt, chosen: list[int]) -> None:
    """Time the distribution at the cut with the median number of candidates, ours and by brute force."""
    subject = run.subject
    several = {at: list(splits_of(lattice, prompt.text[: at + prompt.added], _given(prompt))) for at in chosen}
    place = sorted(chosen, key=lambda at: sum(len(ids) for _, ids, _ in several[at]))[len(chosen) // 2]
    remembered: dict[tuple[int, ...], bool] = {}

    def canonical(ids: tuple[int, ...]) -> bool:
        if ids not in remembered:
            remembered[ids] = lattice.canonical(ids)
        return remembered[ids]

    def brute() -> np.ndarray:
        return _by_brute_force(subject, lattice, prompt, place, several[place], canonical)

    def ours() -> np.ndarray:
        contexts = Contexts()
        cut = Cut(lattice, prompt, place, contexts)
        contexts.read(run)
        return cut.exact().prob

    times = {"ours": (_seconds(ours), _seconds(ours)), "brute force": (_seconds(brute), _seconds(brute))}
    difference = np.abs(ours() - brute()).max()
    print(f"the distribution at one cut, behind byte {place}; the two differ by up to {difference:.0e}:")
    for name, (first, second) in times.items():
        print(f"  {name:<19} {second * 1000:7.1f} ms  (the first time {first * 1000:,.0f} ms)")
    print(f"  brute force costs {times['brute force'][1] / times['ours'][1]:.1f} x ours when both remember")


def _by_brute_force(
    subject: Subject,
    lattice: Lattice,
    prompt: Prompt,
    place: int,
    splits: Sequence[tuple[tuple[int, ...], np.ndarray, int]],
    canonical: Callable[[tuple[int, ...]], bool],
) -> np.ndarray:
    """Return the exact distribution, [257], from each context by itself and each candidate by itself."""
    found, first = np.zeros(257), first_bytes(lattice)
    text = prompt.text[: place + prompt.added]
    ends = [(left, lattice.vocabulary.order, 0) for left in lattice.prefixes(text)]
    start = len(_given(prompt))
    rows: dict[tuple[int, ...], np.ndarray] = {}
    for left, ids, width in [*splits, *ends]:
        weight = 0.0
        for n in range(start, len(left) + 1):
            if left[:n] not in rows:
                context = torch.tensor([prompt.before + left[:n]])
                end = torch.tensor([context.shape[1] - 1])
                rows[left[:n]] = subject.next_token_logits(context, end, _log_prob).numpy()
            row = rows[left[:n]]
            weight += row[left[n]] if n < len(left) else 0.0
        nexts = lattice.vocabulary.byte_at(ids, width)
        for index, byte in zip(ids.tolist(), nexts.tolist(), strict=True):
            if byte >= 0 and canonical((*left, index)):
                found[byte] += np.exp(weight + row[index])
        if not width:
            found[256] += np.exp(weight + row[first < 0]).sum()
    return found / found.sum()


def _time_recutting(subject: Subject, repeats: int) -> None:
    texts = [text[:220] for text in dataset("stories")["text"][:N_STORIES]]
    run = Run(TOKENIZATION_BIAS, subject, texts, parameters={})
    pieces = Pieces(lattice_of(subject))
    prompts = read_prompts(run.tokens, pieces.lattice, texts)
    several = [
        laid_out(pieces, one, key, SCHEMES, 4, 0.1, n_ctx=subject.n_ctx)
        for one, key in zip(prompts, keys_of(prompts, 0), strict=True)
    ]
    ids = [torch.tensor(one.ids) for laid in several for one in laid]
    every = Tokens(ids, pd.DataFrame({"prompt_id": np.arange(len(ids))}), None, np.zeros(len(ids), dtype=np.int64))

    def passes() -> None:
        for batch in every.batches(subject.batch_tokens(STATES_PER_LAYER)):
            for row, length in zip(subject.backend.logits(batch.ids), batch.lengths.tolist(), strict=True):
                row[:length].logsumexp(dim=-1)

    cold = _seconds(lambda: retokenisation(subject, texts, schemes=SCHEMES))
    seconds = _interleaved(
        {"probe": lambda: retokenisation(subject, texts, schemes=SCHEMES), "passes": passes}, repeats
    )
    print(f"retokenisation of {N_STORIES} stories in {len(ids)} ways, {sum(map(len, ids)):,} tokens:")
    print(f"  retokenisation      {seconds['probe']:7.2f} s  (the first time {cold:.2f} s)")
    print(f"  its passes alone    {seconds['passes']:7.2f} s")
    print(f"  it costs {seconds['probe'] / seconds['passes']:.2f} x its passes (target 1.25)")


def _can_cut(prompt: Prompt, lattice: Lattice, at: int) -> bool:
    ids = lattice.prefixes(prompt.text[: at + prompt.added])
    return bool(ids) and (bool(prompt.before) or len(ids[0]) > 1)


def _given(prompt: Prompt) -> tuple[int, ...]:
    return prompt.given(prompt.ids)


def _log_prob(logits: torch.Tensor) -> torch.Tensor:
    return logits[0].double().log_softmax(dim=-1)


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _interleaved(rounds: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    return interleaved(rounds, repeats, warm_up=1, clock=time.process_time)


if __name__ == "__main__":
    main()
