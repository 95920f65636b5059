"""Tokenisation: texts to token ids with at most one start, and batches padded on the right."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.checks import checked
from interp.errors import InputError, TooLong, shown
from interp.model.texts.forms import Prompts, prompts
from interp.model.texts.template import chat_ids, warn_of_template
from interp.model.texts.tokenizer import chosen_start, start_ids
from interp.tokenization.asking import text_ids

Texts: TypeAlias = (
    "str | Sequence[str] | pd.DataFrame | Tensor | np.ndarray | Sequence[int] | Sequence[Sequence[int]] "
    "| Sequence[Mapping[str, Any]] | Sequence[Sequence[Mapping[str, Any]]] | Mapping[str, Any] | Tokens"
)
"""The input of every probe: a text, texts, a shipped dataset's name, chat messages (one conversation or a list), token
ids (an array, or lists of different lengths), a tokenizer's output without its padding, a frame or `datasets.Dataset`
with a column `text`, `messages` or `input_ids`, or the result of `Subject.tokens`, which sets how texts are tokenised:
`subject.tokens(texts, bos=False)`."""


class Reading(Protocol):
    """Anything that reads texts; a `Subject` is one."""

    name: str
    tokenizer: Any
    n_ctx: int
    d_vocab: int
    d_embedding: int


@checked
@dataclass(frozen=True)
class Batch:
    """Prompts of similar length, padded on the right.

    Attributes:
        ids: int64 [batch, pos]; nothing after a prompt's end is ever read.
        lengths: int64 [batch].
        prompts: int64 [batch], indices into the `Tokens` of the batch.
    """

    ids: Tensor
    lengths: Tensor
    prompts: Tensor


@checked
@dataclass(frozen=True)
class Tokens:
    """Token ids of every prompt.

    Attributes:
        ids: one int64 tensor [pos] per prompt, on the CPU.
        table: one row per prompt: `prompt_id`, then the other columns of the user's frame except `text`.
        bos: True if texts begin with the tokenizer's start, mostly one start-of-text token; None if the user gave ids.
        n_cut: tokens cut off per prompt (`truncate=True`), int64 [n_prompts].
        chat: of chat messages, the SHA-256 of the template that read them and `add_generation_prompt`, a list by prompt
            where prompts differ; JSON.
    """

    ids: list[Tensor]
    table: pd.DataFrame
    bos: bool | None
    n_cut: np.ndarray
    chat: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        # As two arrays: torch would open a file for each tensor that goes to another process.
        joined = np.concatenate([ids.numpy() for ids in self.ids]) if self.ids else np.empty(0, dtype=np.int64)
        return self.__dict__ | {"ids": (joined, [len(ids) for ids in self.ids])}

    def __setstate__(self, state: dict[str, Any]) -> None:
        joined, lengths = state["ids"]
        self.__dict__.update(state, ids=list(torch.split(torch.from_numpy(joined.copy()), lengths)) if lengths else [])

    @property
    def digest(self) -> str:
        """SHA-256 of ids and prompt numbers, which identifies the data of a run exactly."""
        digest = hashlib.sha256(self.table["prompt_id"].to_numpy().tobytes())
        for ids in self.ids:
            digest.update(len(ids).to_bytes(8, "little") + ids.numpy().tobytes())
        return digest.hexdigest()

    def batches(self, max_tokens: int, skip: Collection[int] = ()) -> Iterator[Batch]:
        """Yield batches of up to `max_tokens` padded tokens (or one prompt), longest first, without those in `skip`."""
        wanted = [index for index in range(len(self)) if index not in skip]
        order = sorted(wanted, key=lambda index: -len(self.ids[index]))
        start = 0
        while start < len(order):
            width = len(self.ids[order[start]])
            stop = start + max(1, max_tokens // width)
            chosen = order[start:stop]
            yield Batch(
                torch.nn.utils.rnn.pad_sequence([self.ids[index] for index in chosen], batch_first=True),
                torch.tensor([len(self.ids[index]) for index in chosen]),
                torch.tensor(chosen),
            )
            start = stop


def tokenise(
    texts: Texts,
    tokenizer: Any,
    *,
    n_ctx: int,
    d_vocab: int,
    d_embedding: int | None = None,
    bos: bool | None = None,
    truncate: bool | None = False,
    add_generation_prompt: bool | None = None,
) -> Tokens:
    """Convert texts or token ids to `Tokens`.

    Settings of the tokenizer for padding and truncation have no effect, and an end token that it appends is left out.

    Args:
        texts: see `Texts`. The name of a shipped dataset means that dataset, as `interp.dataset` returns it; put it in
            a list to mean the word.
        tokenizer: a Hugging Face tokenizer, or None if `texts` are ids.
        n_ctx: the longest prompt the model takes, in tokens.
        d_vocab: size of the vocabulary; ids must be below it.
        d_embedding: how many tokens the model embeds, if not as many; ids must be below that too.
        bos: None begins texts as the model's own tokenizer does: with its start-of-text token, with several tokens such
            as `[gMASK]<sop>`, or with none; TransformerLens makes the tokenizer of a bridge add a start-of-text token.
            True is the same, but puts the start-of-text token first if the tokenizer adds nothing by itself. False adds
            nothing. A text that spells the start itself does not get a second one. It cannot be changed if `texts` are
            tokens already.
        truncate: cut texts longer than the context instead of refusing them; the number of cut tokens is recorded.
            None refuses them too, and is for a caller without an argument `truncate`, which the error then leaves out.
        add_generation_prompt: end chat messages with the words of the template after which the model answers. None
            adds them exactly if the last message is not the model's own (of the role "assistant").

    Chat messages are read through the tokenizer's template, which writes the start too: their ids are those of
    `tokenizer.apply_chat_template`. For its other arguments, give what it returns.

    Raises:
        InputError: no texts, an empty text, ids outside the vocabulary, no tokenizer or no start-of-text token,
            messages without a role or content, no chat template or one that refuses them.
        TooLong: a prompt is longer than `n_ctx`.
    """
    if isinstance(texts, Tokens):
        if bos is not None and bos != texts.bos:
            raise InputError(f"bos={bos} cannot be applied to tokens; pass it to Subject.tokens, which makes them.")
        if add_generation_prompt is not None:
            raise InputError(
                "add_generation_prompt= cannot be applied to tokens; pass it to Subject.tokens, which makes them."
            )
        ids, table, bos, chat = texts.ids, texts.table, texts.bos, texts.chat
        _check_ids([one.tolist() for one in ids], Prompts(table), None, d_vocab, d_embedding)
    else:
        given = prompts(texts)
        table = given.table
        rows, chat = given.ids, None
        _require_chat(given.chats, add_generation_prompt)
        if given.chats is not None:
            rows, bos, chat = _encode_chats(given, tokenizer, bos, add_generation_prompt)
        elif rows is None:
            rows, bos = _encode(given, tokenizer, bos)
        elif bos is not None:
            raise InputError(
                "bos= has no meaning for token ids: put the start-of-text token into them, or leave it out."
            )
        _check_ids(rows, given, tokenizer, d_vocab, d_embedding)
        ids = [torch.tensor(row, dtype=torch.long) for row in rows]
    for number, prompt in zip(table["prompt_id"], ids, strict=True):
        if len(prompt) > n_ctx and not truncate:
            advice = "shorten it." if truncate is None else "shorten it, or pass truncate=True to cut its end."
            raise TooLong(
                f"prompt {number} has {len(prompt)} tokens, {len(prompt) - n_ctx} more than the context of {n_ctx}; "
                f"{advice}"
            )
    n_cut = np.array([max(0, len(prompt) - n_ctx) for prompt in ids], dtype=np.int64)
    if isinstance(texts, Tokens):
        n_cut += texts.n_cut
    return Tokens([prompt[:n_ctx] for prompt in ids], table, bos, n_cut, chat)


def tokens_of(
    subject: Reading,
    texts: Texts,
    *,
    n_ctx: int | None = None,
    bos: bool | None = None,
    truncate: bool | None = False,
    add_generation_prompt: bool | None = None,
) -> Tokens:
    """Tokenise texts for a model, and warn once if texts for a chat model are read without its template.

    Args:
        subject: the model; a `Subject` is one.
        texts: see `Texts`.
        n_ctx: the longest prompt, if not the model's.
        bos: see `tokenise`.
        truncate: see `tokenise`.
        add_generation_prompt: see `tokenise`.
    """
    tokens = tokenise(
        texts,
        subject.tokenizer,
        n_ctx=subject.n_ctx if n_ctx is None else n_ctx,
        d_vocab=subject.d_vocab,
        d_embedding=subject.d_embedding,
        bos=bos,
        truncate=truncate,
        add_generation_prompt=add_generation_prompt,
    )
    if not isinstance(texts, Tokens) and tokens.bos is not None and tokens.chat is None:
        warn_of_template(subject, tokens.ids)
    return tokens


def _encode(given: Prompts, tokenizer: Any, bos: bool | None) -> tuple[list[list[int]], bool]:
    """Return the ids of texts, and whether they begin with a start."""
    _require_tokenizer(tokenizer)
    texts = given.texts or []
    start = chosen_start(tokenizer, bos)
    # A text that already begins with the start does not get a second one.
    rows = [ids if ids[: len(start)] == start else start + ids for ids in text_ids(texts, tokenizer)]
    for number, text, ids in zip(given.numbers, texts, rows, strict=True):
        if not ids:
            raise InputError(f"text {number}, {shown(text)}, has no tokens under this tokenizer; leave it out.")
    return rows, bool(start)


def _encode_chats(
    given: Prompts, tokenizer: Any, bos: bool | None, add_generation_prompt: bool | None
) -> tuple[list[list[int]], bool, dict[str, Any]]:
    """Return the ids of conversations, whether they begin with the tokenizer's start, and how they were made."""
    _require_tokenizer(tokenizer)
    if bos is not None:
        raise InputError(f"bos={bos} has no meaning for chat messages, whose template writes the start; leave it out.")
    rows, chat = chat_ids(given.chats or [], given.numbers, tokenizer, add_generation_prompt)
    start = start_ids(tokenizer)
    return rows, bool(start) and all(row[: len(start)] == start for row in rows), chat


