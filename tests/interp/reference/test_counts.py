from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from interp.data.bigram_counts import BigramCounts, load_counts, tokens_sha256, vocabulary
from interp.data.pair_counts import counted_pairs
from interp.errors import InputError
from interp.reference.corpus import encode, read_corpus
from interp.reference.counts import frequent_counts, main, save_counts
from interp.reference.train import saved_tokenizer

BOS, V = 0, 200


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    """Tokens with a long tail, as text has; two of them never occur."""
    return (np.random.default_rng(0).zipf(1.3, 20_000) % (V - 2)).astype(np.int32)


@pytest.fixture(scope="module")
def pairs(ids: np.ndarray) -> sparse.csr_array:
    return counted_pairs([np.concatenate([[BOS], ids])], V)


def same(a: BigramCounts, b: BigramCounts) -> bool:
    arrays = ("unigram", "current")
    return (
        (a.pairs != b.pairs).nnz == 0
        and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)
        and (a.threshold, a.tokenizer_sha256) == (b.threshold, b.tokenizer_sha256)
    )


def test_pairs_are_those_a_loop_counts(ids: np.ndarray, pairs: sparse.csr_array) -> None:
    loop = Counter(zip([BOS, *ids[:-1].tolist()], ids.tolist(), strict=True))
    coo = pairs.tocoo()
    assert dict(zip(zip(coo.row.tolist(), coo.col.tolist(), strict=True), coo.data.tolist(), strict=True)) == loop
    assert pairs.sum() == len(ids)


def test_counts_survive_the_file(pairs: sparse.csr_array, tmp_path: Path) -> None:
    counts = frequent_counts(pairs, "some digest")
    save_counts(counts, tmp_path / "one.npz")
    loaded = load_counts(tmp_path / "one.npz")
    assert same(counts, loaded)
    assert loaded.pairs.dtype == loaded.unigram.dtype == np.int64
    save_counts(loaded, tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_a_damaged_file_is_refused(pairs: sparse.csr_array, tmp_path: Path) -> None:
    save_counts(frequent_counts(pairs, ""), tmp_path / "whole.npz")
    with np.load(tmp_path / "whole.npz") as saved:
        arrays = {**saved, "indices": saved["indices"].astype(np.int64) + V}
    np.savez_compressed(tmp_path / "damaged.npz", **arrays)
    with pytest.raises(ValueError, match="indices"):
        load_counts(tmp_path / "damaged.npz")


def test_all_pairs_are_kept_where_they_fit(ids: np.ndarray, pairs: sparse.csr_array) -> None:
    counts = frequent_counts(pairs, "")
    assert counts.threshold == 1
    assert counts.mass_kept == 1
    assert not counts.dropped.any()
    assert counts.n_tokens == len(ids)
    assert np.array_equal(counts.unigram, np.bincount(ids, minlength=V))
    assert np.array_equal(counts.current, np.bincount([BOS, *ids[:-1]], minlength=V))


def test_the_smallest_threshold_that_fits_is_chosen(pairs: sparse.csr_array, tmp_path: Path) -> None:
    sizes = {}
    for threshold in range(1, 8):
        kept = pairs.toarray() * (pairs.toarray() >= threshold)
        full = frequent_counts(pairs, "")
        save_counts(replace(full, pairs=sparse.csr_array(kept), threshold=threshold), tmp_path / "some.npz")
        sizes[threshold] = (tmp_path / "some.npz").stat().st_size
    counts = frequent_counts(pairs, "", max_bytes=sizes[4])
    assert counts.threshold == 4, sizes
    assert counts.pairs.data.min() == 4
    dense = pairs.toarray()
    assert np.array_equal(counts.pairs.toarray(), np.where(dense >= 4, dense, 0))
    assert np.array_equal(counts.dropped, np.where(dense < 4, dense, 0).sum(axis=1))
    assert counts.mass_kept == pytest.approx(dense[dense >= 4].sum() / dense.sum())
    assert pairs.data.min() == 1, "the counts passed in are left as they were"


def test_a_budget_below_the_single_tokens_is_refused(pairs: sparse.csr_array) -> None:
    with pytest.raises(InputError, match="single tokens"):
        frequent_counts(pairs, "", max_bytes=100)


def test_the_command_counts_the_training_text_only(corpus_folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    main(corpus_folder, tiny_model, tmp_path)
    counts = load_counts(tmp_path / "counts.npz")
    tokenizer = saved_tokenizer(tiny_model)
    text = encode(tokenizer, read_corpus(corpus_folder).train)
    assert np.array_equal(counts.unigram, np.bincount(text.ids, minlength=tokenizer.get_vocab_size()))
    assert counts.tokenizer_sha256 == tokens_sha256(vocabulary(tokenizer))
    card = (tmp_path / "README.md").read_text()
    assert f"{len(text.ids):,}" in card
    assert counts.tokenizer_sha256 in card
