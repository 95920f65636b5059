"""Tokenisation: texts to token ids with at most one start-of-text token, and batches padded on the right."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.data.shipped import read_texts, text_dataset_names
from interp.errors import InputError, TooLong

_ID_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)

Texts: TypeAlias = "str | Sequence[str] | pd.DataFrame | Tensor | Tokens"
"""The input of every probe: a text, texts, a frame with a `text` column, token ids, a shipped dataset's name, or the
result of `Subject.tokens`, which sets how texts are tokenised: `subject.tokens(texts, bos=False)`."""


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


@dataclass(frozen=True)
class Tokens:
    """Token ids of every prompt.

    Attributes:
        ids: one int64 tensor [pos] per prompt, on the CPU.
        table: one row per prompt: `prompt_id`, then the other columns of the user's frame except `text`.
        bos: True if position 0 is the start-of-text token; None if the user gave ids.
        n_cut: tokens cut off per prompt (`truncate=True`), int64 [n_prompts].
    """

    ids: list[Tensor]
    table: pd.DataFrame
    bos: bool | None
    n_cut: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

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
    texts: Texts, tokenizer: Any, *, n_ctx: int, d_vocab: int, bos: bool | None = None, truncate: bool = False
) -> Tokens:
    """Convert texts or token ids to `Tokens`.

    Args:
        texts: see `Texts`. The name of a shipped dataset means that dataset; put it in a list to mean the word.
        tokenizer: a Hugging Face tokenizer, or None if `texts` are ids.
        n_ctx: the longest prompt the model takes, in tokens.
        d_vocab: size of the vocabulary; ids must be below it.
        bos: True puts exactly one start-of-text token first, False none; None follows the model's own tokenizer.
            It cannot be changed if `texts` are tokens already.
        truncate: cut texts longer than the context instead of refusing them; the number of cut tokens is recorded.

    Raises:
        InputError: no texts, an empty text, ids outside the vocabulary, no tokenizer or no start-of-text token.
        TooLong: a prompt is longer than `n_ctx`.
    """
    if isinstance(texts, Tokens):
        ids, table, bos = _given_tokens(texts, d_vocab, bos)
    elif isinstance(texts, Tensor):
        ids, table, bos = _given_ids(texts, d_vocab, bos)
    else:
        strings, table = _strings(texts)
        if tokenizer is None:
            raise InputError(
                "this model came without a tokenizer: pass token ids as a tensor, or load it with tokenizer=."
            )
        bos = adds_bos(tokenizer) if bos is None else bos
        ids = _encode(strings, tokenizer, bos)
    for number, prompt in zip(table["prompt_id"], ids, strict=True):
        if len(prompt) > n_ctx and not truncate:
            raise TooLong(
                f"prompt {number} has {len(prompt)} tokens, {len(prompt) - n_ctx} more than the context of {n_ctx}; "
                "shorten it, or pass truncate=True to cut its end."
            )
    n_cut = np.array([max(0, len(prompt) - n_ctx) for prompt in ids], dtype=np.int64)
    if isinstance(texts, Tokens):
        n_cut += texts.n_cut
    return Tokens([prompt[:n_ctx] for prompt in ids], table, bos, n_cut)


def adds_bos(tokenizer: Any) -> bool:
    """Return True if the tokenizer begins every text with its start-of-text token by default."""
    if tokenizer.bos_token_id is None:
        return False
    try:
        first = tokenizer("a")["input_ids"][:1]  # not "": one token there could be a start or, with the same id, an end
    except Exception:  # a word tokenizer without the word "a"
        first = tokenizer("")["input_ids"][:1]
    return bool(first == [tokenizer.bos_token_id])


def token_strings(tokenizer: Any, d_vocab: int) -> np.ndarray:
    """Return every token as it appears inside a text, object [d_vocab]: leading spaces kept, `<id>` without a string.

    Several ids can share a string (pieces of multi-byte characters all read '�'): only ids are unique.
    """
    strings = np.array([f"<{index}>" for index in range(d_vocab)], dtype=object)
    if tokenizer is None:
        return strings
    known = sorted(index for index in set(tokenizer.get_vocab().values()) if index < d_vocab)
    keep: dict[str, Any] = {"clean_up_tokenization_spaces": False, "skip_special_tokens": False}
    # Decoded alone, a SentencePiece token loses its leading space; decoded after a plain letter or word it keeps it.
    texts = tokenizer.batch_decode([[index] for index in known], **keep)
    anchor = next((place for place, text in enumerate(texts) if text.isascii() and text.isalnum()), None)
    if anchor is not None:
        behind = tokenizer.batch_decode([[known[anchor], index] for index in known], **keep)
        texts = [text.removeprefix(texts[anchor]) for text in behind]
    strings[known] = texts
    return strings


def single_token(text: str, tokenizer: Any) -> int:
    """Return the id of a text that is exactly one token.

    Raises:
        InputError: the text is not one token; the message lists its tokens.
    """
    if tokenizer is None:
        raise InputError(f"this model came without a tokenizer: give {text!r} as a token id.")
    if not isinstance(text, str):
        raise InputError(f"a token is a text or an integer id, not {text!r}.")
    ids = _pieces([text], tokenizer)[0]
    if len(ids) != 1:
        pieces = [tokenizer.decode([index]) for index in ids]
        near = " Most words begin with a space." if text[:1].strip() else ""
        raise InputError(f"{text!r} is {len(ids)} tokens {pieces}, not one; choose a single token or pass an id.{near}")
    if ids[0] == tokenizer.unk_token_id and text != tokenizer.unk_token:
        raise InputError(f"{text!r} is unknown to the model's tokenizer; choose another token, or pass an id.")
    return int(ids[0])


def _strings(texts: str | Sequence[str] | pd.DataFrame) -> tuple[list[str], pd.DataFrame]:
    if isinstance(texts, str):
        texts = read_texts(texts) if texts in text_dataset_names() else [texts]
    if isinstance(texts, pd.DataFrame):
        if "text" not in texts.columns:
            raise InputError(
                f"the frame has no column 'text', only {list(texts.columns)}; rename the one with the texts."
            )
        strings = texts["text"].tolist()
        table = texts.drop(columns="text").reset_index(drop=True)
    else:
        if not isinstance(texts, Iterable):
            raise InputError(f"texts are a str, a list of them, a DataFrame or a tensor, not {type(texts).__name__}.")
        strings = list(texts)
        table = pd.DataFrame(index=range(len(strings)))
    if not strings:
        raise InputError("no texts were given; pass at least one.")
    for number, text in enumerate(strings):
        if not isinstance(text, str):
            raise InputError(f"text {number} is {type(text).__name__}, not str; give strings.")
        if not text:
            raise InputError(f"text {number} is empty; give it at least one token.")
    return strings, _numbered(table)


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    if "prompt_id" not in table.columns:
        table.insert(0, "prompt_id", np.arange(len(table)))
    given = table["prompt_id"]
    if not pd.api.types.is_integer_dtype(given) or given.hasnans or not given.is_unique:
        raise InputError("the frame's column 'prompt_id' must hold distinct integers.")
    table["prompt_id"] = given.astype(np.int64)
    return table


def _encode(strings: list[str], tokenizer: Any, bos: bool) -> list[Tensor]:
    if bos and tokenizer.bos_token_id is None:
        raise InputError("bos=True, but this model's tokenizer has no start-of-text token; pass bos=False.")
    start = [tokenizer.bos_token_id] if bos else []
    # A text that already begins with the start token does not get a second one.
    prompts = [ids if ids[:1] == start else start + ids for ids in _pieces(strings, tokenizer)]
    for number, ids in enumerate(prompts):
        if not ids:
            raise InputError(f"text {number}, {strings[number]!r}, has no tokens under this tokenizer; leave it out.")
    return [torch.tensor(ids, dtype=torch.long) for ids in prompts]


def _pieces(strings: list[str], tokenizer: Any) -> list[list[int]]:
    """Return the ids of texts without special tokens."""
    try:
        encoded = tokenizer(strings, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    except Exception as error:  # the tokenizers library raises a bare Exception for a word it cannot encode
        shown = strings if len(strings) == 1 else "these texts"
        raise InputError(f"the model's tokenizer cannot read {shown}: {str(error).rstrip('.')}.") from error
    return [list(ids) for ids in encoded]


def _given_tokens(tokens: Tokens, d_vocab: int, bos: bool | None) -> tuple[list[Tensor], pd.DataFrame, bool | None]:
    if bos is not None and bos != tokens.bos:
        raise InputError(f"bos={bos} cannot be applied to tokens; pass it to Subject.tokens, which makes them.")
    largest = max(int(ids.max()) for ids in tokens.ids)
    if largest >= d_vocab:
        raise InputError(
            f"token id {largest} is not in this model's vocabulary of {d_vocab}: these are tokens of another model."
        )
    return tokens.ids, tokens.table, tokens.bos


def _given_ids(ids: Tensor, d_vocab: int, bos: bool | None) -> tuple[list[Tensor], pd.DataFrame, None]:
    if bos is not None:
        raise InputError("bos= has no meaning for token ids: put the start-of-text token into them, or leave it out.")
    if ids.ndim not in (1, 2) or ids.numel() == 0 or ids.dtype not in _ID_DTYPES:
        raise InputError(f"token ids must be integers [pos] or [prompt, pos], not {ids.dtype} {list(ids.shape)}.")
    ids = ids.detach().cpu().long()
    if int(ids.min()) < 0 or int(ids.max()) >= d_vocab:
        raise InputError(f"token ids run from {int(ids.min())} to {int(ids.max())}; the vocabulary has {d_vocab}.")
    prompts = list(ids.reshape(-1, ids.shape[-1]))
    return prompts, _numbered(pd.DataFrame(index=range(len(prompts)))), None