def _require_tokenizer(tokenizer: Any) -> None:
    if tokenizer is None:
        raise InputError("this model came without a tokenizer: pass token ids, or load it with tokenizer=.")


def _require_chat(chat: Any, add_generation_prompt: bool | None) -> None:
    if chat is None and add_generation_prompt is not None:
        raise InputError(
            f"add_generation_prompt={add_generation_prompt} is for chat messages, [[{{'role': 'user', 'content': '…'}}]"
            "]; leave it out for texts and token ids."
        )


def _check_ids(
    rows: Sequence[Sequence[int]], given: Prompts, tokenizer: Any, d_vocab: int, d_embedding: int | None
) -> None:
    """Refuse a token that is not in the model's vocabulary; the message names it and where it is."""
    size = f"vocabulary has {d_vocab}"
    if d_embedding not in (None, d_vocab):
        size, d_vocab = f"embedding has {d_embedding} tokens and its output {d_vocab}", min(d_vocab, d_embedding or 0)
    for place, (number, row) in enumerate(zip(given.numbers, rows, strict=True)):
        if min(row) >= 0 and max(row) < d_vocab:
            continue
        wrong = next(index for index in row if not 0 <= index < d_vocab)
        where, what, mend = f"prompt {number}", f"id {wrong}", f"give ids from 0 to {d_vocab - 1}"
        if given.texts is not None:
            where = f"text {number}, {shown(given.texts[place])},"
            what = f"{tokenizer.decode([wrong])!r} (id {wrong})"
            mend = "leave it out, or load the model whose tokenizer this is"
        raise InputError(f"{where} holds the token {what}, but this model's {size}; {mend}.")
