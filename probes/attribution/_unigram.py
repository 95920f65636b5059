"""Return the frequency of each token, for replacing tokens: counts, or a model's mean next-token distribution."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError, Subject, Tokens, dataset, in_batches
from interp.data import tensor_file
from interp.data.cache import cache_folder
from interp.model.tape import Tape
from probes.attribution._targets import as_tokens

Counts: TypeAlias = np.ndarray | Tensor
"""Frequencies of all tokens, [d_vocab], in any unit."""

_N_STORIES = 16  # of 300: with the 120 prompts about 3,000 tokens, a few seconds of a model of 135 M parameters
_AT_ONCE = 1024  # tokens; not of the memory's size, which must not decide a draw by a rounding
_ROWS = 64  # of logits at once
_RANDOM = (64, 32)  # sequences and their length
_MOST_KEPT = 8  # in memory
_WORTH_A_FILE = 1.0  # seconds of the passes; without a limit every toy model would leave a file in the user's cache
_FORMAT = "interp unigram 1"
_SUM = 1e-3  # from 1: float32 probabilities of a large vocabulary

_kept: dict[str, np.ndarray] = {}


def unigram_weights(subject: Subject) -> np.ndarray:
    """Return how often each token occurs, float64 [d_vocab]; it never depends on the texts under study.

    These are the shipped counts if they were made with the subject's tokenizer; else the subject's own mean next-token
    distribution over shipped texts: the 120 prompts and 16 stories, without the first position of each. A model that
    cannot read these texts gets sequences of random tokens instead. What a model needed passes for is kept in memory
    for its fingerprint, and in the user's cache if the passes took over a second.
    """
    shipped = _shipped_counts(subject)
    if shipped is not None:
        return shipped
    if subject.edits:
        return _own(subject)  # an edited model has the fingerprint of the unedited one
    key = subject.fingerprint
    if key not in _kept:
        while len(_kept) >= _MOST_KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = _from_cache(subject)
    return _kept[key]


def unigram_source(subject: Subject) -> str:
    """Return the source of `unigram_weights`, for provenance; no model is run."""
    if _shipped_counts(subject) is not None:
        return "datasets/bigrams"
    texts = "random tokens" if _shipped_texts(subject) is None else f"prompts and {_N_STORIES} stories"
    return f"the model's mean next-token distribution over {texts}"


def checked_counts(counts: Counts, subject: Subject) -> np.ndarray:
    """Return a user's counts as float64 [d_vocab].

    Raises:
        InputError: they are of another shape, not finite, or below 0.
    """
    given = counts.detach().cpu().numpy() if isinstance(counts, Tensor) else np.asarray(counts)
    if given.shape != (subject.d_vocab,):
        raise InputError(f"the counts have shape {list(given.shape)}; give one number per token, [{subject.d_vocab}].")
    if not np.issubdtype(given.dtype, np.number) or np.iscomplexobj(given):
        raise InputError(f"the counts are {given.dtype}; give numbers.")
    weights: np.ndarray = given.astype(float)
    if not np.isfinite(weights).all() or weights.min() < 0:
        worst = weights[~np.isfinite(weights) | (weights < 0)][0]
        raise InputError(f"the counts hold {worst:g}; give finite numbers of 0 or more.")
    return weights


def counts_name(counts: Counts) -> str:
    """Return a name for a user's counts, by their values, for provenance."""
    given = counts.detach().cpu().numpy() if isinstance(counts, Tensor) else np.asarray(counts)
    return f"counts {hashlib.sha256(np.asarray(given, dtype=float).tobytes()).hexdigest()[:16]}"


def ordinary(weights: np.ndarray, subject: Subject, allowed: np.ndarray | None = None) -> np.ndarray:
    """Return the weights with 0 for special tokens, which are not words, and for tokens not `allowed`, bool [d_vocab].

    Raises:
        InputError: no other token has a weight.
    """
    special = [index for index in getattr(subject.tokenizer, "all_special_ids", ()) if index < len(weights)]
    found = weights.copy()
    found[special] = 0.0
    if allowed is not None:
        found[~allowed] = 0.0
        if not found.any():
            raise InputError("no usable token has a count above 0, nothing to replace tokens by; give others.")
    if not found.any():
        raise InputError("only special tokens have counts above 0, nothing to replace tokens by; give others.")
    return found


