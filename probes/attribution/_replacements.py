"""Distributions of replacement tokens at every position, sampled with given uniform numbers.

Sampling is deterministic given the uniform numbers, so draws do not depend on batching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from torch import Tensor

from interp.authoring import InputError, Subject, UnknownName
from probes.attribution._unigram import checked_counts, counts_name, ordinary, unigram_source, unigram_weights

SamplerName: TypeAlias = Literal["unigram", "uniform", "pos", "masked_lm", "self"]
OwnSampler: TypeAlias = Callable[[np.ndarray, np.random.Generator], Any]
"""(token ids [pos], generator) -> token ids [pos]; called once per draw."""

SAMPLERS = ("unigram", "uniform", "pos", "masked_lm", "self")


@dataclass(frozen=True, eq=False)
class Replacements:
    """A categorical distribution over tokens at every position of one sequence.

    Attributes:
        ids: possible tokens at each position, int64 [choices] each.
        cumulative: their cumulative probabilities, float64 [choices] each, ending in 1.
    """

    ids: Sequence[np.ndarray]
    cumulative: Sequence[np.ndarray]

    def draw(self, uniforms: np.ndarray) -> np.ndarray:
        """Map numbers in [0, 1) to tokens: [..., pos] -> int64 [..., pos].

        >>> coin = Replacements([np.array([7, 9])] * 2, [np.array([0.5, 1.0])] * 2)
        >>> coin.draw(np.array([0.2, 0.8])).tolist()
        [7, 9]
        """
        drawn = np.empty(uniforms.shape, dtype=np.int64)
        if all(ids is self.ids[0] for ids in self.ids):
            chosen = np.searchsorted(self.cumulative[0], uniforms, side="right")
            return self.ids[0][chosen]
        for pos, (ids, cumulative) in enumerate(zip(self.ids, self.cumulative, strict=True)):
            drawn[..., pos] = ids[np.searchsorted(cumulative, uniforms[..., pos], side="right")]
        return drawn


def replacements(sampler: SamplerName | Any, subject: Subject, contexts: Sequence[Tensor]) -> list[Replacements]:
    """Return a sampler's distributions for every sequence.

    Args:
        sampler: a name in `SAMPLERS`, counts [d_vocab], or an object with `table(subject, ids) -> Replacements`, such
            as a `MaskedLM`.
        subject: the model that the tokens belong to.
        contexts: token ids [pos] each.

    Raises:
        UnknownName: there is no such sampler.
        InputError: something that the sampler needs is missing, or the counts cannot be used.
    """
    if isinstance(sampler, np.ndarray | Tensor):
        return _everywhere(checked_counts(sampler, subject), subject, contexts)
    if not isinstance(sampler, str):
        return [sampler.table(subject, ids) for ids in contexts]
    if sampler in ("unigram", "uniform"):
        weights = unigram_weights(subject) if sampler == "unigram" else np.ones(subject.d_vocab)
        return _everywhere(weights, subject, contexts)
    if sampler == "pos":
        return _by_part_of_speech(subject, contexts)
    if sampler == "self":
        return [_own_predictions(subject, ids) for ids in contexts]
    if sampler == "masked_lm":
        raise InputError(
            "sampler='masked_lm' needs a masked language model: pass sampler=MaskedLM(model, tokenizer) "
            "(both from probes.reagent)."
        )
    raise UnknownName("sampler", sampler, SAMPLERS)


def sampler_facts(sampler: Any, subject: Subject, argument: str = "sampler") -> dict[str, Any]:
    """Return the provenance of a sampler, and refuse counts that cannot be used; no model runs.

    Args:
        sampler: see `replacements`.
        subject: the model.
        argument: the name of the argument that gave it.

    Raises:
        InputError: the counts cannot be used.
    """
    if isinstance(sampler, np.ndarray | Tensor):
        ordinary(checked_counts(sampler, subject), subject)
    unigram = isinstance(sampler, str) and sampler == "unigram"
    return {argument: sampler_name(sampler)} | ({"unigram": unigram_source(subject)} if unigram else {})


def sampler_name(sampler: Any) -> str:
    """Return the name of a sampler for provenance; counts are named by their values."""
    if isinstance(sampler, np.ndarray | Tensor):
        return counts_name(sampler)
    return sampler if isinstance(sampler, str) else str(getattr(sampler, "__name__", type(sampler).__name__))


def _everywhere(weights: np.ndarray, subject: Subject, contexts: Sequence[Tensor]) -> list[Replacements]:
    """Return the same distribution for every position."""
    ids, cumulative = _shared(ordinary(weights, subject))
    return [Replacements([ids] * len(one), [cumulative] * len(one)) for one in contexts]


def _shared(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ids = np.flatnonzero(weights)
    cumulative = np.cumsum(weights[ids] / weights.sum())
    cumulative[-1] = 1.0  # exactly 1: a number above a rounded-down end would find no token
    return ids, cumulative


def _own_predictions(subject: Subject, ids: Tensor) -> Replacements:
    """Return the model's argmax at each position given the intact tokens before it; the first token stays."""
    argmax = subject.run(ids[None], lambda tape: tape.head(tape.last[0, :-1]).argmax(dim=-1)).cpu().numpy()
    certain = np.array([1.0])
    tokens = np.concatenate([ids[:1].numpy(), argmax])
    return Replacements([np.array([token]) for token in tokens], [certain] * len(tokens))


def _by_part_of_speech(subject: Subject, contexts: Sequence[Tensor]) -> list[Replacements]:
    """Return uniform distributions over the tokens with the same nltk tag (of single tokens), including the token."""
    tags = _tags([str(text).strip() for text in subject.token_strings])
    groups = {tag: _shared((tags == tag).astype(float)) for tag in np.unique(tags)}
    tables = []
    for ids in contexts:
        chosen = [groups[tag] for tag in tags[ids.numpy()]]
        tables.append(Replacements([one[0] for one in chosen], [one[1] for one in chosen]))
    return tables


def _tags(words: list[str]) -> np.ndarray:
    try:
        import nltk  # type: ignore[import-not-found]
    except ImportError:
        raise InputError("sampler='pos' needs nltk, which is not installed: pip install nltk.") from None
    try:
        return np.array([nltk.pos_tag([word or " "])[0][1] for word in words])
    except LookupError:
        raise InputError(
            "sampler='pos' needs nltk's tagger: python -m nltk.downloader averaged_perceptron_tagger_eng."
        ) from None
