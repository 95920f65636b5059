"""Distributions of replacement tokens at every position, sampled with given uniform numbers.

Sampling is deterministic given the uniform numbers, so draws do not depend on batching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from torch import Tensor

from interp.authoring import InputError, Subject, UnknownName, Usable, usable_facts, usable_tokens
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

    def among(self, allowed: np.ndarray, own: np.ndarray) -> Replacements:
        """Return the same distributions over the tokens that are `allowed`; where none is, the token itself stays.

        Args:
            allowed: bool [d_vocab].
            own: the tokens of the sequence, int64 [pos].

        >>> coin = Replacements([np.array([7, 9])], [np.array([0.5, 1.0])])
        >>> coin.among(np.arange(10) != 7, np.array([3])).ids
        [array([9])]
        """
        found = []
        for ids, cumulative, token in zip(self.ids, self.cumulative, own, strict=True):
            weights = np.diff(cumulative, prepend=0.0) * allowed[ids]
            found.append(_cut(ids, weights) if weights.any() else (np.array([token]), np.array([1.0])))
        return Replacements([ids for ids, _ in found], [cumulative for _, cumulative in found])


def replacements(
    sampler: SamplerName | Any, subject: Subject, contexts: Sequence[Tensor], usable: Usable = None
) -> list[Replacements]:
    """Return a sampler's distributions for every sequence.

    Args:
        sampler: a name in `SAMPLERS`, counts [d_vocab], or an object with `table(subject, ids) -> Replacements`, such
            as a `MaskedLM`.
        subject: the model that the tokens belong to.
        contexts: token ids [pos] each.
        usable: see `interp.authoring.usable_tokens`; only these tokens replace others.

    Raises:
        UnknownName: there is no such sampler.
        InputError: something that the sampler needs is missing, or the counts cannot be used.
    """
    allowed = usable_tokens(usable, subject)
    if isinstance(sampler, np.ndarray | Tensor):
        return _everywhere(checked_counts(sampler, subject), subject, contexts, allowed)
    if isinstance(sampler, str) and sampler in ("unigram", "uniform"):
        weights = unigram_weights(subject) if sampler == "unigram" else np.ones(subject.d_vocab)
        return _everywhere(weights, subject, contexts, allowed)
    tables = _by_position(sampler, subject, contexts)
    if allowed is None:
        return tables
    return [table.among(allowed, ids.numpy()) for table, ids in zip(tables, contexts, strict=True)]


def _by_position(sampler: Any, subject: Subject, contexts: Sequence[Tensor]) -> list[Replacements]:
    """Return the distributions of a sampler that depends on the position."""
    if not isinstance(sampler, str):
        return [sampler.table(subject, ids) for ids in contexts]
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


def sampler_facts(sampler: Any, subject: Subject, argument: str = "sampler", usable: Usable = None) -> dict[str, Any]:
    """Return the provenance of a sampler and its usable tokens, and refuse what cannot be used; no model runs.

    Args:
        sampler: see `replacements`.
        subject: the model.
        argument: the name of the argument that gave it.
        usable: see `replacements`.

    Raises:
        InputError: the counts cannot be used, `usable` is of another vocabulary, or the sampler is a function of the
            user's own, which draws what it draws.
    """
    facts = usable_facts(usable, subject)
    if usable is not None and callable(sampler) and not hasattr(sampler, "table"):
        raise InputError(
            f"usable= does not reach {argument}={sampler_name(sampler)}: let it draw usable tokens itself."
        )
    if isinstance(sampler, np.ndarray | Tensor):
        ordinary(checked_counts(sampler, subject), subject, usable_tokens(usable, subject))
    unigram = isinstance(sampler, str) and sampler == "unigram"
    return {argument: sampler_name(sampler)} | ({"unigram": unigram_source(subject)} if unigram else {}) | facts


def sampler_name(sampler: Any) -> str:
    """Return the name of a sampler for provenance; counts are named by their values."""
    if isinstance(sampler, np.ndarray | Tensor):
        return counts_name(sampler)
    return sampler if isinstance(sampler, str) else str(getattr(sampler, "__name__", type(sampler).__name__))


def _everywhere(
    weights: np.ndarray, subject: Subject, contexts: Sequence[Tensor], allowed: np.ndarray | None
) -> list[Replacements]:
    """Return the same distribution for every position."""
    ids, cumulative = _shared(ordinary(weights, subject, allowed))
    return [Replacements([ids] * len(one), [cumulative] * len(one)) for one in contexts]


def _shared(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _cut(np.arange(len(weights)), weights)


def _cut(ids: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens [choices] that have a weight, and their cumulative probabilities."""
    some = np.flatnonzero(weights)
    ids, cumulative = ids[some], np.cumsum(weights[some] / weights.sum())
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
