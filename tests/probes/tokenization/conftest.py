"""A tokenizer of nine tokens and a random model that reads it, and what it says by brute force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from torch import nn
from transformers import PreTrainedTokenizerFast

import interp

MERGES = [("a", "b"), ("c", "a"), ("b", "c"), ("ab", "c"), ("ca", "b"), ("abc", "ab")]
PIECES = ["a", "b", "c", *("".join(pair) for pair in MERGES)]
END = len(PIECES)


def bpe(pieces: Sequence[str], merges: Sequence[tuple[str, str]], end: bool = True) -> PreTrainedTokenizerFast:
    """Byte-pair encoding of letters without words, and a token that begins and ends texts."""
    core = Tokenizer(BPE({piece: index for index, piece in enumerate(pieces)}, list(merges)))
    core.decoder = decoders.Fuse()
    special = {"bos_token": "<end>", "eos_token": "<end>"} if end else {}
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


class BruteForce:
    """Probabilities of texts by trying every token sequence, with plain PyTorch."""

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.following = cache(self._following)

    def _following(self, ids: tuple[int, ...]) -> np.ndarray:
        with torch.no_grad():
            logits = self.model(torch.tensor([[END, *ids]])).logits
        return logits[0, -1].double().softmax(-1).numpy()

    def sequence(self, ids: Sequence[int]) -> float:
        """The probability of a token sequence after the start."""
        return float(np.prod([self.following(tuple(ids[:n]))[one] for n, one in enumerate(ids)]))

    def encoding(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def canonical(self, ids: Sequence[int]) -> bool:
        return self.encoding("".join(PIECES[one] for one in ids)) == tuple(ids)

    def covers(self, text: str, *, canonical: bool = True) -> list[tuple[int, ...]]:
        """Every sequence whose last token alone reaches or passes the end of a text."""
        found = list(self._covers(text))
        return [one for one in found if self.canonical(one)] if canonical else found

    def _covers(self, text: str) -> Iterator[tuple[int, ...]]:
        for index, piece in enumerate(PIECES):
            if piece.startswith(text):
                yield (index,)
            elif text.startswith(piece):
                yield from ((index, *rest) for rest in self._covers(text[len(piece) :]))

    def text(self, text: str, *, canonical: bool = True) -> float:
        """The probability that what is written begins with a text."""
        return sum(map(self.sequence, self.covers(text, canonical=canonical))) if text else 1.0


@pytest.fixture(scope="session")
def toy(small_model):
    """The model in float64 as a subject, and its brute force."""
    tokenizer = bpe(PIECES, MERGES)
    model = small_model("llama", vocab_size=END + 1, num_hidden_layers=2, bos_token_id=END, eos_token_id=END).double()
    return interp.load(model, tokenizer=tokenizer), BruteForce(model, tokenizer)
