"""The bytes that each token of a vocabulary stands for inside a text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from interp.checks import checked
from interp.errors import InputError

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"


@checked
def token_bytes(tokenizer: Any, d_vocab: int) -> list[bytes | None]:
    r"""Return the bytes of each token as it stands inside a text, in the order of ids.

    The scheme is read from the tokenizer's own decoder: byte-level (each character is a byte), SentencePiece-like ("▁"
    is a space and `<0xHH>` a byte), WordPiece and whole words (a space before each token that does not continue a word)
    or literal text.

    Args:
        tokenizer: a Hugging Face tokenizer.
        d_vocab: number of ids; tokens beyond are left out.

    Returns:
        One entry per id, `d_vocab` of them: None for special tokens, the unknown token and ids without a token.

    Raises:
        InputError: there is no tokenizer, or the scheme of its decoder is not one of these.

    >>> from interp import load
    >>> tokenizer = load("reference").tokenizer
    >>> spelt = token_bytes(tokenizer, 8192)
    >>> [spelt[index] for index in tokenizer("Once upon…")["input_ids"]]
    [None, b'Once', b' upon', b'\xe2\x80', b'\xa6']
    """
    if tokenizer is None:
        raise InputError("this model came without a tokenizer, so its tokens have no bytes; load it with tokenizer=.")
    spell = _spelling(tokenizer)
    added = getattr(tokenizer, "added_tokens_decoder", {})
    unspelt = {*tokenizer.all_special_ids, *(index for index, token in added.items() if token.special)}
    core = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    unknown = {tokenizer.unk_token, getattr(core, "unk_token", None)}
    found: list[bytes | None] = [None] * d_vocab
    for piece, index in tokenizer.get_vocab().items():
        if index < d_vocab and index not in unspelt and piece not in unknown:
            found[index] = spell(piece) or None
    return found


def _spelling(tokenizer: Any) -> Callable[[str], bytes]:
    """Return the function from a token's name in the vocabulary to its bytes."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:
        if hasattr(tokenizer, "sp_model"):
            return lambda piece: _sentencepiece(piece, _SPACE, fallback=True)
        raise InputError(
            f"the bytes of the tokens of a {type(tokenizer).__name__} are not known; give a tokenizer of the "
            "tokenizers library, or a SentencePiece one."
        )
    if core.decoder is None:
        return lambda piece: f" {piece}".encode()  # tokens without a decoder are joined by spaces
    steps = {step["type"]: step for step in _steps(json.loads(core.decoder.__getstate__()))}
    if "ByteLevel" in steps:
        table = {character: byte for byte, character in enumerate(_byte_characters())}
        return lambda piece: _byte_level(piece, table)
    if "WordPiece" in steps:
        prefix = steps["WordPiece"]["prefix"]
        return lambda piece: (piece.removeprefix(prefix) if piece.startswith(prefix) else f" {piece}").encode()
    space = steps["Metaspace"]["replacement"] if "Metaspace" in steps else None
    if space is None and steps.get("Replace", {}).get("content") == " ":
        space = steps["Replace"]["pattern"].get("String")
    if space is not None:
        return lambda piece: _sentencepiece(piece, space, fallback="ByteFallback" in steps)
    if set(steps) <= {"Fuse", "ByteFallback"}:
        return lambda piece: _sentencepiece(piece, "", fallback="ByteFallback" in steps)
    raise InputError(
        f"the bytes of tokens that are read by {', '.join(steps)} are not known; give a tokenizer whose decoder is "
        "byte-level, SentencePiece-like or WordPiece."
    )


def _steps(decoder: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of a decoder, which may be a sequence of them."""
    if decoder["type"] == "Sequence":
        for one in decoder["decoders"]:
            yield from _steps(one)
    else:
        yield decoder


def _byte_level(piece: str, table: Mapping[str, int]) -> bytes:
    # An added token is written as it reads: a space in it is not one of the 256 characters.
    return bytes(map(table.__getitem__, piece)) if all(map(table.__contains__, piece)) else piece.encode()


def _sentencepiece(piece: str, space: str, *, fallback: bool) -> bytes:
    if fallback and (byte := _BYTE.fullmatch(piece)):
        return bytes([int(byte[1], 16)])
    return (piece.replace(space, " ") if space else piece).encode()


def _byte_characters() -> list[str]:
    """Return the character that stands for each byte in byte-level vocabularies, 256 of them (as GPT-2's)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))  # those that do not show are moved above
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]
