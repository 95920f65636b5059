"""Chat messages: told apart from texts, and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from interp.errors import InputError

Chat: TypeAlias = "list[Mapping[str, Any]]"
"""A conversation: messages with a `role` and a `content`, as `tokenizer.apply_chat_template` takes them."""

MESSAGE = "{'role': 'user', 'content': '…'}"
"""A message, as error messages show it."""


def conversations(several: Sequence[Any]) -> list[Any] | None:
    """Return the conversations in a list of messages or a list of such lists; None if it holds no messages.

    >>> message = {"role": "user", "content": "Hello!"}
    >>> conversations([message]) == conversations([[message]]) == [[message]]
    True
    >>> conversations(["Hello!"])
    """
    if any(isinstance(one, Mapping) and {"role", "content"} & one.keys() for one in several):
        return [several]
    return list(several) if any(map(_is_conversation, several)) else None


def check_chat(number: int, given: Any) -> Chat:
    """Return a conversation as a list, or raise InputError for what is not one.

    Args:
        number: `prompt_id` of the conversation.
        given: messages, in a list, a tuple or an array.
    """
    if not isinstance(given, list | tuple | np.ndarray):
        raise InputError(f"conversation {number} is {type(given).__name__}, not a list of messages such as {MESSAGE}.")
    if not len(given):
        raise InputError(f"conversation {number} has no messages; give it at least one, or leave it out.")
    for place, message in enumerate(given):
        where = f"message {place} of conversation {number}"
        if not isinstance(message, Mapping):
            raise InputError(f"{where} is {type(message).__name__}, not a mapping such as {MESSAGE}.")
        if not isinstance(message.get("role"), str):
            raise InputError(f"{where} has no 'role', only {sorted(map(str, message))}; give one such as {MESSAGE}.")
        if message.get("content") is None and "tool_calls" not in message:
            raise InputError(f"{where} has no 'content'; give one such as {MESSAGE}.")
    return list(given)


def _is_conversation(one: Any) -> bool:
    return isinstance(one, list | tuple | np.ndarray) and any(isinstance(message, Mapping) for message in one)
