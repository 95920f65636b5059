from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.reference.corpus import (
    END_OF_TEXT,
    HELD_OUT_BOOKS,
    HELD_OUT_STORIES,
    TokenStream,
    encode,
    read_corpus,
    train_tokenizer,
    windows,
)

BOS = 1_000_000


def stream_of(lengths: list[int]) -> TokenStream:
    """Paragraphs of these lengths whose tokens are 0, 1, 2, ...: a token says where it stood."""
    n = sum(lengths)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    return TokenStream(np.arange(n, dtype=np.int32), starts, np.ones(len(lengths), dtype=bool), n)


def words_of(documents: list[list[str]]) -> set[str]:
    return {word for document in documents for paragraph in document for word in paragraph.split()}


def test_held_out_documents_are_never_trained_on(corpus_folder: Path) -> None:
    corpus = read_corpus(corpus_folder)
    held_out = [document for documents in corpus.held_out.values() for document in documents]
    # Every document begins each of its parts with a word no other document has: BookN or StoryN.
    own_words = {word for word in words_of(held_out) if word.startswith(("Book", "Story"))}
    assert len(own_words) == len(HELD_OUT_BOOKS) + HELD_OUT_STORIES
    assert not own_words & words_of(corpus.train)


def test_the_last_stories_and_the_two_books_are_held_out(corpus_folder: Path) -> None:
    corpus = read_corpus(corpus_folder)
    assert list(corpus.held_out) == ["Alice-s-Adventures-in-Wonderland", "The-Time-Machine", "stories"]
    assert len(corpus.held_out["stories"]) == HELD_OUT_STORIES
    assert corpus.held_out["stories"][-1][0].startswith(f"Story{40 + HELD_OUT_STORIES - 1} ")
    assert len(corpus.train) == 2 + 40


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--corpus"):
        read_corpus(tmp_path)


def test_encode_keeps_the_text_and_marks_its_parts() -> None:
    documents = [["One fine day", "the fox ran."], ["Ünder the moon"]]
    tokenizer = train_tokenizer(documents, 280)
    stream = encode(tokenizer, documents)
    assert tokenizer.decode(stream.ids.tolist(), skip_special_tokens=False) == (
        f"One fine day\nthe fox ran.{END_OF_TEXT}Ünder the moon{END_OF_TEXT}"
    )
    assert stream.n_bytes == len("One fine day\nthe fox ran.Ünder the moon".encode())
    assert stream.begins_document.tolist() == [True, False, True]
    parts = [tokenizer.decode(part.tolist()) for part in np.split(stream.ids, stream.starts[1:])]
    assert parts == ["One fine day\n", "the fox ran.", "Ünder the moon"]
    assert stream.digest != encode(tokenizer, documents[:1]).digest


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=8, max_size=60), st.integers(4, 24), st.integers(0, 5))
def test_windows_begin_with_bos_and_tile_the_text(lengths: list[int], context: int, seed: int) -> None:
    stream, length = stream_of([*lengths, 8 * context]), context - 1
    cut = windows(stream, context, BOS, np.random.default_rng(seed))
    assert (cut[:, 0] == BOS).all()
    assert (np.diff(cut[:, 1:], axis=1) == 1).all(), "a window is consecutive text"
    firsts = np.sort(cut[:, 1])
    assert firsts[0] in stream.starts[:8]
    # No gap, no window inside the one before, and the leftover at the end is too short for a window.
    steps = np.diff(firsts)
    assert (steps <= length).all()
    assert (steps > length // 2).all()
    assert len(stream.ids) - (firsts[-1] + length) < length
    # A window begins a paragraph or goes on where the last one ended.
    assert all(first in stream.starts or step == length for first, step in zip(firsts[1:], steps, strict=True))


def test_windows_are_shuffled_by_the_generator_alone() -> None:
    stream = stream_of([7] * 200)
    first, again, other = (windows(stream, 16, BOS, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    assert not np.array_equal(first, other)
    assert (np.diff(first[:, 1]) < 0).any(), "not in the order of the text"
