"""The forms that texts may come in: strings, chat messages, token ids, a frame, a dataset or its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.checks import checked
from interp.data.shipped import dataset_or_text
from interp.errors import InputError
from interp.model.texts.chats import Chat, check_chat, conversations

_ID_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True)
class Prompts:
    """Prompts in one form, whatever form they were given in.

    Attributes:
        table: one row per prompt: `prompt_id`, then the other columns of the user's frame except `text`.
        texts: the texts, if texts were given.
        ids: token ids of every prompt, not checked against a vocabulary, if ids were given.
        chats: conversations of at least one message, if chat messages were given.
    """

    table: pd.DataFrame
    texts: list[str] | None = None
    ids: list[list[int]] | None = None
    chats: list[Chat] | None = None

    @property
    def numbers(self) -> list[int]:
        """`prompt_id` of every prompt."""
        numbers: list[int] = self.table["prompt_id"].tolist()
        return numbers


def prompts(given: Any) -> Prompts:
    """Read prompts in any form of `interp.model.tokens.Texts` except `Tokens`.

    >>> prompts(["a", "b"]).texts, prompts([[1, 5, 9], [1, 7]]).ids
    (['a', 'b'], [[1, 5, 9], [1, 7]])
    >>> prompts({"input_ids": [[0, 0, 4], [1, 2, 3]], "attention_mask": [[0, 0, 1], [1, 1, 1]]}).ids
    [[4], [1, 2, 3]]

    Raises:
        InputError: there are none, one is empty or of another type, or their order is arbitrary.
    """
    if isinstance(given, str):
        given = dataset_or_text(given)
    if type(given).__module__.partition(".")[0] == "datasets":
        given = _of_datasets(given)
    if isinstance(given, pd.DataFrame):
        return _of_frame(given)
    if isinstance(given, Mapping):
        return _of_mapping(given)
    if isinstance(given, set | frozenset):
        raise InputError("a set of texts has no order; give a list, such as sorted(texts).")
    if isinstance(given, bytes | bytearray):
        raise InputError(f"texts are str, not {type(given).__name__}; decode them first.")
    if isinstance(given, Tensor) or (isinstance(given, np.ndarray) and given.dtype.kind not in "OSU"):
        return _of_ids(_rows(given))
    if not isinstance(given, Iterable):
        raise InputError(
            "texts are a str, a list of them, a DataFrame, chat messages or token ids, not "
            f"{type(given).__name__}; give one of these."
        )
    several = list(given)
    if several and all(map(_is_id, several)):
        return _of_ids([several])
    chats = conversations(several)
    if chats is not None:
        return _of_chats(chats, pd.DataFrame(index=range(len(chats))))
    rows = [_ids(one) for one in several]
    if rows and all(row is not None for row in rows):
        return _of_ids([row for row in rows if row is not None])
    return _of_strings(several, pd.DataFrame(index=range(len(several))))


@checked
def frame_of_texts(given: Any) -> pd.DataFrame:
    """Return texts in any form as a frame with the columns `prompt_id` and `text` and those of the user's frame.

    >>> frame_of_texts(["a", "b"])[["prompt_id", "text"]].values.tolist()
    [[0, 'a'], [1, 'b']]

    Raises:
        InputError: as `prompts`, or token ids or chat messages were given.
    """
    found = prompts(given)
    if found.texts is None:
        what = "token ids" if found.chats is None else "chat messages"
        raise InputError(f"{what} were given where texts are needed; give the texts.")
    return found.table.assign(text=found.texts)


def _of_frame(frame: pd.DataFrame) -> Prompts:
    names = [str(name) for name in frame.columns]
    held = [name for name in ("text", "messages") if name in frame.columns]
    if not held and names.count("text") == 0 and names.count("input_ids") == 1:
        return _of_frame_of_ids(frame)
    if len(held) != 1 or names.count(held[0]) > 1:
        n = names.count("text")
        what = f"{n} columns 'text'" if n > 1 else "no column 'text'"
        mend = "rename the one with the texts, or name conversations 'messages'"
        if len(held) == 2:
            what, mend = "columns 'text' and 'messages'", "drop the one that is not meant"
        raise InputError(f"the frame has {what}, only {list(frame.columns)}; {mend}.")
    given, table = frame[held[0]].tolist(), frame.drop(columns=held[0]).reset_index(drop=True)
    if held[0] == "text":
        return _of_strings(given, table)
    return _of_chats([_without_gaps(chat) for chat in given], table)


def _of_frame_of_ids(frame: pd.DataFrame) -> Prompts:
    """Read a frame as a dataset that was tokenised holds them: `input_ids`, and what is padding in `attention_mask`."""
    ids = _of_mapping({name: frame[name].tolist() for name in ("input_ids", "attention_mask") if name in frame}).ids
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in frame.columns]
    return _of_ids(ids or [], frame.drop(columns=names).reset_index(drop=True))


def _of_datasets(given: Any) -> Any:
    """Return a `datasets.Dataset` as a frame, and what else is of that library, such as a column, as it is."""
    names = {cls.__name__ for cls in type(given).__mro__}
    if {"IterableDataset", "IterableColumn"} & names:
        raise InputError(
            f"a {type(given).__name__} of datasets may have no end: take some rows, as in "
            "datasets.Dataset.from_list(list(d.take(100)))."
        )
    return pd.DataFrame(given.to_dict()) if "Dataset" in names else given


def _of_chats(given: Sequence[Any], table: pd.DataFrame) -> Prompts:
    if not given:
        raise InputError("no texts were given; pass at least one.")
    found = _numbered(table)
    numbers = found["prompt_id"].tolist()
    return Prompts(found, chats=[check_chat(number, one) for number, one in zip(numbers, given, strict=True)])


def _without_gaps(chat: Any) -> Any:
    """Leave out what a message of a table lacks: every message there has the keys of all."""
    if not isinstance(chat, list | tuple | np.ndarray):
        return chat
    return [
        {key: value for key, value in message.items() if value is not None} if isinstance(message, Mapping) else message
        for message in chat
    ]


def _of_strings(several: list[Any], table: pd.DataFrame) -> Prompts:
    if not several:
        raise InputError("no texts were given; pass at least one.")
    found = Prompts(_numbered(table), texts=several)
    for number, text in zip(found.numbers, several, strict=True):
        if not isinstance(text, str):
            advice = "pass the texts in it" if isinstance(text, Mapping) else "give strings, or whole numbers as ids"
            raise InputError(f"text {number} is {type(text).__name__}, not str; {advice}.")
        if not text:
            raise InputError(f"text {number} is empty; give it at least one token.")
    return found


def _of_ids(rows: Sequence[list[int]], table: pd.DataFrame | None = None) -> Prompts:
    table = pd.DataFrame(index=range(len(rows))) if table is None else table
    found = Prompts(_numbered(table), ids=list(rows))
    for number, row in zip(found.numbers, rows, strict=True):
        if not row:
            raise InputError(f"prompt {number} has no token ids; give it at least one, or leave it out.")
    return found


def _of_mapping(given: Mapping[Any, Any]) -> Prompts:
    """Read what a tokenizer returns, without its padding."""
    if "input_ids" not in given:
        if "role" in given or "content" in given:
            raise InputError("a single message was given; put it in a list, which is a conversation.")
        key = "text" if "text" in given else next(iter(given), "text")
        raise InputError(
            f"a mapping ({type(given).__name__}) is not a list of texts: pass d[{key!r}], or a DataFrame with a column "
            "'text'."
        )
    rows = prompts(given["input_ids"]).ids
    if rows is None:
        raise InputError("'input_ids' of the mapping are not whole numbers; pass the tokenizer's output, or the texts.")
    if "attention_mask" not in given:
        return _of_ids(rows)
    mask = given["attention_mask"]
    masks = [np.asarray(one) for one in ([mask] if len(mask) and np.ndim(mask[0]) == 0 else mask)]
    if [len(mask) for mask in masks] != [len(row) for row in rows]:
        raise InputError("'attention_mask' is not of the shape of 'input_ids'; pass both as the tokenizer gave them.")
    kept = []
    for number, (row, mask) in enumerate(zip(rows, masks, strict=True)):
        real = np.flatnonzero(mask)
        if len(real) and len(real) != real[-1] - real[0] + 1:
            raise InputError(f"'attention_mask' of prompt {number} has a gap; mask padding at the ends alone.")
        kept.append([row[place] for place in real])
    return _of_ids(kept)


def _rows(ids: Tensor | np.ndarray) -> list[list[int]]:
    """Return the rows of integers [pos] or [prompt, pos]."""
    whole = ids.dtype in _ID_DTYPES if isinstance(ids, Tensor) else ids.dtype.kind in "iu"
    if ids.ndim not in (1, 2) or 0 in ids.shape or not whole:
        raise InputError(f"token ids must be integers [pos] or [prompt, pos], not {ids.dtype} {list(ids.shape)}.")
    rows: list[list[int]] = ids.reshape(-1, ids.shape[-1]).tolist()
    return rows


def _ids(one: Any) -> list[int] | None:
    """Return the token ids of one prompt of a list; None if it is something else."""
    if isinstance(one, Tensor | np.ndarray):
        return _rows(one)[0] if one.ndim == 1 else None
    if isinstance(one, list | tuple | range | pd.Series) and all(map(_is_id, one)):
        return [int(index) for index in one]
    return None


def _is_id(one: Any) -> bool:
    return isinstance(one, Integral) and not isinstance(one, bool)


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    if "prompt_id" not in table.columns:
        table.insert(0, "prompt_id", np.arange(len(table)))
    given = table["prompt_id"]
    if not pd.api.types.is_integer_dtype(given) or given.hasnans or not given.is_unique:
        raise InputError("the frame's column 'prompt_id' must hold distinct integers.")
    table["prompt_id"] = given.astype(np.int64)
    return table
