"""Tokenizers of every kind, and tiny models around them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import interp


def byte_level(pieces: list[str]) -> Tokenizer:
    alphabet_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({piece: place for place, piece in enumerate([*alphabet_, *pieces])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return core


def sentencepiece(pieces: list[str]) -> Tokenizer:
    """As Llama 2 marks spaces: a first space is stripped when a token is decoded alone."""
    core = Tokenizer(models.Unigram([("<unk>", 0.0), *((piece, -1.0) for piece in pieces)], unk_id=0))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return core


def word_piece(pieces: list[str]) -> Tokenizer:
    core = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    return core


KINDS = {"byte-level": byte_level, "sentencepiece": sentencepiece, "wordpiece": word_piece}


@pytest.fixture(scope="session")
def tokenizer_of() -> Callable[..., Tokenizer]:
    """`tokenizer_of(kind, pieces)`: a "byte-level", "sentencepiece" or "wordpiece" tokenizer."""
    return lambda kind, pieces: KINDS[kind](pieces)


@pytest.fixture(scope="session")
def subject_with() -> Callable[..., interp.Subject]:
    """`subject_with(core, n_rows, **special)`: a tiny model of so many rows around a tokenizer."""

    def build(core: Tokenizer, n_rows: int, **special: str) -> interp.Subject:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
        config = GPT2Config(vocab_size=n_rows, n_positions=8, n_embd=8, n_layer=1, n_head=1)
        return interp.load(GPT2LMHeadModel(config).eval(), tokenizer=tokenizer)

    return build
