"""Cut texts longer than the context into windows, for methods that study tokens rather than whole texts."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import torch

from interp.checks import checked
from interp.model.subject import Subject
from interp.model.texts.tokenizer import start_of_text
from interp.model.tokens import Texts, Tokens, tokens_of


@checked
def context_windows(subject: Subject, texts: Texts, *, bos: bool | None = None) -> Tokens:
    """Tokenise texts, and cut those longer than the context into windows of the context.

    Each window begins with the tokenizer's start if its text does; the last one may be shorter. The windows are
    numbered anew, as they are not the user's prompts. If all texts fit, the result is that of `Subject.tokens`.

    Args:
        subject: the model.
        texts: anything `Subject.tokens` takes.
        bos: see `Subject.tokens`.

    Raises:
        InputError: a text cannot be used.

    >>> from interp import load
    >>> [len(ids) for ids in context_windows(load("reference"), ["cat " * 300, "a cat"]).ids]
    [256, 48, 3]
    """
    whole = tokens_of(subject, texts, n_ctx=sys.maxsize, bos=bos)
    if all(len(ids) <= subject.n_ctx for ids in whole.ids):
        return whole
    n_start = len(start_of_text(subject.tokenizer)) if whole.bos else 0
    windows = []
    for ids in whole.ids:
        n = n_start if len(ids) > n_start else 0
        start, text = ids[:n], ids[n:]
        windows += [torch.cat([start, part]) for part in torch.split(text, max(1, subject.n_ctx - len(start)))]
    table = pd.DataFrame({"prompt_id": np.arange(len(windows))})
    return Tokens(windows, table, whole.bos, np.zeros(len(windows), dtype=np.int64), whole.chat)
