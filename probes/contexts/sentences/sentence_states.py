"""`sentence_states`: one vector for each text, also where a causal model would not let early tokens see what follows.

In one pass a token's state knows nothing of the tokens behind it. "echo" reads the text twice and pools its second copy
(Springer et al. 2024); "prepend" puts a placeholder first and hands it the last token's state from block to block (Fu
et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    InputError,
    Source,
    Subject,
    Texts,
    Tokens,
    checked,
    in_batches,
    layers_of,
    load,
)
from interp.model.tape import Tape
from probes.contexts.sentences._pooling import first_tokens_of, n_started, weights

Method: TypeAlias = Literal["last", "mean", "echo", "prepend"]
"""The last token's state, the mean of all, that of a second copy, or that behind a token which holds the last one's."""


@dataclass(frozen=True, eq=False)
class States:
    """Vectors of texts, and the table of the texts.

    Attributes:
        vectors: float32 [n_prompts, d_model].
        table: one row per vector: `prompt_id`, and the other columns of the user's frame except `text`.
        layer: of the residual stream that was read.
        method: how.
        model, fingerprint: of the model.
    """

    vectors: Tensor
    table: pd.DataFrame
    layer: int
    method: str
    model: str
    fingerprint: str

    def __len__(self) -> int:
        return len(self.vectors)


@checked
def sentence_states(
    subject: Source,
    texts: Texts,
    *,
    method: Method = "last",
    layer: int = -1,
    n_tokens: int | None = None,
    blocks: tuple[int, int] = (1, 7),
    truncate: bool = False,
) -> States:
    """Return one vector for each text, at one layer.

    A mean is over the text's tokens, without the model's start and without position 0.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        method: "last": the state of the last token. "mean": the mean of all tokens' states. "echo": the mean over the
            second copy of the text, which is read twice. "prepend": the mean, behind a placeholder token (the start or
            end of a text) whose state before each of `blocks` is replaced by the last token's.
        layer: 0 enters the first block, L leaves the last, before the final norm; negative ones from the last.
        n_tokens: pool only so many first tokens of each text; None pools all. It shows what early tokens know.
        blocks: for "prepend", from the first of these up to, not with, the second; those that there are.
        truncate: cut texts longer than the context instead of refusing them; the second copy needs room too.

    Raises:
        InputError: an argument is out of range.
        TooLong: a text, or its two copies, are longer than the context.

    Cost: one forward pass; of texts twice as long for "echo"; "prepend" runs blocks from the first one replaced again.

    >>> from probes import sentence_states
    >>> states = sentence_states("reference", ["The cat sat.", "A dog ran away."], method="mean", layer=4)
    >>> tuple(states.vectors.shape), states.layer
    ((2, 256), 4)
    """
    loaded = load(subject)
    (chosen,) = layers_of(layer, loaded.n_layers, loaded.name)
    first, stop = blocks
    if not 0 <= first <= stop:
        raise InputError(f"blocks={blocks}: give two numbers of 0 or more, the smaller one first.")
    tokens = loaded.tokens(texts, truncate=truncate)
    start = n_started(loaded, tokens)
    texts_alone = [ids[start:] if len(ids) > start else ids for ids in tokens.ids]
    pooled = first_tokens_of([len(ids) for ids in texts_alone], n_tokens)
    before = [ids[: len(ids) - len(own)] for ids, own in zip(tokens.ids, texts_alone, strict=True)]
    if method == "echo":
        before = [torch.cat([ids, own]) for ids, own in zip(before, texts_alone, strict=True)]
    if method == "prepend":
        placeholder = torch.tensor([_placeholder(loaded)])
        before = [torch.cat([ids, placeholder]) for ids in before]
    whole = [torch.cat([ids, own]).tolist() for ids, own in zip(before, texts_alone, strict=True)]
    places = [(len(ids), len(ids) + n) for ids, n in zip(before, pooled, strict=True)]
    replaced = range(first, stop) if method == "prepend" else range(0)
    vectors = _pooled(
        loaded, loaded.tokens(whole), places, "last" if method == "last" else "mean", chosen, replaced, start
    )
    return States(vectors, tokens.table, chosen, method, loaded.name, loaded.fingerprint)


def _placeholder(subject: Subject) -> int:
    """Return the start-of-text token, or the end-of-text token, or the first one there is."""
    known = (getattr(subject.tokenizer, name, None) for name in ("bos_token_id", "eos_token_id"))
    return next((int(one) for one in known if one is not None), 0)


def _pooled(
    subject: Subject,
    tokens: Tokens,
    places: Sequence[tuple[int, int]],
    pooling: Literal["mean", "last"],
    layer: int,
    replaced: range,
    start: int,
) -> Tensor:
    """Return the pooled states at `layer`, float32 [n, d_model]; the placeholder stands at position `start`."""
    found = torch.empty(len(tokens), subject.d_model)
    for batch in in_batches(tokens, subject.batch_tokens(2), "sentence_states"):
        length = batch.ids.shape[1]
        chosen = [places[index] for index in batch.prompts.tolist()]
        weight = torch.stack([weights(first, stop, length, pooling) for first, stop in chosen])

        def program(tape: Tape, weight: Tensor = weight, last: Tensor = batch.lengths - 1) -> Tensor:
            state = _replacing(tape, replaced, layer, start, last) if len(replaced) else tape.residual(layer)
            return torch.einsum("bp,bpd->bd", weight.to(state.device), state.float()).cpu()

        found[batch.prompts] = subject.run(batch.ids, program)
    return found


def _replacing(tape: Tape, replaced: range, layer: int, place: int, last: Tensor) -> Tensor:
    """Return the residual at `layer` where the state at `place` is the last token's before each of some blocks."""
    first = min(replaced.start, layer)
    state = tape.residual(first)
    rows, last = torch.arange(len(state), device=state.device), last.to(state.device)
    for block in range(first, layer):
        if block in replaced:
            state = state.clone()
            state[:, place] = state[rows, last]
        state = tape.run_block(block, state)
    return state
