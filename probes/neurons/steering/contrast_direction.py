"""Find a direction by contrast: the mean difference of residuals between two lists of words or two sets of prompts.

This is contrastive activation addition (Rimsky et al., 2023, arXiv 2312.06681); of one prompt on each side, activation
addition (Turner et al., 2023, arXiv 2308.10248).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    InputError,
    Layers,
    Source,
    Subject,
    Texts,
    Tokens,
    checked,
    content_keys,
    content_order,
    layers_of,
    load,
    require_two_tokens,
    start_of_text,
    warn,
)
from interp.model.tape import Tape
from probes.neurons._concept_words import ConceptWords, concept_words
from probes.neurons.steering.direction import Direction

_LONG = 8  # times the median length of states

Read: TypeAlias = Literal["last", "mean"]
"""The state that stands for a text: its last token's, or the mean over its tokens without position 0."""


@checked
def contrast_direction(
    subject: Source,
    positive: Texts,
    negative: Texts,
    *,
    layers: Layers,
    read: Read = "last",
    template: str = "{}",
    words: Sequence[str] | None = None,
    held_out: float = 0.5,
    concept: str | None = None,
    seed: int = 0,
    truncate: bool = False,
) -> Direction:
    """Find the direction from the mean state of one set of words or prompts to that of another.

    Args:
        subject: anything `interp.load` takes.
        positive: a list of words, without spaces, or anything else that `Subject.tokens` takes. If both sides are lists
            of words, a word is read alone, as it stands inside a sentence; words that are not single tokens are
            dropped, and the result says which.
        negative: the same of the other side.
        layers: of the residual stream, 0..L, each of which gets its vector; to steer, choose one of 1..L.
        read: see `Read`.
        template: a text with {} for each word of a list, such as "This is about the word {}"; "{}" reads words alone.
            A warning says where some words' states are many times as long as the others', as those of attention sinks
            are in real models: their mean says nothing of the rest, and a template mends it.
        words: words that measure the effect of steering. None holds out a share of the positive words; prompts need
            `words` to be steered with.
        held_out: share of the positive words kept out of the direction, on which `steer` measures the effect.
        concept: its name in frames; by default the first positive word, or "contrast".
        seed: of the split and of the shuffled groups.
        truncate: cut texts that are longer than the context, instead of refusing them.

    Returns:
        The direction. Its `frame` has a row per layer with `auroc`: of all pairs of a positive and a negative text, the
        share that the direction found without both orders right; .5 is chance. Its `shuffled` vectors are the same
        contrast between random halves of either group, which are alike.

    Raises:
        InputError: a side is empty, a word is on both sides, or the words cannot be used.

    Cost: one forward pass over all texts.

    Pitfall: any two sets of texts differ somewhere: compare the effect with the control "shuffled" of `steer`, and
    read `auroc` before it.

    >>> from probes import contrast_direction
    >>> words = ["happy", "glad", "smiled", "joy"], ["sad", "cried", "angry"]
    >>> joy = contrast_direction("reference", *words, layers=[3, 5])
    >>> joy
    Direction('...', layers 3, 5, held out: ..., AUROC of left-out pairs ... at layer ...)
    >>> joy.by_layer[5].shape, joy.frame["layer"].tolist()
    (torch.Size([256]), [3, 5])
    """
    model = load(subject)
    chosen = layers_of(layers, model.n_layers, model.name)
    split: ConceptWords | None
    if _are_words(positive) and _are_words(negative):
        split, sides = _word_sides(model, positive, negative, template, words, held_out, seed)  # type: ignore[arg-type]
    else:
        split = None if words is None else concept_words(model, words, held_out=1)
        sides = [model.tokens(texts, truncate=truncate) for texts in (positive, negative)]
    if read == "mean":
        for side in sides:
            require_two_tokens(side)  # position 0 is left out
    if content_keys(sides[0].ids, 0).tolist() == content_keys(sides[1].ids, 0).tolist():
        raise InputError("both sides hold the same texts; give texts that differ.")
    groups = [_states(model, side, chosen, read) for side in sides]
    _warn_of_sinks(torch.cat(groups, dim=1), chosen)
    vectors = groups[0].mean(dim=1) - groups[1].mean(dim=1)
    for layer, vector in zip(chosen, vectors, strict=True):
        if not bool(vector.any()):
            raise InputError(f"both sides have the same mean state at layer {layer}; give texts that differ.")
    enough = min(map(len, sides)) >= 2
    halves = [_halves(*pair, seed) for pair in zip(groups, sides, strict=True)] if enough else [vectors * torch.nan]
    others = torch.stack(halves).mean(dim=0)
    frame = pd.DataFrame(
        {
            "layer": chosen,
            "norm": vectors.norm(dim=1).numpy(),
            "shuffled_norm": others.norm(dim=1).numpy(),
            "auroc": [left_out_auroc(*pair) for pair in zip(*(group.numpy() for group in groups), strict=True)],
        }
    )
    how: dict[str, Any] = {
        "found": "contrast_direction",
        "positive": {"n": len(sides[0]), "digest": sides[0].digest},
        "negative": {"n": len(sides[1]), "digest": sides[1].digest},
        "words": None if split is None else {"seeds": list(split.seeds), "held_out": list(split.held_out)},
        "read": read,
        "template": template,
        "seed": seed,
    }
    return Direction(
        concept or ("contrast" if split is None else (*split.seeds, *split.held_out)[0]),
        split,
        dict(zip(chosen, vectors.float(), strict=True)),
        dict(zip(chosen, others.float(), strict=True)) if enough else {},
        model.name,
        model.fingerprint,
        how,
        frame,
    )


