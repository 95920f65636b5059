"""A tokenizer whose words are `w0`, `w1`, ...: one word, one token."""

from __future__ import annotations

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
    core = Tokenizer(WordLevel({f"w{i}": i for i in range(vocab)}))
    core.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core)