def _shipped_counts(subject: Subject) -> np.ndarray | None:
    """Return the shipped counts if they were made with the subject's tokenizer, else None."""
    from interp.data.bigram_counts import load_counts, tokens_sha256

    if subject.tokenizer is None:
        return None
    ids = subject.tokenizer.get_vocab()
    counts = load_counts()
    same = len(ids) == len(counts.unigram) == subject.d_vocab
    if not same or tokens_sha256(sorted(ids, key=ids.__getitem__)) != counts.tokenizer_sha256:
        return None
    return counts.unigram.astype(float)


def _shipped_texts(subject: Subject) -> Tokens | None:
    """Return shipped texts as the subject's tokens; None if it cannot read them."""
    if subject.tokenizer is None:
        return None
    texts = [*dataset("prompts")["text"], *dataset("stories")["text"].head(_N_STORIES)]
    try:
        tokens = subject.tokens(texts, truncate=True)
    except InputError:  # a tokenizer of a few words of its own
        return None
    ids = torch.cat(tokens.ids)
    unknown = getattr(subject.tokenizer, "unk_token_id", None)
    return None if unknown is not None and float((ids == unknown).float().mean()) > 0.5 else tokens


def _random_tokens(subject: Subject) -> Tokens:
    choices = np.flatnonzero(ordinary(np.ones(subject.d_vocab), subject))
    n, length = _RANDOM
    drawn = np.random.default_rng(0).choice(choices, (n, min(length, subject.n_ctx)))
    return as_tokens(list(torch.from_numpy(drawn)), None)


def _read(subject: Subject) -> Tokens:
    """Return the texts over which a model's own distribution is the mean."""
    return _shipped_texts(subject) or _random_tokens(subject)


def _from_cache(subject: Subject) -> np.ndarray:
    """Return the subject's own distribution from the user's cache; a file that is not there or damaged is made anew.

    The file's name says what decides its numbers: the model's fingerprint and the tokens read. It is put there whole,
    and whoever writes it writes the same, so that processes may share it.
    """
    if subject.unknown_code:  # another fingerprint at every load: nobody would find the file
        return _own(subject)
    tokens = _read(subject)
    name = f"{subject.fingerprint}-{tokens.digest[:16]}.safetensors"
    with suppress(InputError):
        return _from_file(cache_folder("unigram") / name, subject)
    start = time.perf_counter()
    weights = _own(subject, tokens)
    if time.perf_counter() - start >= _WORTH_A_FILE:
        with suppress(InputError):  # a cache that cannot be written to costs time, no more
            about = {"format": _FORMAT, "model": subject.name}
            held = {"weights": torch.from_numpy(weights)}
            tensor_file.write(cache_folder("unigram") / name, "the model's unigram", held, about)
    return weights


def _from_file(path: Path, subject: Subject) -> np.ndarray:
    _, held = tensor_file.read(path, "unigram", _FORMAT)
    with tensor_file.reading(path, "unigram"):
        weights = checked_counts(held["weights"], subject)
    if not abs(weights.sum() - 1) < _SUM:
        raise InputError(f"the distribution in {str(path)!r} sums to {weights.sum():g}; delete it.")
    return weights


def _own(subject: Subject, tokens: Tokens | None = None) -> np.ndarray:
    """Return the mean of the next-token distributions after all positions but the first, float64 [d_vocab]."""
    tokens = tokens or _read(subject)
    d_vocab = subject.d_vocab  # a program must not hold the subject
    total, n = torch.zeros(d_vocab, dtype=torch.float64), 0
    for batch in in_batches(tokens, min(_AT_ONCE, subject.batch_tokens()), "the model's unigram"):
        at = torch.arange(batch.ids.shape[1])
        read = (at > 0) & (at < batch.lengths[:, None])

        def sums(tape: Tape, read: Tensor = read) -> Tensor:
            states = tape.last[read.to(tape.last.device)]
            parts = (tape.head(part).float().softmax(dim=-1).sum(dim=0).double() for part in torch.split(states, _ROWS))
            return sum(parts, torch.zeros(d_vocab, dtype=torch.float64, device=states.device))

        total += subject.run(batch.ids, sums).cpu()
        n += int(read.sum())
    weights: np.ndarray = (total / max(n, 1)).numpy()
    return weights
