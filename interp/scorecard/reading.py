"""Sums per text of what a tokenizer does to it, of which every ratio of the scorecard is made."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from interp.tokenization import Vocabulary, log_n_encodings, shortest, text_ids, token_bytes
from interp.tokenization.scripts import script

SPECIAL, PIECE, NO_LETTER = "special", "piece of a character", "no letter"


class Reader:
    """A tokenizer as the scorecard reads with it.

    Attributes:
        vocabulary: the bytes of its tokens.
        n_types: number of its tokens, special ones too.
        scripts: the script of each token, str [d_vocab]; a kind of token where it has none.

    Args:
        tokenizer: one of the tokenizers library.

    Raises:
        InputError: the bytes of its tokens are not known.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        ids = tokenizer.get_vocab().values()
        self.n_types = len(set(ids))
        self.vocabulary = Vocabulary(token_bytes(tokenizer, 1 + max(ids)))
        self.scripts = np.array([_script(one) for one in self.vocabulary.spelt], dtype=object)
        # A vocabulary may spell a letter twice, as itself and as its byte: a text is cut one way, not two.
        self._once = Vocabulary(list({one for one in self.vocabulary.spelt if one}))
        self._fewest: dict[bytes, int] = {}

    def read(self, texts: Sequence[str]) -> Iterator[tuple[dict[str, float], np.ndarray]]:
        """Yield sums over each text, and the ids of its tokens.

        Raises:
            InputError: the tokenizer cannot read one.
        """
        for text in texts:
            text_ids([text], self._tokenizer)  # which names a text that cannot be read, and neither pads nor truncates
            (encoding,) = self._tokenizer.backend_tokenizer.encode_batch([text], add_special_tokens=False)
            yield self._sums(text, encoding), np.array(encoding.ids, dtype=np.int64)

    def _sums(self, text: str, encoding: Any) -> dict[str, float]:
        ids, spelt = encoding.ids, self.vocabulary.spelt
        given = text.encode("utf-8", "surrogatepass")
        pieces = [(spelt[index], word) for index, word in zip(ids, encoding.word_ids, strict=True)]
        kept = b"".join(one or b"" for one, _ in pieces)
        n_words, n_whole = _words(text, [at for at, (one, _) in zip(encoding.offsets, pieces, strict=True) if one])
        canonical, fewest = self._lengths(pieces)
        runs = [
            b"".join(one for one, _ in run) for known, run in groupby(pieces, lambda of: of[0] is not None) if known
        ]
        return {
            "texts": 1,
            "bytes": len(given),
            "tokens": len(ids),
            "words": n_words,
            "whole_words": n_whole,
            "spelt_tokens": canonical,
            "fewest": fewest,
            "log10_encodings": sum(log_n_encodings(self._once, run) for run in runs) / math.log(10),
            "spelt_bytes": len(kept),
            "dropped_bytes": sum((Counter(given) - Counter(kept)).values()),
        }

    def _lengths(self, pieces: Sequence[tuple[bytes | None, int | None]]) -> tuple[int, int]:
        """Return the tokens of all pre-tokens that have bytes, and the fewest that spell the same ones."""
        n_canonical = n_fewest = 0
        for _, group in groupby(pieces, lambda piece: piece[1]):
            parts = [one for one, _ in group]
            if None in parts:
                continue
            whole = b"".join(one or b"" for one in parts)
            if whole not in self._fewest:
                self._fewest[whole] = len(shortest(self._once, whole))
            n_canonical += len(parts)
            n_fewest += self._fewest[whole]
        return n_canonical, n_fewest


def _words(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Count the words of a text, by white space, and those that are one token, but for white space beside them."""
    spans: Counter[tuple[int, int]] = Counter()
    for start, stop in offsets:
        piece = text[start:stop]
        before = len(piece) - len(piece.lstrip())
        spans[start + before, start + len(piece.rstrip())] += 1
    words = [word.span() for word in re.finditer(r"\S+", text)]
    return len(words), sum(spans[word] == 1 for word in words)


def _script(spelt: bytes | None) -> str:
    if spelt is None:
        return SPECIAL
    try:
        return script(spelt.decode()) or NO_LETTER
    except UnicodeDecodeError:
        return PIECE
