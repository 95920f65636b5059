"""Ask a tokenizer for ids, whatever its own settings are, and check that it is the model's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from interp.checks import checked
from interp.errors import InputError, shown
from interp.tokenization.asking import WHOLE, text_ids

_ORDINARY = "the cat sat on the mat"


@checked
def start_ids(tokenizer: Any) -> list[int]:
    """Return the ids with which the tokenizer begins every text by default, such as `[gMASK]<sop>`; often one or none.

    Those that it appends are not among them.
    """
    if tokenizer is None:
        return []
    added = set(tokenizer([""], **WHOLE)["input_ids"][0])  # at the start or at the end: an empty text does not tell
    for text in _ordinary_texts(tokenizer) if added else ():
        try:
            bare, (own,) = text_ids([text], tokenizer)[0], tokenizer([text], **WHOLE)["input_ids"]
        except InputError:  # a word tokenizer without this word
            continue
        for place in range(len(own) - len(bare) + 1):
            if bare and not added & set(bare) and list(own[place : place + len(bare)]) == bare:
                return list(own[:place])
    return []


@checked
def start_of_text(tokenizer: Any) -> list[int]:
    """Return `start_ids`, or else the start-of-text token; empty if there is neither or no tokenizer."""
    start = start_ids(tokenizer)
    if start or tokenizer is None or tokenizer.bos_token_id is None:
        return start
    return [tokenizer.bos_token_id]


def chosen_start(tokenizer: Any, bos: bool | None) -> list[int]:
    """Return the ids to put first: None follows the tokenizer, False gives none, True its start or start-of-text token.

    Raises:
        InputError: `bos` is True and the tokenizer has neither.
    """
    if bos is False:
        return []
    start = start_of_text(tokenizer) if bos else start_ids(tokenizer)
    if bos and not start:
        raise InputError("bos=True, but this model's tokenizer has no start-of-text token; pass bos=False.")
    return start


def check_tokenizer(tokenizer: Any, d_vocab: int, model: str) -> None:
    """Refuse a tokenizer whose ids are not the model's, or that does not read back what it wrote.

    Tokens added beyond the model's vocabulary are allowed as long as no text uses them; rows of the vocabulary without
    a token are usual. A tokenizer of another model whose ids all fit cannot be told from the model's own.

    Raises:
        InputError: it is another model's, or broken.
    """
    if tokenizer is None:
        return
    if not all(hasattr(tokenizer, name) for name in ("get_vocab", "decode", "bos_token_id", "__len__", "__call__")):
        raise InputError(
            f"the tokenizer given with {model!r} is a {type(tokenizer).__name__}, not one of transformers; give one, "
            "its folder or its hub id."
        )
    if len(tokenizer) > d_vocab:
        added = set(tokenizer.get_added_vocab().values())
        beyond = [index for index in tokenizer.get_vocab().values() if index >= d_vocab and index not in added]
        if beyond:
            raise InputError(
                f"the tokenizer given with {model!r} has ids up to {max(beyond)}, but the model's vocabulary has "
                f"{d_vocab}: it is another model's; give the model's own as tokenizer=."
            )
    dropout = getattr(getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None), "dropout", None)
    if dropout:
        raise InputError(
            f"the tokenizer of {model!r} cuts texts at random (dropout {dropout:g}); set its dropout to None."
        )
    read = _read_back(tokenizer)
    if read is not None and not _is_in_order(_letters(read), _letters(_ORDINARY)):
        raise InputError(
            f"the tokenizer given with {model!r} reads {_ORDINARY!r} back as {shown(read)}; give the model's own as "
            "tokenizer=."
        )


def _read_back(tokenizer: Any) -> str | None:
    """Return ordinary words as the tokenizer reads its own ids of them; None if they are not in its vocabulary."""
    try:
        (ids,) = text_ids([_ORDINARY], tokenizer)
    except InputError:
        return None
    core = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    unknown = {tokenizer.unk_token, getattr(core, "unk_token", None)} - {None}
    if unknown & set(tokenizer.convert_ids_to_tokens(ids)):
        return None
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, text.casefold()))


def _is_in_order(letters: str, among: str) -> bool:
    """Tell whether the letters are a part of others in the same order; a tokenizer of few letters leaves some out."""
    rest = iter(among)
    return all(letter in rest for letter in letters)


def _ordinary_texts(tokenizer: Any) -> Iterator[str]:
    """Yield short texts, one of which the tokenizer can read: letters, then words of its own."""
    yield from ("a", "A")
    special = set(tokenizer.all_special_ids)
    own = (index for index in sorted(tokenizer.get_vocab().values()) if index not in special)
    yield from (tokenizer.decode([index]) for index in itertools.islice(own, 64))
