"""Counts of adjacent token pairs in the training corpus: `python -m interp.reference.counts`.

The shipped file keeps the frequent pairs and the full counts of single tokens, so that the dropped mass is known.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy import sparse

from interp.data.bigram_counts import FILE_NAME, BigramCounts, tokens_sha256, vocabulary
from interp.data.pair_counts import counted_pairs
from interp.errors import InputError
from interp.reference.corpus import END_OF_TEXT, encode, read_corpus
from interp.reference.train import saved_tokenizer

MAX_BYTES = 6_000_000


def frequent_counts(pairs: sparse.csr_array, tokenizer_sha256: str, max_bytes: int = MAX_BYTES) -> BigramCounts:
    """Keep as many pairs as fit: use the smallest threshold whose saved form has at most `max_bytes` bytes.

    Raises:
        InputError: the counts of single tokens alone do not fit.
    """
    unigram, current = pairs.sum(axis=0), pairs.sum(axis=1)
    for threshold in range(1, int(pairs.max()) + 2):
        counts = BigramCounts(_at_least(pairs, threshold), unigram, current, threshold, tokenizer_sha256)
        if len(_packed(counts)) <= max_bytes:
            return counts
    raise InputError(f"the counts of {len(unigram):,} single tokens alone exceed {max_bytes:,} bytes; raise max_bytes.")


def _at_least(pairs: sparse.csr_array, threshold: int) -> sparse.csr_array:
    kept = pairs.copy()
    kept.data[kept.data < threshold] = 0
    kept.eliminate_zeros()
    return kept


def save_counts(counts: BigramCounts, path: str | Path) -> None:
    """Write counts as compressed numpy arrays; equal counts give equal bytes."""
    Path(path).write_bytes(_packed(counts))


def _packed(counts: BigramCounts) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        indptr=_smallest(counts.pairs.indptr),
        indices=_smallest(counts.pairs.indices),
        data=_smallest(counts.pairs.data),
        unigram=_smallest(counts.unigram),
        current=_smallest(counts.current),
        threshold=np.array(counts.threshold),
        tokenizer_sha256=np.array(counts.tokenizer_sha256),
    )
    return buffer.getvalue()


def _smallest(values: NDArray[np.integer]) -> NDArray[np.integer]:
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def card(counts: BigramCounts, n_pairs: int, n_bytes: int) -> str:
    """Return the dataset's README; `n_pairs` distinct pairs were counted, `n_bytes` is the file's size."""
    return f"""# bigrams

How often each token of the reference tokenizer follows each other token in the training text of the reference model,
which is named in the card of `reference`. These are statistics only: the text itself is not included, and the held-out
text is not counted.

`counts.npz`, {n_bytes:,} bytes, read by `interp.data.bigram_counts.load_counts()`:

| array | meaning |
|---|---|
| `indptr`, `indices`, `data` | counts of pairs as a CSR matrix [V, V]: row = current token, column = next token |
| `unigram` | how often each token occurs [V], complete |
| `current` | how often each token precedes another [V], complete; minus the row sums of the matrix: what was dropped |
| `threshold` | pairs seen less often than this are left out |
| `tokenizer_sha256` | hash of the vocabulary: its tokens in the order of their ids, joined by newlines |

| | |
|---|---|
| tokens counted | {counts.n_tokens:,} |
| vocabulary V | {len(counts.unigram):,} |
| distinct pairs seen | {n_pairs:,} |
| distinct pairs kept (`threshold` {counts.threshold}) | {counts.pairs.nnz:,} |
| share of the text's pairs they account for | {counts.mass_kept:.2%} |
| tokenizer_sha256 | `{counts.tokenizer_sha256}` |

Documents are counted end to end. Each one ends with `<|endoftext|>`, so this token precedes the first token of every
document.

Made by `python -m interp.reference.counts --corpus DIR --model DIR`. Sources: public-domain novels (Project Gutenberg)
and TinyStories (CDLA-Sharing-1.0, which puts no obligation on results computed from the data).
"""


def main(
    corpus: Annotated[Path, typer.Option(help="Folder with books/*.txt and tinystories_sample.txt.")],
    model: Annotated[Path, typer.Option(help="Folder of the trained model, whose tokenizer is used.")],
    out: Annotated[Path, typer.Option(help="Folder for counts.npz and README.md.")] = Path("datasets/bigrams"),
) -> None:
    """Count the training text's token pairs and save the frequent ones."""
    tokenizer = saved_tokenizer(model)
    tokens = vocabulary(tokenizer)
    stream = encode(tokenizer, read_corpus(corpus).train)
    pairs = counted_pairs([np.concatenate([[tokens.index(END_OF_TEXT)], stream.ids])], len(tokens))
    counts = frequent_counts(pairs, tokens_sha256(tokens))
    out.mkdir(parents=True, exist_ok=True)
    save_counts(counts, out / FILE_NAME)
    n_bytes = (out / FILE_NAME).stat().st_size
    (out / "README.md").write_text(card(counts, pairs.nnz, n_bytes))
    typer.echo(f"{counts.pairs.nnz:,} of {pairs.nnz:,} pairs, {counts.mass_kept:.2%} of the text, {n_bytes:,} bytes")


if __name__ == "__main__":
    typer.run(main)
