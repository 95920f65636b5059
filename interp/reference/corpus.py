"""The reference model's text: the training and held-out documents, and their windows of tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

END_OF_TEXT = "<|endoftext|>"
HELD_OUT_BOOKS = ("Alice-s-Adventures-in-Wonderland_11.txt", "The-Time-Machine_35.txt")
HELD_OUT_STORIES = 200


@dataclass(frozen=True)
class Corpus:
    """A corpus of documents, each a list of paragraphs: `train` for training, `held_out` by name for evaluation."""

    train: list[list[str]]
    held_out: dict[str, list[list[str]]]


def read_corpus(folder: str | Path) -> Corpus:
    """Read `books/*.txt` (one paragraph per line) and `tinystories_sample.txt` under `folder`.

    Raises:
        FileNotFoundError: `folder` lacks the books or the stories.
    """
    folder = Path(folder)
    books = {path.name: _paragraphs(path.read_text("utf-8")) for path in sorted(folder.glob("books/*.txt"))}
    stories_file = folder / "tinystories_sample.txt"
    if not books or not stories_file.is_file():
        raise FileNotFoundError(f"{folder} has no books/*.txt or no tinystories_sample.txt; pass another --corpus.")
    stories = [_paragraphs(story) for story in stories_file.read_text("utf-8").split(END_OF_TEXT)]
    stories = [story for story in stories if story]
    held_books = {name.split("_")[0]: [books.pop(name)] for name in HELD_OUT_BOOKS if name in books}
    return Corpus(
        train=[*books.values(), *stories[:-HELD_OUT_STORIES]],
        held_out={**held_books, "stories": stories[-HELD_OUT_STORIES:]},
    )


def _paragraphs(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def train_tokenizer(documents: list[list[str]], vocab_size: int) -> Tokenizer:
    """Train byte-level BPE like GPT-2's, with one special token that begins and ends every document."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(("\n".join(document) for document in documents), trainer)
    return tokenizer


@dataclass(frozen=True)
class TokenStream:
    """The tokens of all paragraphs end to end, each paragraph with its newline, and the paragraphs' offsets.

    Attributes:
        ids: int32 [n_tokens].
        starts: int64 [n_paragraphs], offsets into `ids`.
        begins_document: bool [n_paragraphs].
        n_bytes: UTF-8 bytes of the text.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    begins_document: NDArray[np.bool_]
    n_bytes: int

    @property
    def digest(self) -> str:
        """SHA-256 of the token ids, which identifies the text and its tokenisation."""
        return hashlib.sha256(self.ids.tobytes()).hexdigest()


def encode(tokenizer: Tokenizer, documents: list[list[str]]) -> TokenStream:
    """Tokenise documents and end each with the end-of-text token."""
    end = np.int32(tokenizer.token_to_id(END_OF_TEXT) or 0)  # the first special token, id 0
    pieces: list[NDArray[np.int32]] = []
    first: list[bool] = []
    n_bytes = 0
    for document in documents:
        lines = [paragraph + "\n" for paragraph in document[:-1]] + document[-1:]
        encoded = [np.array(encoding.ids, dtype=np.int32) for encoding in tokenizer.encode_batch_fast(lines)]
        encoded[-1] = np.append(encoded[-1], end)
        pieces += encoded
        first += [True] + [False] * (len(lines) - 1)
        n_bytes += sum(len(line.encode()) for line in lines)
    lengths = np.array([len(piece) for piece in pieces])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return TokenStream(np.concatenate(pieces), starts, np.array(first), n_bytes)


def windows(stream: TokenStream, context: int, bos: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Cut one pass over the text into windows [n, context], shuffled, each beginning with `bos`.

    A window holds `context - 1` tokens of text. The next one begins at the last paragraph that starts inside it (or
    right after it, inside a longer paragraph). Position 0 is always the start-of-text token, as in a user's prompt.
    The first offset is random, so every pass has different windows.
    """
    length = context - 1
    offsets = list(_window_offsets(stream, length, int(rng.integers(0, 8))))
    cut = np.stack([stream.ids[offset : offset + length] for offset in offsets])
    out = np.concatenate([np.full((len(cut), 1), bos, dtype=np.int32), cut], axis=1)
    rng.shuffle(out)
    return out


def _window_offsets(stream: TokenStream, length: int, first_paragraph: int) -> Iterator[int]:
    offset = int(stream.starts[first_paragraph])
    while offset + length <= len(stream.ids):
        yield offset
        end = offset + length
        next_start = int(stream.starts[np.searchsorted(stream.starts, end, side="right") - 1])
        # Starting at a paragraph in the window's first half would repeat most of the window: cut inside it instead.
        offset = next_start if next_start > offset + length // 2 else end
