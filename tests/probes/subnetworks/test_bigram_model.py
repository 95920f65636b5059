"""Counts and their distributions against plain Python, and each way of backing off."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

import interp
from interp.data import pair_counts
from interp.data.bigram_counts import BigramCounts, load_counts
from interp.errors import InputError, ModelError, UnknownName
from interp.planted import bigram
from probes import BigramModel, bigram_model
from probes.subnetworks import _counting as counting
from probes.subnetworks.search._batches import DrawnContexts
from probes.subnetworks.search._targets import BigramTarget

V = 6


def model_of(pairs, unigram=None, current=None):
    pairs = np.asarray(pairs, dtype=float)
    unigram = pairs.sum(axis=0) if unigram is None else np.asarray(unigram, dtype=float)
    current = pairs.sum(axis=1) if current is None else np.asarray(current, dtype=float)
    return BigramModel(sparse.csr_array(pairs), unigram, current, "test")


@given(st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=9), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_counts_and_distributions_are_those_of_plain_python(documents):
    prompts = [torch.tensor(document) for document in documents]
    pairs = counting.counted_ids(prompts, V)
    counted = Counter(pair for one in documents for pair in pairwise(one))
    assert pairs.sum() == sum(counted.values())
    model = model_of(pairs.toarray())
    probs = model.probs(range(V))
    following = Counter(after for _, after in counted.elements())
    total = sum(counted.values())
    for current in range(V):
        n = sum(count for (before, _), count in counted.items() if before == current)
        for after in range(V):
            backoff = following[after] / total if total else 1 / V
            expected = counted[current, after] / n if n else backoff
            assert float(probs[current, after]) == pytest.approx(expected, abs=1e-12)
            bits = float(model.surprisal([current], [after])[0])
            assert bits == pytest.approx(-math.log2(expected) if expected else math.inf, abs=1e-9)
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(V).double(), atol=1e-12, rtol=0)


def test_backoff_to_unigram_then_uniform():
    model = model_of([[1, 3, 0], [0, 0, 0], [2, 2, 0]])
    assert model.probs([1])[0].tolist() == pytest.approx([3 / 8, 5 / 8, 0])  # an unseen context: the unigram's
    assert model.surprisal([1, 0], [0, 2]).tolist() == pytest.approx([math.log2(8 / 3), math.inf])
    assert model.backoff.tolist() == [0, 1, 0]
    nothing = model_of(np.zeros((4, 4)))
    assert nothing.probs([2]).tolist() == [[0.25] * 4] and nothing.unigram_surprisal([1]).tolist() == [2.0]


def test_dropped_pairs_are_spread_as_the_unigram():
    model = model_of([[6, 0], [2, 2]], unigram=[10, 4], current=[10, 4])  # four pairs after token 0 were not kept
    assert model.probs([0])[0].tolist() == pytest.approx([0.6 + 0.4 * 10 / 14, 0.4 * 4 / 14])
    assert float(model.surprisal([0], [1])[0]) == pytest.approx(-math.log2(0.4 * 4 / 14))


def test_entropy_is_the_planted_one():
    truth = bigram(vocab=9, seed=2).truth
    model = BigramModel.from_transition(truth.transition)
    torch.testing.assert_close(model.entropy(), truth.entropy(), atol=1e-12, rtol=0)
    torch.testing.assert_close(model.probs(range(9)), truth.transition, atol=1e-12, rtol=0)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_entropy_without_a_dense_row_is_that_of_dense_rows(seed):
    """Complete rows, rows that back off in part or wholly, tokens never seen: the closed form is the dense sum."""
    random = np.random.default_rng(seed)
    pairs = random.integers(0, 5, (40, 40)) * (random.random((40, 40)) < 0.2) * (random.random((40, 1)) < 0.8)
    dropped = random.integers(0, 30, 40) * (random.random(40) < 0.5)
    model = model_of(pairs, unigram=pairs.sum(axis=0) + random.integers(0, 3, 40), current=pairs.sum(axis=1) + dropped)
    dense = torch.special.entr(model.probs(range(40))).sum(dim=1)
    # Sums of 40 terms below 1 in another order; entr(s + b u) - entr(b u) loses no more than a bit.
    torch.testing.assert_close(model.entropy(), dense, atol=1e-13, rtol=0)


def test_a_large_vocabulary_costs_no_more_than_its_pairs():
    """A dense row of V = 262,144 is 2 MiB, all rows 512 GiB: counts, entropy and a training target take a few rows."""
    d_vocab, random = 262_144, np.random.default_rng(0)
    tracemalloc.start()
    model = BigramModel.from_counts(counts_of(random.zipf(1.3, 20_000) % d_vocab, d_vocab), "large")
    entropy = model.entropy()
    target = BigramTarget(model, torch.device("cpu"))
    DrawnContexts(model, (2, 8), start=(), seed=0).batch(0)
    peak = tracemalloc.get_traced_memory()[1]  # of numpy; torch's own tensors are the copies that it makes of these
    tracemalloc.stop()
    assert peak < 24 * 8 * d_vocab  # vectors of V, against 8 V^2 for a dense matrix
    some = model.pairs.indices[:50]
    dense = torch.special.entr(model.probs(some)).sum(dim=1)
    torch.testing.assert_close(entropy[some], dense, atol=1e-10, rtol=0)  # float64 sums of V terms
    assert torch.equal(target.begin(torch.from_numpy(some)[None])(slice(None)).entropy(), entropy[some].float())


def counts_of(ids, d_vocab):
    pairs = pair_counts.counted_pairs([ids], d_vocab)
    return BigramCounts(pairs, pairs.sum(axis=0), pairs.sum(axis=1), 1, "")


def test_shipped_counts_of_the_reference_model():
    model, counts = bigram_model("reference"), load_counts()
    row = counts.pairs[[40]].toarray()[0] / counts.current[40]
    np.testing.assert_allclose(model.probs([40])[0].numpy(), row, atol=1e-12)
    alien = interp.load("reference", tokenizer=bigram(vocab=12).tokenizer)
    with pytest.raises(ModelError, match="counted with another tokenizer"):
        bigram_model(alien)


def test_a_folder_is_read_piece_by_piece(tmp_path, small_subject, monkeypatch):
    """Pieces of a line and sums of a few pairs give the counts of whole documents; none crosses a document's end."""
    subject = small_subject("gpt2", "bridge")
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("w3 w4\nw5 w3\nw4 w4\n" * 5)
    (tmp_path / "sub" / "b.txt").write_text("w6 w3")
    whole = bigram_model(subject, tmp_path)
    monkeypatch.setattr(counting, "_PIECE", 5)
    monkeypatch.setattr(counting, "_AT_ONCE", 8)
    monkeypatch.setattr(pair_counts, "_AT_ONCE", 2)
    pieces = bigram_model(subject, tmp_path)
    assert (pieces.pairs != whole.pairs).nnz == 0 and pieces.digest == whole.digest
    texts = bigram_model(subject, (path.read_text() for path in (tmp_path / "a.txt", tmp_path / "sub" / "b.txt")))
    assert texts.digest == whole.digest
    assert whole.pairs[4, 6] == 0 and whole.pairs[6, 3] == 1 and whole.pairs[1, 6] == 1  # <s> w6 w3


