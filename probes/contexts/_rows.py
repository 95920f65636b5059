"""The rows of `nearest_contexts`: of the states of texts, and of any vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.authoring import (
    Positions,
    Run,
    Tokens,
    content_keys,
    next_tokens,
    positions_of,
    progress_bar,
    rows_of_block,
    select_positions,
)
from interp.model.tape import Tape
from probes.contexts._asked import Asked
from probes.contexts._neighbours import CONTROLS, Neighbours, neighbours_of
from probes.contexts._words import contexts_of
from probes.contexts.state_bank import StateBank

_AT_A_TIME = 2048  # vectors whose neighbours are looked for together


@dataclass(frozen=True)
class Search:
    """A way to look for neighbours; see the arguments of `nearest_contexts`."""

    bank: StateBank
    k: int
    across_layers: bool
    centre: bool
    seed: int

    def at(self, layer: int, states: Tensor, draws: np.ndarray, directions: np.ndarray | None = None) -> Neighbours:
        """Return the neighbours of states [n, d] of a layer and their controls, given draws [n, k]."""
        layers = self.bank.layers if self.across_layers else (layer,)
        return neighbours_of(
            self.bank, states, layers, draws, k=self.k, centre=self.centre, seed=self.seed, directions=directions
        )


def rows_of_texts(run: Run, search: Search, layers: Sequence[int], positions: Positions) -> Iterator[dict[str, Any]]:
    """Yield columns of batches of the run's texts."""
    asked = positions_of(run.subject, run.tokens, positions)
    read = run.subject.reader(entropy=False, kl=False)
    draws = _draws(run.tokens, search.k, search.seed)
    for batch in run.batches(2):  # the residuals, and those selected of them
        row, pos = select_positions(batch, asked)

        def program(tape: Tape, row: Tensor = row, pos: Tensor = pos) -> tuple[Tensor, Tensor]:
            at = row.to(tape.last.device), pos.to(tape.last.device)
            states = [tape.residual(layer)[at] for layer in layers]
            return torch.stack(states).float().cpu(), read(tape, states, tape.last[at]).top_id[:, :, 0].cpu()

        states, lens = run.subject.run(batch.ids, program)
        drawn = np.stack(
            [draws[prompt][at] for prompt, at in zip(batch.prompts[row].tolist(), pos.tolist(), strict=True)]
        )
        found = [search.at(layer, of_layer, drawn) for layer, of_layer in zip(layers, states, strict=True)]
        own, following = batch.ids[row, pos].numpy(), next_tokens(batch, row, pos)[:, 0].numpy()
        yield _rows(run, search, layers, found, lens.numpy(), run.token_columns(batch, row, pos), own, following) | {
            "vector": None
        }


def rows_of_vectors(run: Run, search: Search, asked: Asked) -> dict[str, Any]:
    """Return columns of vectors, in their order, each at its layers."""
    parts = []
    with progress_bar(sum(len(which) for which, _ in asked.by_layer.values()), "vector", run.schema.probe) as bar:
        for layer, (which, vectors) in asked.by_layer.items():
            for start in range(0, len(which), _AT_A_TIME):
                some = slice(start, start + _AT_A_TIME)
                parts.append(_rows_of_some(run, search, asked, layer, which[some], vectors[some]))
                bar.update(len(which[some]))
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((whole["layer"], whole["prompt_id"]))  # a vector's rows keep their order
    return {name: value[order] for name, value in whole.items()}


def _rows_of_some(
    run: Run, search: Search, asked: Asked, layer: int, which: np.ndarray, vectors: Tensor
) -> dict[str, np.ndarray]:
    read, directions = run.subject.reader(entropy=False, kl=False), asked.directions[which]
    # A direction's length means nothing, and a short one would vanish in the final norm's epsilon.
    long = torch.nn.functional.normalize(vectors, dim=1) * run.subject.d_model**0.5
    shown = torch.where(torch.from_numpy(directions)[:, None], long, vectors)

    def program(tape: Tape) -> Tensor:  # of the tape only its head is used
        states = shown.to(tape.last.device, tape.last.dtype)
        return read(tape, [states], states).top_id[:, :, 0].cpu()

    lens = run.subject.run(torch.zeros(1, 1, dtype=torch.int64), program)
    draws = np.stack([_draw(vector.numpy().tobytes(), search.k, search.seed) for vector in vectors])
    found = [search.at(layer, vectors, draws, directions)]
    none = np.full(len(which), -1)
    names = np.array([asked.names[number] for number in which.tolist()], dtype=object)
    known = {"prompt_id": asked.numbers[which], "pos": none, "token_id": none, "vector": names}
    return _rows(run, search, [layer], found, lens.numpy(), known, none, none)


def _draws(tokens: Tokens, k: int, seed: int) -> list[np.ndarray]:
    """Return k random numbers in [0, 1) for every position of every prompt, which only its own contents decide."""
    keys = content_keys(tokens.ids, seed).tolist()
    return [np.random.default_rng(key).random((len(ids), k)) for key, ids in zip(keys, tokens.ids, strict=True)]


def _draw(contents: bytes, k: int, seed: int) -> np.ndarray:
    """Return k random numbers in [0, 1) that only contents and seed decide."""
    key = hashlib.blake2b(str(seed).encode() + contents, digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(key, "little")).random(k)


def _rows(
    run: Run,
    search: Search,
    layers: Sequence[int],
    found: Sequence[Neighbours],
    lens: np.ndarray,
    known: dict[str, np.ndarray],
    own: np.ndarray,
    following: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return the columns of states at layers.

    Args:
        run: of the probe.
        search: that found them.
        layers: of the states.
        found: neighbours, for each layer.
        lens: what the logit lens says, [layer, state].
        known: columns that are equal at all layers, [state].
        own: the token of each state, -1 for none.
        following: the one behind it, -1 for none.
    """
    bank, names = search.bank, ("index", "cosine", "z", "layer")
    index, cosine, z, bank_layer = (np.stack([getattr(one, name) for one in found], axis=1) for name in names)
    text = contexts_of(run.subject, bank.texts, bank.places.at(index.ravel())).reshape(index.shape)
    token, after = bank.places.token_id[index], bank.next_id[index]
    return rows_of_block(
        index.shape,
        by_row=known,
        by_place={"layer": np.array(layers)},
        full={
            "rank_neighbour": np.tile(np.arange(search.k), len(CONTROLS)),
            "control": np.repeat(np.array(CONTROLS, dtype=object), search.k),
            "bank_layer": bank_layer,
            "neighbour_id": token,
            "neighbour_next_id": after,
            "context": text,
            "cosine": cosine,
            "z": z,
            "same_token": _equal(token, own[:, None, None]),
            "same_next": _equal(after, following[:, None, None]),
            "lens_id": lens.T[:, :, None],
            "lens_own": _equal(lens.T[:, :, None], own[:, None, None]),
            "lens_next": _equal(lens.T[:, :, None], following[:, None, None]),
        },
    )


def _equal(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return 1 where ids are equal and 0 where they are not, NaN where one is missing."""
    return np.where((one >= 0) & (other >= 0), one == other, np.nan)
