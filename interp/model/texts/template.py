"""Read chat messages through the tokenizer's own template, and tell where texts are read without it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

from interp.errors import InputError, WithoutTemplate, reason_of, warn
from interp.model.texts.chats import MESSAGE, Chat
from interp.model.texts.tokenizer import start_ids

_OF_THE_MODEL = ("assistant", "model")
# Subjects whose user was told that texts are read without the template.
_told: WeakSet[Any] = WeakSet()


def chat_ids(
    chats: Sequence[Chat], numbers: Sequence[int], tokenizer: Any, add_generation_prompt: bool | None
) -> tuple[list[list[int]], dict[str, Any]]:
    """Return the ids of conversations by the tokenizer's template, and what was done, for the provenance.

    Args:
        chats: the conversations.
        numbers: `prompt_id` of each.
        tokenizer: a Hugging Face tokenizer.
        add_generation_prompt: end with the words after which the model answers; None adds them exactly if the last
            message is not the model's own.

    Raises:
        InputError: the tokenizer has no template, or the template refuses a conversation.
    """
    template = template_of(tokenizer)
    if template is None:
        raise InputError(
            "this model's tokenizer has no chat template, so it cannot read messages: give their texts, or set the "
            "tokenizer's chat_template."
        )
    rows, added = [], []
    for number, chat in zip(numbers, chats, strict=True):
        opens = chat[-1]["role"] not in _OF_THE_MODEL if add_generation_prompt is None else add_generation_prompt
        try:
            made = tokenizer.apply_chat_template(
                chat, add_generation_prompt=opens, tokenize=True, return_dict=True, padding=False, truncation=False
            )
        except Exception as error:  # a template is a program, which raises what it likes
            raise InputError(
                f"the chat template of the model's tokenizer cannot read conversation {number} (roles "
                f"{', '.join(message['role'] for message in chat)}): {reason_of(error)}."
            ) from error
        if not len(made["input_ids"]):
            raise InputError(f"conversation {number} has no tokens under the tokenizer's chat template; leave it out.")
        rows.append(list(made["input_ids"]))
        added.append(opens)
    digest = hashlib.sha256(template.encode()).hexdigest()
    return rows, {"template_sha256": digest, "add_generation_prompt": added[0] if len(set(added)) == 1 else added}


def template_of(tokenizer: Any) -> str | None:
    """Return the chat template that a tokenizer uses by default; None if it has none."""
    try:
        found = tokenizer.get_chat_template()
    except (AttributeError, ValueError):  # no template, or several of which none is the default
        return None
    return found if isinstance(found, str) and found else None


def warn_of_template(subject: Any, rows: Sequence[Any]) -> None:
    """Warn once per subject that its tokenizer has a chat template, without which texts were read.

    Texts that hold the template's special tokens, as those that the user put through it do, are let pass.

    Args:
        subject: the model.
        rows: the token ids of the texts, int64 [pos] each.
    """
    template = None if subject in _told else template_of(subject.tokenizer)
    if template is None:
        return
    marks = {index for token, index in subject.tokenizer.get_added_vocab().items() if token in template}
    marks -= set(start_ids(subject.tokenizer))
    if all(marks & set(ids.tolist()) for ids in rows):
        return
    _told.add(subject)
    warn(
        f"{subject.name!r} has a chat template, and these texts were read without it: give messages, [[{MESSAGE}]], to "
        "read them through it, or silence this warning with warnings.simplefilter('ignore', "
        "interp.errors.WithoutTemplate).",
        WithoutTemplate,
    )
