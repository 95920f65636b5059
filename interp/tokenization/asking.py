"""Ask a tokenizer for the ids of texts, whatever its own settings are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interp.checks import checked
from interp.errors import InputError, shown

# Padding and truncation may be set in a tokenizer's own file: texts would be cut or filled up without a word.
WHOLE = {"padding": False, "truncation": False, "return_attention_mask": False, "verbose": False}


@checked
def text_ids(texts: list[str], tokenizer: Any) -> list[list[int]]:
    """Return the ids of whole texts, without special tokens.

    Raises:
        InputError: the tokenizer cannot read a text.
    """
    try:
        return [list(ids) for ids in tokenizer(texts, add_special_tokens=False, **WHOLE)["input_ids"]]
    except Exception as error:  # the tokenizers library raises a bare Exception for a word it cannot encode
        if len(texts) > 1:
            for text in texts:  # find the one
                text_ids([text], tokenizer)
        quoted = ", ".join(map(shown, texts[:1]))
        raise InputError(f"the model's tokenizer cannot read {quoted}: {str(error).rstrip('.')}.") from error


def many_ids(texts: Sequence[str], tokenizer: Any) -> list[list[int] | None]:
    """Return the ids of very many short texts as `text_ids` does, None for those that the tokenizer cannot read."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is not None:
        try:
            text_ids([""], tokenizer)  # which makes the core neither pad nor truncate
            return [one.ids for one in core.encode_batch_fast(texts, add_special_tokens=False)]
        except Exception:  # one of them cannot be read: ask for each
            pass
    found: list[list[int] | None] = []
    for text in texts:
        try:
            found.extend(text_ids([text], tokenizer))
        except InputError:
            found.append(None)
    return found
