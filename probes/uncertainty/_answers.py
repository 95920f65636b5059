"""The first tokens of the right answers, and the prompts whose answer cannot be told by it."""

from __future__ import annotations

import string
from collections import defaultdict
from contextlib import suppress
from typing import Any

import pandas as pd
from torch import Tensor, tensor

from interp.authoring import InputError, Subject, Texts, dataset_or_text, tokens_after

JOINED = "the answer's first token begins inside the prompt"
SHARED = "the answer's first token is a space, or begins another answer too"


def known_answers(texts: Texts) -> pd.DataFrame:
    """Return the prompts whose right continuation is known, columns `text` and `expected` among others.

    Raises:
        InputError: there are none, or one is not a text.
    """
    if isinstance(texts, str):
        texts = dataset_or_text(texts)
    if not isinstance(texts, pd.DataFrame) or not {"text", "expected"} <= set(texts.columns):
        raise InputError(
            "iterative_inference needs to know right from wrong: pass a frame with columns 'text' and 'expected', "
            "or the name of a dataset that has them, such as 'prompts'."
        )
    if "prompt_id" not in texts.columns:  # prompts keep the numbers of the rows that they were given in
        texts = texts.assign(prompt_id=range(len(texts)))
    known = texts[texts["expected"].notna()].reset_index(drop=True)
    if known.empty:
        raise InputError("no prompt has an expected continuation; fill the column 'expected'.")
    for expected in known["expected"]:
        if not isinstance(expected, str) or not expected:
            raise InputError(
                f"expected continuation {expected!r} is not a text with tokens; give one, or leave it missing."
            )
    return known


def told_by_first_token(known: pd.DataFrame, subject: Subject) -> tuple[pd.DataFrame, Tensor, dict[str, int]]:
    """Keep the prompts whose right answer differs from every other answer in its first token after the prompt.

    An answer of a character-level model begins with a space, whatever its word: a model that predicts a space has not
    given it. So a prompt is left out if the token is only a space, or if an answer of another word, to whichever
    prompt, begins with it. It is left out too if the tokenizer joins the end of the prompt with the answer.

    Args:
        known: of `known_answers`.
        subject: the model.

    Returns:
        The prompts that are left, the first tokens of their answers, int64 [n], and the number left out by reason.

    Raises:
        InputError: none are left, or the model came without a tokenizer.
    """
    if subject.tokenizer is None:
        raise InputError(f"{subject.name!r} came without a tokenizer: its answers cannot be read; pass tokenizer=.")
    first = [_first(text, answer, subject) for text, answer in zip(known["text"], known["expected"], strict=True)]
    words = [_first_word(answer) for answer in known["expected"]]
    begun: dict[int, set[str]] = defaultdict(set)
    for token, word in zip(first, words, strict=True):
        begun[token].add(word)
    reasons = {JOINED: 0, SHARED: 0}
    kept = []
    for place, (token, word) in enumerate(zip(first, words, strict=True)):
        blank = word.strip() and token >= 0 and not str(subject.token_strings[token]).strip()
        if token < 0:
            reasons[JOINED] += 1
        elif blank or len(begun[token]) > 1:
            reasons[SHARED] += 1
        else:
            kept.append(place)
    reasons = {reason: n for reason, n in reasons.items() if n}
    if not kept:
        raise InputError(
            f"no right answer can be told by its first token under the tokenizer of {subject.name!r}: "
            f"{said(reasons, len(known))}; give answers that differ in their first token."
        )
    return known.iloc[kept].reset_index(drop=True), tensor([first[place] for place in kept]), reasons


def said(reasons: dict[str, int], n_prompts: int) -> str:
    """Return the numbers of prompts left out, with their reasons, as part of a sentence.

    >>> said({JOINED: 3}, 12)
    "3 of 12 prompts left out, because the answer's first token begins inside the prompt"
    """
    parts = [f"because {reason}" for reason in reasons]
    if len(reasons) > 1:
        parts = [f"{n} {part}" for n, part in zip(reasons.values(), parts, strict=True)]
    return f"{sum(reasons.values())} of {n_prompts} prompts left out, {', '.join(parts)}"


def _first(text: Any, answer: str, subject: Subject) -> int:
    """Return the first token of an answer after its prompt; -1 if the tokenizer joins the two."""
    first = -1
    with suppress(InputError):
        first = tokens_after(text, answer, subject.tokenizer)[0]
    if first < 0:
        subject.tokens([text, answer], bos=False)  # a text that cannot be read is refused
    if first >= subject.d_vocab:
        raise InputError(
            f"the expected continuation {answer!r} begins with the token id {first}, but the vocabulary of "
            f"{subject.name!r} has {subject.d_vocab}; leave it missing."
        )
    return first


def _first_word(answer: str) -> str:
    word = (answer.split() or [answer])[0]
    return word.strip(string.punctuation) or word
