"""How often each token follows each other in the training corpus: `python -m interp.reference.counts`.

The shipped file keeps the frequent pairs and the full counts of single tokens, so that what was dropped is known.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy import sparse
from tokenizers import Tokenizer

from interp.errors import InputError
from interp.reference.corpus import END_OF_TEXT, encode, read_corpus
from interp.reference.train import saved_tokenizer
from interp.shipped import shipped_path

FILE_NAME = "counts.npz"
MAX_BYTES = 6_000_000


@dataclass(frozen=True)
class BigramCounts:
    """Counts of adjacent tokens in a corpus of `n_tokens` tokens, the first one preceded by start-of-text.

    Attributes:
        pairs: int64 CSR [V, V]; row = current token, column = the token after it. Only pairs seen `threshold` times
            or more; 0 elsewhere.
        unigram: int64 [V], how often each token is predicted, that is, occurs. Complete: sums to `n_tokens`.
        current: int64 [V], how often each token is the one before. Complete: sums to `n_tokens`.
        threshold: smallest count kept in `pairs`.
        tokenizer_sha256: `tokens_sha256` of the tokenizer that cut the text.
    """

    pairs: sparse.csr_array
    unigram: NDArray[np.int64]
    current: NDArray[np.int64]
    threshold: int
    tokenizer_sha256: str

    @property
    def n_tokens(self) -> int:
        """Tokens counted, equal to the number of pairs before any were dropped."""
        return int(self.unigram.sum())

    @property
    def mass_kept(self) -> float:
        """Fraction of the corpus's pairs that `pairs` accounts for."""
        return float(self.pairs.sum() / self.n_tokens)

    @property
    def dropped(self) -> NDArray[np.int64]:
        """How many pairs of each row were dropped, int64 [V]."""
        kept: NDArray[np.int64] = self.pairs.sum(axis=1)
        return self.current - kept


def count_bigrams(ids: NDArray[np.int32], bos: int, vocab_size: int) -> sparse.csr_array:
    """Every adjacent pair of `[bos, *ids]`, int64 CSR [V, V]; sums to `len(ids)`."""
    before = np.concatenate([[bos], ids[:-1]])
    ones = np.ones(len(ids), dtype=np.int64)
    counts = sparse.csr_array(sparse.coo_array((ones, (before, ids)), shape=(vocab_size, vocab_size)))
    counts.sum_duplicates()
    return counts


def frequent_counts(pairs: sparse.csr_array, tokenizer_sha256: str, max_bytes: int = MAX_BYTES) -> BigramCounts:
    """Keep as many pairs as fit: the smallest threshold whose saved form has at most `max_bytes` bytes.

    Raises:
        InputError: not even the counts of single tokens fit.
    """
    unigram, current = pairs.sum(axis=0), pairs.sum(axis=1)
    for threshold in range(1, int(pairs.max()) + 2):
        counts = BigramCounts(_at_least(pairs, threshold), unigram, current, threshold, tokenizer_sha256)
        if len(_packed(counts)) <= max_bytes:
            return counts
    raise InputError(f"the counts of {len(unigram):,} single tokens alone exceed {max_bytes:,} bytes.")


def _at_least(pairs: sparse.csr_array, threshold: int) -> sparse.csr_array:
    kept = pairs.copy()
    kept.data[kept.data < threshold] = 0
    kept.eliminate_zeros()
    return kept


def tokens_sha256(tokens: Sequence[str]) -> str:
    """SHA-256 of a vocabulary, its tokens in the order of their ids: the same however the tokenizer was saved."""
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """The tokens in the order of their ids."""
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def save_counts(counts: BigramCounts, path: str | Path) -> None:
    """Write compressed numpy arrays; equal counts give equal bytes."""
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


def load_counts(path: str | Path | None = None) -> BigramCounts:
    """Read what `save_counts` wrote; by default the shipped counts of the reference model's training text.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    with np.load(shipped_path("bigrams") / FILE_NAME if path is None else path, allow_pickle=False) as saved:
        arrays = {name: saved[name].astype(np.int64) for name in ("indptr", "indices", "data", "unigram", "current")}
        threshold, digest = int(saved["threshold"]), str(saved["tokenizer_sha256"])
    n = len(arrays["unigram"])
    pairs = sparse.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(n, n))
    pairs.check_format(full_check=True)
    return BigramCounts(pairs, arrays["unigram"], arrays["current"], threshold, digest)


def card(counts: BigramCounts, n_pairs: int, n_bytes: int) -> str:
    """The dataset's README, with its numbers; `n_pairs` distinct pairs were counted, `n_bytes` is the file's size."""
    return f"""# bigrams

How often each token of the reference tokenizer follows each other one in the reference model's training text (the
card of `reference` names it). Statistics only: the text itself is not here, and the held-out text is not counted.

`counts.npz`, {n_bytes:,} bytes, read by `interp.reference.counts.load_counts()`:

| array | meaning |
|---|---|
| `indptr`, `indices`, `data` | counts of pairs as a CSR matrix [V, V]: row = current token, column = the next one |
| `unigram` | how often each token occurs [V], complete |
| `current` | how often each token comes before another [V], complete: less the matrix's row sum, what was dropped |
| `threshold` | pairs seen less often are left out |
| `tokenizer_sha256` | of the vocabulary, its tokens joined by newlines in the order of their ids |

| | |
|---|---|
| tokens counted | {counts.n_tokens:,} |
| vocabulary V | {len(counts.unigram):,} |
| distinct pairs seen | {n_pairs:,} |
| distinct pairs kept (`threshold` {counts.threshold}) | {counts.pairs.nnz:,} |
| share of the text's pairs they account for | {counts.mass_kept:.2%} |
| tokenizer_sha256 | `{counts.tokenizer_sha256}` |

Documents are counted end to end, each closed by `<|endoftext|>`, which therefore precedes the first token of every
document.

Made by `python -m interp.reference.counts --corpus DIR --model DIR`. Sources: public-domain novels (Project Gutenberg)
and TinyStories (CDLA-Sharing-1.0, which puts no obligation on results computed from the data).
"""


def main(
    corpus: Annotated[Path, typer.Option(help="Folder with books/*.txt and tinystories_sample.txt.")],
    model: Annotated[Path, typer.Option(help="Folder of the trained model; its tokenizer cuts the text.")],
    out: Annotated[Path, typer.Option(help="counts.npz and README.md go here.")] = Path("datasets/bigrams"),
) -> None:
    """Count the training text's token pairs and save the frequent ones."""
    tokenizer = saved_tokenizer(model)
    tokens = vocabulary(tokenizer)
    stream = encode(tokenizer, read_corpus(corpus).train)
    pairs = count_bigrams(stream.ids, tokens.index(END_OF_TEXT), len(tokens))
    counts = frequent_counts(pairs, tokens_sha256(tokens))
    out.mkdir(parents=True, exist_ok=True)
    save_counts(counts, out / FILE_NAME)
    n_bytes = (out / FILE_NAME).stat().st_size
    (out / "README.md").write_text(card(counts, pairs.nnz, n_bytes))
    typer.echo(f"{counts.pairs.nnz:,} of {pairs.nnz:,} pairs, {counts.mass_kept:.2%} of the text, {n_bytes:,} bytes")


if __name__ == "__main__":
    typer.run(main)
