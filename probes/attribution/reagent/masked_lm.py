"""Replacement tokens from a masked language model, one position masked at a time."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError, Subject, single_token
from probes.attribution._replacements import Replacements


@dataclass(frozen=True, eq=False)
class MaskedLM:
    """A sampler for `reagent` that replaces each token by predictions of a masked language model.

    The masked model reads the text decoded around the mask. Of its `k` likeliest words, those that are exactly one
    token of the studied model are kept and weighted by their probability. If there are none, the token stays. The
    published code wrote the masked model's own ids into the studied model's input, where they mean other words.

    Attributes:
        model: a Hugging Face masked language model.
        tokenizer: its tokenizer.
        k: number of its words to consider.
    """

    model: Any
    tokenizer: Any
    k: int = 50

    def table(self, subject: Subject, ids: Tensor) -> Replacements:
        """Return the replacements at each position of `ids` [pos].

        Raises:
            InputError: the studied model has no tokenizer, or the masked model's tokenizer has no mask token.
        """
        if subject.tokenizer is None:
            raise InputError(f"a masked language model needs text, but {subject.name!r} has no tokenizer.")
        if self.tokenizer.mask_token is None:
            raise InputError(
                f"the tokenizer {type(self.tokenizer).__name__} has no mask token; pass that of a masked model."
            )
        texts = [self._masked(subject, ids, pos) for pos in range(len(ids))]
        encoded = self.tokenizer(texts, return_tensors="pt", padding=True)
        with torch.no_grad():
            logits = self.model(**encoded).logits.float()
        at = (encoded["input_ids"] == self.tokenizer.mask_token_id).int().argmax(dim=1)
        probs, words = logits[torch.arange(len(ids)), at].softmax(dim=-1).topk(min(self.k, logits.shape[-1]))
        choices = [self._ours(subject, int(ids[pos]), probs[pos], words[pos]) for pos in range(len(ids))]
        return Replacements([one[0] for one in choices], [one[1] for one in choices])

    def _masked(self, subject: Subject, ids: Tensor, pos: int) -> str:
        space = " " if str(subject.token_strings[int(ids[pos])]).startswith(" ") else ""
        before, after = (
            subject.tokenizer.decode(part, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            for part in (ids[:pos], ids[pos + 1 :])
        )
        return f"{before}{space}{self.tokenizer.mask_token}{after}"

    def _ours(self, subject: Subject, own: int, probs: Tensor, words: Tensor) -> tuple[np.ndarray, np.ndarray]:
        space = " " if str(subject.token_strings[own]).startswith(" ") else ""
        weights: dict[int, float] = {}
        for word, prob in zip(words, probs.tolist(), strict=True):
            text = space + self.tokenizer.decode([int(word)]).strip()
            with suppress(InputError):  # several tokens, or unknown
                token = single_token(text or " ", subject.tokenizer)
                if token < subject.d_vocab and token not in subject.tokenizer.all_special_ids:
                    weights[token] = weights.get(token, 0.0) + prob
        if not weights:
            return np.array([own]), np.array([1.0])
        cumulative = np.cumsum(list(weights.values())) / sum(weights.values())
        cumulative[-1] = 1.0
        return np.array(list(weights)), cumulative
