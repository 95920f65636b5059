"""Compare the search of a bank and its building with their bounds, and with the published package, in one run.

    python benchmarks/bench_contexts.py [--model reference] [--stories 60] [--asked 512] [--states 1000000]
        [--peer FOLDER [--weights FOLDER]] [--only search building disk]

Prints processor seconds, medians of interleaved rounds, and their ratios: a search beside the matrix product of the
questions with the bank's states, which it needs; building beside the forward passes of the same batches, nothing read;
and a bank of many random states that is searched in its file within a small memory budget, with the anonymous memory
that this took at most. The published package (`pip install --no-deps --target FOLDER latentlens==0.1.0`; it needs torch
and transformers) searches the same directions and builds from the same texts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from _timing import interleaved

import interp
from interp.authoring import in_batches
from probes import StateBank
from probes.contexts._layer_states import LayerStates
from probes.contexts._occurrences import Occurrences

K = 5
GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="reference")
    parser.add_argument("--stories", type=int, default=60)
    parser.add_argument("--asked", type=int, default=512)
    parser.add_argument("--states", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer", help="the folder that the published package was installed into")
    parser.add_argument("--weights", help="a Hugging Face folder of the same model, for the package")
    parser.add_argument("--only", nargs="+", default=["search", "building", "disk"])
    arguments = parser.parse_args()

    interp.options.progress = False
    warnings.simplefilter("ignore", interp.errors.WithoutTemplate)
    if arguments.peer:
        sys.path.insert(0, arguments.peer)
    subject = interp.load(arguments.model)
    subject.logits(["a"])  # verifies the model
    _ = subject.fingerprint  # hashed once per subject
    texts = interp.dataset("stories").head(arguments.stories)
    if "search" in arguments.only:
        searching(subject, texts, arguments)
    if "building" in arguments.only:
        building(subject, texts, arguments)
    if "disk" in arguments.only:
        from_disk(subject, arguments.states)


def searching(subject: interp.Subject, texts, arguments: argparse.Namespace) -> None:  # type: ignore[no-untyped-def]
    """Time a search of one layer beside its product, and beside the package's."""
    layer = subject.n_layers // 2
    bank = StateBank.of(subject, texts, layers=layer, truncate=True)
    asked = bank.at(layer).states(torch.randperm(len(bank), generator=torch.Generator().manual_seed(0)))
    noise = torch.randn(asked.shape, generator=torch.Generator().manual_seed(1)) * asked.std()
    asked = (asked + noise)[: arguments.asked]
    directions = torch.nn.functional.normalize(asked, dim=1)
    halves = bank.at(layer).units
    floats = halves.float()
    timed = {
        "product": lambda: directions @ floats.T,
        "product of halves": lambda: directions @ halves.float().T,
        "search, raw": lambda: bank.search(asked, layer, k=K, centre=False),
        "search, centred": lambda: bank.search(asked, layer, k=K),
    }
    if arguments.peer:
        from latentlens.index import ContextualIndex

        places = zip(bank.places.token_id.tolist(), bank.places.pos.tolist(), strict=True)
        words = [{"token_id": token, "position": pos} for token, pos in places]
        known = {"embeddings": floats, "metadata": words}  # the same numbers, so that ties are the same
        index = ContextualIndex({layer: known})
        timed["latentlens"] = lambda: index.search(asked, top_k=K)
    seconds = interleaved(timed, arguments.repeats, warm_up=1, clock=time.process_time)
    print(f"search of {len(asked)} vectors among {len(bank):,} states of {asked.shape[1]} dimensions, {K} neighbours")
    for name, value in seconds.items():
        print(f"  {name:18} {value * 1000:8.1f} ms   {value / seconds['product']:5.2f} x the product")
    if arguments.peer:
        _, ours = bank.search(asked, layer, k=K, centre=False)
        token, pos = bank.places.token_id[ours.numpy()], bank.places.pos[ours.numpy()]
        theirs = [[(one.token_id, one.position) for one in row] for row in index.search(asked, top_k=K)]
        same = np.mean([
            [(int(t), int(p)) == other for t, p, other in zip(*row, strict=True)]
            for row in zip(token, pos, theirs, strict=True)
        ])  # fmt: skip
        ratio = seconds["latentlens"] / seconds["search, raw"]
        print(f"  neighbours equal to latentlens': {same:.4f}; it takes {ratio:.1f} x ours")


