"""Small tokenizers of each kind, and what they do by brute force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordPiece
from transformers import PreTrainedTokenizerFast

MERGES = [("a", "b"), ("c", "a"), ("b", "c"), ("ab", "c"), ("ca", "b"), ("abc", "ab")]
PIECES = ["a", "b", "c", *("".join(pair) for pair in MERGES)]


def wrapped(core: Tokenizer, **options: Any) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=core, **options)


def letters(**options: Any) -> PreTrainedTokenizerFast:
    """Byte-pair encoding of three letters, nine tokens, without words."""
    core = Tokenizer(BPE({piece: index for index, piece in enumerate(PIECES)}, MERGES, **options))
    core.decoder = decoders.Fuse()
    return wrapped(core)


def byte_level(words: Sequence[str] = (), **options: Any) -> PreTrainedTokenizerFast:
    """GPT-2's kind: all bytes, and merges that make words, each from its left."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab, merges = {piece: index for index, piece in enumerate(alphabet)}, []
    for word in words:
        for stop in range(2, len(word) + 1):
            if word[:stop] not in vocab:
                vocab[word[:stop]] = len(vocab)
                merges.append((word[: stop - 1], word[stop - 1]))
    core = Tokenizer(BPE(vocab, merges, **options))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return wrapped(core)


def sentencepiece() -> PreTrainedTokenizerFast:
    """Llama 2's kind: a space before every text, and bytes for characters that are not in the vocabulary."""
    pieces = [
        "<unk>",
        "<s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "i",
        "n",
        "g",
        "s",
        "é",
        "in",
        "ing",
        "▁s",
    ]
    merges = [("i", "n"), ("in", "g"), ("▁", "s")]
    core = Tokenizer(
        BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return wrapped(core, unk_token="<unk>", bos_token="<s>")


def wordpiece() -> PreTrainedTokenizerFast:
    """BERT's kind, of a few words in small letters."""
    pieces = ["[UNK]", "play", "##ing", "##s", "sing", "ing", "in", "##g", "s", "."]
    core = Tokenizer(WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return wrapped(core, unk_token="[UNK]")


def strings(alphabet: str, longest: int) -> Iterator[str]:
    """Yield all strings of 1 letter up to `longest`."""
    for n in range(1, longest + 1):
        yield from map("".join, product(alphabet, repeat=n))


def spellings(spelt: Sequence[bytes | None], text: bytes) -> Iterator[tuple[int, ...]]:
    """Yield every token sequence that spells a text, by trying every token at every place."""
    if not text:
        yield ()
    for index, one in enumerate(spelt):
        if one and text.startswith(one):
            for rest in spellings(spelt, text[len(one) :]):
                yield (index, *rest)
