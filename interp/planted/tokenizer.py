"""Tokenizers of whole words: one word, one token."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from interp.errors import InputError


def word_tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    """Build a tokenizer of `vocab` words, split on whitespace, without special tokens.

    There is no BOS, padding or unknown token: every id is a word of the model, and a word outside the vocabulary raises
    an error.

    Args:
        vocab: number of words, at least 1; word `w{i}` has id i.

    Raises:
        InputError: `vocab` is below 1.

    >>> words = word_tokenizer(5)
    >>> words("w0 w3 w4")["input_ids"], words.decode([0, 3, 4])
    ([0, 3, 4], 'w0 w3 w4')
    """
    if vocab < 1:
        raise InputError(f"vocab is {vocab}; give at least 1 word.")
    return tokenizer_of([f"w{i}" for i in range(vocab)])


def tokenizer_of(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Build a tokenizer of words, split on whitespace, without special tokens; each word's id is its place.

    >>> tokenizer_of(["yes", "no"])("no no")["input_ids"]
    [1, 1]
    """
    core = Tokenizer(WordLevel({word: place for place, word in enumerate(words)}))
    core.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core)
