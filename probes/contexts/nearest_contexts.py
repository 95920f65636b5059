"""Nearest contexts (LatentLens): the occurrence of a word, in a sentence, whose state is most like a state.

The logit lens reads every state as a next token. Here a state is compared with states of the same layer in other texts,
so that it is named by what such states stand for. A neighbour says something only beside two controls: a random state
of the bank ("shuffled": what the frequency of tokens gives), and another occurrence of the neighbour's own token
("same_token": what the token gives without its context).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    Column,
    Layers,
    Positions,
    Run,
    Schema,
    Source,
    Subject,
    Texts,
    Tokens,
    columns,
    content_keys,
    layers_of,
    load,
    next_tokens,
    positions_of,
    probe,
    rows_of_block,
    select_positions,
)
from interp.model.tape import Tape
from probes import papers
from probes.contexts import explore, plots
from probes.contexts._neighbours import CONTROLS, Neighbours, neighbours_of
from probes.contexts._words import contexts_of
from probes.contexts.state_bank import StateBank

NEAREST = Schema(
    probe="nearest_contexts",
    paper=papers.LATENT_LENS,
    rows="one per prompt, position, layer, neighbour and control",
    columns=columns(
        "model",
        "run_id",
        "prompt_id",
        "pos",
        "token_id",
        "token",
        "layer",
        Column("rank_neighbour", "int", "place of the neighbour, 0 is the nearest", low=0),
        Column("bank_layer", "int", "layer of the neighbour's state", low=0),
        Column("neighbour_id", "int", "the token of the neighbour", low=0),
        Column("neighbour", "str", "`neighbour_id` as text"),
        Column("neighbour_next_id", "id", "the token that follows the neighbour", low=0, missing=True),
        Column("neighbour_next", "str", "`neighbour_next_id` as text", missing=True),
        Column("context", "str", "the text around the neighbour, itself in brackets"),
        Column("cosine", "float", "cosine of the two states", low=-1.001, high=1.001),
        Column("z", "float", "standard deviations above the cosine of random states of the bank's layer"),
        Column("same_token", "bool", "whether the neighbour is the token at this position"),
        Column(
            "same_next", "float", "1 if the same token follows both, else 0; missing at an end of a text", "0..1",
            low=0.0, high=1.0, missing=True,
        ),
        Column("lens_id", "int", "the logit lens' most probable next token from this state", low=0),
        Column("lens", "str", "`lens_id` as text"),
        Column("lens_own", "bool", "whether that is the token at this position"),
        Column(
            "lens_next", "float", "1 if it is the token that follows, else 0; missing at the end", "0..1",
            low=0.0, high=1.0, missing=True,
        ),
        "control",
    ),
    summary_by=("layer", "control"),
    summary_of=("same_token", "same_next", "cosine", "z", "lens_own", "lens_next"),
)  # fmt: skip


def _example(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    layers = sorted({1, subject.n_layers // 2, subject.n_layers})
    return {"bank": StateBank.of(subject, texts, layers=layers, skip=1, truncate=True), "texts": texts.head(4)}


@probe(NEAREST, plot=plots.nearest_contexts, explore=explore.nearest_contexts, example=_example)
def nearest_contexts(
    subject: Source,
    texts: Texts,
    *,
    bank: StateBank,
    layers: Layers = None,
    positions: Positions = None,
    k: int = 5,
    across_layers: bool = False,
    centre: bool = True,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Find, for every state of texts, the contexts of a bank whose states are most like it.

    Any other vectors are asked of the bank itself: `bank.nearest(subject, vectors, layer)`.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes. A text that is in the bank finds itself.
        bank: of the same model, see `StateBank.of`.
        layers: to read; None and "all" take those of the bank.
        positions: to read, see `logit_lens`; None reads all, first positions too.
        k: neighbours of each state.
        across_layers: search all layers of the bank for each state, and rank by `z`: cosines of different layers are
            not comparable. False searches the state's own layer.
        centre: take the bank's mean state of a layer off all states of it; False compares raw states, as published.
            Without it, any two states of a middle layer have a cosine of about one half.
        seed: of the controls.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        For every state `k` neighbours, and for each of them its controls: "shuffled", a random state of the bank, and
        "same_token", a random occurrence of the neighbour's token, another one where the bank has one. `cosine` and `z`
        of a control are its own. `lens_own` and `lens_next` say what the logit lens makes of the same state.

    Raises:
        InputError: the bank lacks a layer, or an argument is out of range.
        ModelError: the bank is of another model.

    Cost: one forward pass and an unembedding per state; then a product of every state with all of the bank's layer.

    Pitfall: a neighbour is the nearest of the bank, however far it is. Compare `cosine` and `same_next` with those
    of the control "same_token", which the token gives without its context; a token that the bank lacks has no likeness.

    >>> from probes import StateBank
    >>> bank = StateBank.of("reference", ["The cat sat on the mat, and the dog sat on the floor."], layers=[0, 4])
    >>> frame = nearest_contexts("reference", ["There was a big dog"], bank=bank, positions=-1, k=1)
    >>> frame[frame.control == "none"][["layer", "neighbour"]].values.tolist()
    [[0, ' dog'], [4, ' dog']]
    """
    subject = load(subject)
    every = layers is None or isinstance(layers, str)
    chosen = list(bank.layers) if every else layers_of(layers, subject.n_layers, subject.name)
    parameters = {
        "bank": bank.digest, "layers": chosen, "positions": positions, "k": k, "across_layers": across_layers,
        "centre": centre,
    }  # fmt: skip
    run = Run(NEAREST, subject, texts, parameters=parameters, truncate=truncate, seed=seed)
    bank.check(run.subject)
    bank.check_k(k)
    for layer in chosen:
        run.subject.check_layer(layer, run.subject.n_layers) if across_layers else bank.at(layer)
    asked = positions_of(run.subject, run.tokens, positions)
    read = run.subject.reader(entropy=False, kl=False)
    draws = _draws(run.tokens, k, seed)
    parts = []
    for batch in run.batches(2):  # the residuals, and those selected of them
        row, pos = select_positions(batch, asked)

        def program(tape: Tape, row: Tensor = row, pos: Tensor = pos) -> tuple[Tensor, Tensor]:
            at = row.to(tape.last.device), pos.to(tape.last.device)
            states = [tape.residual(layer)[at] for layer in chosen]
            return torch.stack(states).float().cpu(), read(tape, states, tape.last[at]).top_id[:, :, 0].cpu()

        states, lens = run.subject.run(batch.ids, program)
        drawn = np.stack(
            [draws[prompt][at] for prompt, at in zip(batch.prompts[row].tolist(), pos.tolist(), strict=True)]
        )
        found = [
            neighbours_of(
                bank, of_layer, bank.layers if across_layers else (layer,), drawn, k=k, centre=centre, seed=seed
            )
            for layer, of_layer in zip(chosen, states, strict=True)
        ]
        own, following = batch.ids[row, pos].numpy(), next_tokens(batch, row, pos)[:, 0].numpy()
        parts.append(
            rows_of_block(
                (len(row), len(chosen), k * len(CONTROLS)),
                by_row=run.token_columns(batch, row, pos),
                by_place={"layer": np.array(chosen)},
                full=_columns(run.subject, bank, found, own, following) | _of_lens(lens.T.numpy(), own, following),
            )
        )
    return run.frame(parts)