def building(subject: interp.Subject, texts, arguments: argparse.Namespace) -> None:  # type: ignore[no-untyped-def]
    """Time the building of a bank beside its passes, and beside the package's."""
    tokens = subject.tokens(texts, truncate=True)

    def passes() -> None:
        for batch in in_batches(tokens, subject.batch_tokens(1), "passes"):
            subject.run(batch.ids, lambda tape: tape.last[:, -1].clone())

    bank = StateBank.of(subject, texts, truncate=True)
    timed = {"passes": passes, "StateBank.of": lambda: StateBank.of(subject, texts, truncate=True)}
    if arguments.peer and arguments.weights:
        from latentlens.extract import build_index
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(arguments.weights, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(arguments.weights, padding_side="right")
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        given = {"layers": list(bank.layers), "model": model, "tokenizer": tokenizer, "show_progress": False}
        timed["latentlens"] = lambda: build_index("", texts["text"].tolist(), **given)
    seconds = interleaved(timed, max(1, arguments.repeats // 2), warm_up=0, clock=time.process_time)
    n = sum(map(len, tokens.ids))
    print(f"building of {len(bank):,} states at {len(bank.layers)} layers from {n:,} tokens of {subject.name}")
    for name, value in seconds.items():
        print(f"  {name:18} {value:8.2f} s   {value / seconds['passes']:5.2f} x the passes")


def from_disk(subject: interp.Subject, n: int) -> None:
    """Search a bank of `n` random states in its file, within a sixteenth of their size."""
    d, layer, per_text = subject.d_model, 1, 1000
    generator = torch.Generator().manual_seed(0)
    units = torch.empty(n, d, dtype=torch.float16)
    for start in range(0, n, 50_000):
        part = torch.randn(min(50_000, n - start), d, generator=generator)
        units[start : start + len(part)] = torch.nn.functional.normalize(part, dim=1).half()
    number = np.arange(n)
    places = Occurrences(number // per_text, number % per_text, number % subject.d_vocab, number)
    texts = tuple(torch.arange(per_text) % subject.d_vocab for _ in range(-(-n // per_text)))
    about = {"max_per_token": n, "skip": 0, "dtype": "float16", "seed": 0}
    states = LayerStates(units, torch.ones(n), torch.zeros(d))
    whole = StateBank((layer,), (states,), places, texts, np.tile([0.0, 1.0], (1, 2, 1)), subject.name,
                      subject.fingerprint, about)  # fmt: skip
    asked = units[:: max(1, n // 64)][:64].float()
    with tempfile.TemporaryDirectory() as folder:
        path = whole.save(Path(folder) / "bank.safetensors")
        size, budget = path.stat().st_size, units.nbytes // 16
        del whole, states, units
        bank = StateBank.load(path)
        with interp.options.local(memory=budget), most_anonymous() as most:
            start = time.process_time()
            cosine, index = bank.search(asked, layer, k=K)
            seconds = time.process_time() - start
    found = float((index[:, 0] == torch.arange(len(asked)) * max(1, n // 64)).float().mean())
    print(f"search from disk: {len(asked)} vectors among {n:,} states, a file of {size / GIB:.2f} GiB")
    print(f"  {seconds:.2f} s; budget {budget / GIB:.3f} GiB, anonymous memory grew by {most[0] / GIB:.3f} GiB at most")
    print(f"  {found:.0%} found themselves, cosine {float(cosine[:, 0].min()):.3f} or more")


@contextmanager
def most_anonymous() -> Iterator[list[int]]:
    """Yield a list that holds the largest growth of anonymous memory in the end, in bytes, without pages of files."""
    most, done = [0], threading.Event()
    before = anonymous()

    def watch() -> None:
        while not done.wait(0.005):
            most[0] = max(most[0], anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


def anonymous() -> int:
    """Return the process's resident anonymous memory in bytes; 0 where the system does not report it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


if __name__ == "__main__":
    main()