def left_out_auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the share of pairs that a direction orders right which was found without either of the pair.

    The direction is the difference of the other texts' means, and the pairs are all of a positive and a negative text.
    For groups that do not differ it is .5 on average, as either of a pair is left out alike.

    Args:
        positive: states [n, d].
        negative: states [m, d].

    Returns:
        The share, ties counting half; NaN if a group has one text.

    >>> left_out_auroc(np.array([[1.0], [2.0], [3.0]]), np.array([[0.0], [0.5], [-1.0]]))
    1.0
    """
    n, m = len(positive), len(negative)
    if min(n, m) < 2:
        return float("nan")
    # (p - q) · ((P - p) / (n - 1) - (N - q) / (m - 1)) for sums P and N, of products of states with each other.
    sums = positive.sum(axis=0), negative.sum(axis=0)
    of_p = [positive @ total for total in sums] + [(positive**2).sum(axis=1)]
    of_q = [negative @ total for total in sums] + [(negative**2).sum(axis=1)]
    cross = positive @ negative.T
    own = (of_p[0] - of_p[2])[:, None] - (of_q[0][None] - cross)
    other = (of_p[1][:, None] - cross) - (of_q[1] - of_q[2])[None]
    scores = own / (n - 1) - other / (m - 1)
    return float(((scores > 0) + 0.5 * (scores == 0)).mean())


def _are_words(texts: Any) -> bool:
    """Return whether texts are a list of strings without a space inside them."""
    return isinstance(texts, list | tuple) and all(isinstance(one, str) and len(one.split()) == 1 for one in texts)


def _word_sides(
    subject: Subject,
    positive: Sequence[str],
    negative: Sequence[str],
    template: str,
    words: Sequence[str] | None,
    held_out: float,
    seed: int,
) -> tuple[ConceptWords, list[Tokens]]:
    """Return the words that measure, and each side's words as texts: of the start and the word, or of the template.

    Raises:
        InputError: a word is on both sides, or among those that measure and those that find; or a bad template.
    """
    if template.count("{}") != 1:
        raise InputError(f"template={template!r}: give a text with one {{}} for the word.")
    split = concept_words(subject, positive, held_out=0.0 if words is not None else held_out, seed=seed)
    other = concept_words(subject, negative, held_out=0.0)
    if not split.seeds:
        raise InputError("no words are left to find the direction by; give held_out below 1.")
    dropped = split.dropped + other.dropped
    if words is not None:
        measuring = concept_words(subject, words, held_out=1)
        split = replace(split, held_out=measuring.held_out, held_out_ids=measuring.held_out_ids)
        dropped += measuring.dropped
    groups = {"positive": split.seed_ids, "negative": other.seed_ids, "held-out": split.held_out_ids}
    for (one, ids), (two, others) in combinations(groups.items(), 2):
        if shared := sorted(set(ids.tolist()) & set(others.tolist())):
            raise InputError(
                f"{str(subject.token_strings[shared[0]])!r} is a {one} word and a {two} one; name each word once."
            )
    if template != "{}":
        return replace(split, dropped=dropped), [
            subject.tokens([template.format(word) for word in of.seeds]) for of in (split, other)
        ]
    start = start_of_text(subject.tokenizer)
    sides = [subject.tokens([[*start, index] for index in of.choosing_ids.tolist()]) for of in (split, other)]
    return replace(split, dropped=dropped), sides


def _states(subject: Subject, tokens: Tokens, layers: Sequence[int], read: Read) -> Tensor:
    """Return the state of each text at each layer, float64 [layer, n, d_model]."""
    found = torch.empty(len(layers), len(tokens), subject.d_model, dtype=torch.float64)
    for batch in tokens.batches(subject.batch_tokens()):
        place = torch.arange(batch.ids.shape[1])
        ends = batch.lengths[:, None]
        kept = (place == ends - 1) if read == "last" else (place > 0) & (place < ends)
        weights = (kept / kept.sum(dim=1, keepdim=True)).double()

        def program(tape: Tape, weights: Tensor = weights) -> Tensor:
            share = weights.to(tape.last.device)
            return torch.stack([torch.einsum("bp,bpd->bd", share, tape.residual(at).double()) for at in layers]).cpu()

        found[:, batch.prompts] = subject.run(batch.ids, program)
    return found


def _warn_of_sinks(states: Tensor, layers: Sequence[int]) -> None:
    """Warn where a state [layer, n, d_model] is many times as long as the usual one of its layer."""
    norms = states.norm(dim=2)
    ratio = norms.amax(dim=1) / norms.median(dim=1).values.clamp(min=1e-30)
    if found := [layer for layer, by in zip(layers, ratio.tolist(), strict=True) if by > _LONG]:
        warn(
            f"at layer {', '.join(map(str, found))} a state is {float(ratio.max()):.0f} times as long as the median, "
            "like an attention sink's, and decides the direction alone: give longer texts, or words a template such as "
            "'This is about the word {}'."
        )


def _halves(states: Tensor, tokens: Tokens, seed: int) -> Tensor:
    """Return the mean of one random half of a group minus that of the other, [layer, d_model]."""
    order = torch.from_numpy(content_order(tokens.ids, seed))
    one, other = order[: len(order) // 2], order[len(order) // 2 :]
    return states[:, one].mean(dim=1) - states[:, other].mean(dim=1)