def _draws(tokens: Tokens, k: int, seed: int) -> list[np.ndarray]:
    """Return k random numbers in [0, 1) for every position of every prompt, which only its own contents decide."""
    keys = content_keys(tokens.ids, seed).tolist()
    return [np.random.default_rng(key).random((len(ids), k)) for key, ids in zip(keys, tokens.ids, strict=True)]


def _columns(
    subject: Subject, bank: StateBank, found: Sequence[Neighbours], own: np.ndarray, following: np.ndarray
) -> dict[str, np.ndarray]:
    """Return columns [state, layer, control x neighbour] of neighbours, given each state's token and the next one."""
    index, cosine, z, bank_layer = (
        np.stack([getattr(one, name) for one in found], axis=1) for name in ("index", "cosine", "z", "layer")
    )
    token, after = bank.places.token_id[index], bank.next_id[index]
    known = (after >= 0) & (following[:, None, None] >= 0)
    n_each = index.shape[2] // len(CONTROLS)
    text = contexts_of(subject, bank.texts, bank.places.at(index.ravel())).reshape(index.shape)
    return {
        "rank_neighbour": np.tile(np.arange(n_each), len(CONTROLS)),
        "control": np.repeat(np.array(CONTROLS, dtype=object), n_each),
        "bank_layer": bank_layer,
        "neighbour_id": token,
        "neighbour_next_id": after,
        "context": text,
        "cosine": cosine,
        "z": z,
        "same_token": token == own[:, None, None],
        "same_next": np.where(known, after == following[:, None, None], np.nan),
    }


def _of_lens(lens: np.ndarray, own: np.ndarray, following: np.ndarray) -> dict[str, np.ndarray]:
    """Return columns [state, layer, 1] of what the logit lens says, [state, layer]."""
    same = np.where(following[:, None] >= 0, lens == following[:, None], np.nan)
    return {"lens_id": lens[:, :, None], "lens_own": (lens == own[:, None])[:, :, None], "lens_next": same[:, :, None]}
