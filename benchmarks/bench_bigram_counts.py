"""Compare the counting of a corpus's bigrams with peers, and say what tokenising the same corpus takes.

    python benchmarks/bench_bigram_counts.py [--corpus FILE_OR_FOLDER] [--model reference] [--repeats 3] [--processor]

Prints one line each, on the same token ids: our counter; numpy.unique of pairs; scipy's COO to CSR; a Counter of plain
Python; tokengrams' suffix array, where that package is installed, which answers longer n-grams too; and the tokenizer
that made the ids, of one text after the other and of several at once, as `bigram_model` gives them to it. Without a
corpus the shipped texts are read. Seconds depend on the machine; quote the ratios.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from itertools import pairwise

import numpy as np
from _timing import extra_memory, interleaved
from scipy import sparse

import interp
from interp.authoring import text_ids
from interp.data.pair_counts import counted_pairs
from probes.subnetworks._counting import _together, documents_of

try:
    from tokengrams import InMemoryIndex
except ImportError:
    InMemoryIndex = None

TOKENGRAMS_MOST = 2**16  # the largest vocabulary of its 16-bit index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default="stories")
    parser.add_argument("--model", default="reference")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processor", action="store_true", help="processor seconds, for a machine with other work")
    arguments = parser.parse_args()

    subject = interp.load(arguments.model)
    clock = time.process_time if arguments.processor else time.perf_counter
    groups = [[text for _, text in group] for group in _together(documents_of(arguments.corpus).pieces)]

    def together() -> list[list[int]]:
        return [ids for group in groups for ids in text_ids(group, subject.tokenizer)]

    ids = np.concatenate([np.array(one, dtype=np.int64) for one in together()])
    d_vocab = subject.d_vocab
    current, following = ids[:-1], ids[1:]

    def scipys() -> sparse.csr_array:
        ones = np.ones(len(current))
        return sparse.csr_array(sparse.coo_array((ones, (current, following)), shape=(d_vocab, d_vocab)))

    counters = {
        "ours": lambda: counted_pairs([ids], d_vocab),
        "numpy.unique": lambda: np.unique(current * d_vocab + following, return_counts=True),
        "scipy COO": scipys,
        "plain Counter": lambda: Counter(pairwise(ids.tolist())),
    }
    if InMemoryIndex is not None and d_vocab <= TOKENGRAMS_MOST:
        counters["tokengrams"] = lambda: InMemoryIndex(ids.tolist(), d_vocab)
    assert (scipys() != counted_pairs([ids], d_vocab)).nnz == 0

    tokenising = {
        "tokenise, text by text": lambda: [text_ids([text], subject.tokenizer) for group in groups for text in group],
        "tokenise, together": together,
    }
    seconds = interleaved(counters, arguments.repeats, warm_up=1, clock=clock)
    seconds |= interleaved(tokenising, 1, clock=clock)
    print(f"{len(ids):,} tokens, vocabulary {d_vocab:,}, {len(groups)} groups of texts")
    for name, value in seconds.items():
        print(f"  {name:24s} {value:8.3f} s   {value / seconds['ours']:7.2f} x ours")
    memory = extra_memory(lambda: counted_pairs([ids], d_vocab))
    if memory is not None:
        print(f"  memory of our counter {memory / 2**20:.0f} MiB, {memory / (8 * len(ids)):.1f} x the ids")


if __name__ == "__main__":
    main()
