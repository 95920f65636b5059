"""Tell the kind of token of each row of the vocabulary: can a text hold it, which byte is it, of which script?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import InputError, Subject
from interp.tokenization import token_bytes
from interp.tokenization.asking import many_ids
from interp.tokenization.scripts import script
from probes.vocab._words import special_ids

_ANCHORS = ("a", "1", ".", "\n")  # a token may need something before it: `##ing`, or a first space that is added
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what a piece of a character is decoded to
_NEVER = frozenset((0xC0, 0xC1, *range(0xF5, 0x100)))  # bytes that no text in UTF-8 holds
_RESERVED = re.compile(r"[<\[]\W*(unused|reserved|extra|dummy|placeholder|madeup)[\w ]*\W*[>\]]", re.IGNORECASE)
_ROLES = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "cls_token_id")


def categories(subject: Subject) -> pd.DataFrame:
    """Return what kind of token each row of the vocabulary is, a row each.

    Columns:
        category: the first that is true of "special"; "row_only", no token; "undecodable", a piece of a character;
            "unreachable", the tokenizer does not read its text as this token, alone or behind another; else "ok".
        byte_kind: of a single byte "ascii", "utf8" or "never", else "".
        script: of its first letter, "" without one.
        n_chars: characters of its text.
        n_ids: as how many tokens its text is read alone; -1 where that was not asked.
        reserved: whether it is a special token kept for later use, such as `<unused7>`.

    Raises:
        InputError: the model came without a tokenizer.
    """
    tokenizer = subject.tokenizer
    if tokenizer is None:
        raise InputError(f"{subject.name!r} came without a tokenizer: nothing is known of its tokens; pass tokenizer=.")
    texts = subject.token_strings.tolist()
    names = {index: name for name, index in tokenizer.get_vocab().items() if index < len(texts)}
    special = special_ids(tokenizer)
    category = np.full(len(texts), "ok", dtype=object)
    category[[_REPLACEMENT in text for text in texts]] = "undecodable"
    category[[index not in names for index in range(len(texts))]] = "row_only"
    category[[index in special for index in range(len(texts))]] = "special"
    asked = np.flatnonzero(category == "ok")
    n_ids, reached = _read_again(tokenizer, asked, [texts[index] for index in asked])
    category[asked[~reached]] = "unreachable"
    counted = np.full(len(texts), -1)
    counted[asked] = n_ids
    return pd.DataFrame(
        {
            "category": category,
            "byte_kind": [_byte_kind(spelt) for spelt in _bytes(tokenizer, len(texts))],
            "script": [script(text) for text in texts],
            "n_chars": [len(text) for text in texts],
            "n_ids": counted,
            "reserved": [bool(_RESERVED.fullmatch(names.get(index, ""))) for index in range(len(texts))],
        }
    )


def with_a_role(tokenizer: Any) -> set[int]:
    """Return the special tokens that texts do hold: start, end, padding and the like."""
    return {index for name in _ROLES if (index := getattr(tokenizer, name, None)) is not None}


def _read_again(tokenizer: Any, ids: np.ndarray, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return as how many tokens each text is read, and whether it is read as its own token, alone or behind another."""
    alone = many_ids(texts, tokenizer)
    reached = np.array([found == [index] for found, index in zip(alone, ids.tolist(), strict=True)], dtype=bool)
    for anchor in _ANCHORS:
        missing = np.flatnonzero(~reached).tolist()
        (before,) = many_ids([anchor], tokenizer)
        if before:
            behind = many_ids([anchor + texts[place] for place in missing], tokenizer)
            reached[missing] = [found == [*before, ids[place]] for place, found in zip(missing, behind, strict=True)]
    return np.array([len(found or []) for found in alone]), reached


def _bytes(tokenizer: Any, d_vocab: int) -> list[bytes | None]:
    try:
        return token_bytes(tokenizer, d_vocab)
    except InputError:  # a decoder of its own kind
        return [None] * d_vocab


def _byte_kind(spelt: bytes | None) -> str:
    if spelt is None or len(spelt) != 1:
        return ""
    return "ascii" if spelt[0] < 0x80 else "never" if spelt[0] in _NEVER else "utf8"