def test_a_document_is_counted_whole_behind_the_whole_start(tmp_path, small_model):
    """A byte-order mark, a tokenizer's own truncation and a start of two tokens: none changes what is counted."""
    vocabulary = {"[gMASK]": 0, "<sop>": 1} | {f"w{index}": index for index in range(2, 61)}
    core = Tokenizer(WordLevel(vocabulary))
    core.pre_tokenizer = WhitespaceSplit()
    start = [("[gMASK]", 0), ("<sop>", 1)]
    core.post_processor = TemplateProcessing(single="[gMASK] <sop> $A", special_tokens=start)
    core.enable_truncation(max_length=3)
    subject = interp.load(small_model("gpt2"), tokenizer=PreTrainedTokenizerFast(tokenizer_object=core))
    (tmp_path / "a.txt").write_bytes("\ufeffw5 w6\nw7 w8".encode())
    counted = bigram_model(subject, tmp_path).pairs.tocoo()
    found = list(zip(counted.row.tolist(), counted.col.tolist(), strict=True))
    assert found == [(0, 1), (1, 5), (5, 6), (6, 7), (7, 8)]


def test_counting_says_how_far_it_is(small_subject, monkeypatch):
    """From the first group of texts on; without a known length, what was read alone."""
    seen = []

    @contextmanager
    def bar(total, unit, label, *, n_steps):
        shown = SimpleNamespace(n=0, total=total, steps=n_steps, label=label)
        shown.update = lambda n: setattr(shown, "n", shown.n + n) or seen.append((shown.n, shown.total, shown.steps))
        yield shown

    monkeypatch.setattr(counting, "progress_bar", bar)
    monkeypatch.setattr(counting, "_AT_ONCE", 3000)
    subject, texts = small_subject("gpt2", "bridge"), ["w3 w4 " * 200] * 5  # of 1,200 characters
    bigram_model(subject, texts)
    assert seen == [(3, 6, 3), (6, 6, 3)]
    seen.clear()
    bigram_model(subject, iter(texts))
    assert seen == [(3, 0, 2), (6, 0, 2)]


def test_a_frame_and_a_mapping_are_not_counted_by_their_columns(small_subject):
    subject = small_subject("gpt2", "bridge")
    texts = ["w3 w4 w5", "w6 w3"]
    of_frame = bigram_model(subject, pd.DataFrame({"group": ["w7", "w8"], "text": texts}))
    assert of_frame.digest == bigram_model(subject, texts).digest
    mapping = ({"text": texts}, "give a text, a path, a list of texts, a DataFrame")
    for unread, says in (mapping, (set(texts), "a set of texts has no order")):
        with pytest.raises(InputError, match=says):
            bigram_model(subject, unread)


def test_saved_and_loaded_is_the_same(tmp_path):
    model = model_of([[1, 3], [0, 0]])
    again = BigramModel.load(model.save(tmp_path / "counts"))
    assert again.digest == model.digest and again.corpus == "test" and again.tokenizer_sha256 is None
    with pytest.raises(InputError, match="no bigram model can be read"):
        BigramModel.load(tmp_path / "absent.npz")


def test_bad_input_is_named(tmp_path, small_subject):
    subject = small_subject("gpt2", "bridge")
    with pytest.raises(ModelError, match=r"more tokens than the 61|counted with another tokenizer"):
        bigram_model(subject)
    with pytest.raises(UnknownName, match="unknown corpus"):
        bigram_model(subject, "nowhere")
    with pytest.raises(InputError, match=r"has no \.txt file"):
        bigram_model(subject, tmp_path)
    with pytest.raises(InputError, match="no two adjacent tokens"):
        bigram_model(subject, torch.tensor([[5]]))
    with pytest.raises(InputError, match="token ids run from 0 to 9"):
        model_of(np.eye(3)).probs([0, 9])
    with pytest.raises(InputError, match="negative or infinite"):
        model_of([[-1, 0], [0, 1]], unigram=[1, 1], current=[1, 1])
    with pytest.raises(InputError, match="sums to more"):
        model_of([[5, 0], [0, 1]], unigram=[5, 1], current=[1, 1])
    with pytest.raises(InputError, match="do not sum to 1"):
        BigramModel.from_transition(torch.ones(2, 2))
