"""Sums over the residuals of every layer, from which maps between layers and covariances are computed."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.authoring import Batch, ModelError, Run, Subject, followed, in_batches, options, select_positions
from interp.model.head import Head
from interp.model.readout import read_out
from interp.model.tape import Tape
from interp.model.weights import require_one_vocabulary
from interp.stats.least_squares import Accumulate, Moments, add_products
from probes.subnetworks.evaluation._ridge import RidgeMap, ridge_maps, unrelated_map

RESPONSES = ("out", "second_last", "in")
"""The responses, in the order of the columns of y."""


class StateMoments:
    """Moments of every layer's residuals and of the `RESPONSES` they are mapped to, without first positions.

    Args:
        run: the run that reads the prompts.
        held_out: prompts whose moments are kept apart, bool [n_prompts].

    Attributes:
        fitted, held_out: moments by layer 0..L; y holds the `RESPONSES`, 3 d columns.
        token_counts: how often each token occurs in the fitted prompts, [d_vocab].

    Raises:
        ModelError: the token embedding and the residual stream differ in width.
    """

    def __init__(self, run: Run, held_out: Tensor) -> None:
        subject = run.subject
        require_one_vocabulary(subject, "the angle between embedding and unembedding")
        d, self._embedding, self._is_held_out = subject.d_model, subject.W_E.double(), held_out
        if self._embedding.shape[1] != d:
            raise ModelError(
                f"{subject.name!r} embeds tokens in {self._embedding.shape[1]} dimensions and has a residual stream of "
                f"{d}: angles between them need equal widths."
            )
        layers = range(subject.n_layers + 1)
        self.fitted, self.held_out = ([Moments.zeros(d, 3 * d, subject.device) for _ in layers] for _ in range(2))
        self.token_counts = torch.zeros(subject.d_vocab, dtype=torch.float64)

    def add(self, tape: Tape, batch: Batch, accumulate: Accumulate = add_products) -> None:
        """Add the moments of a batch."""
        row, pos = select_positions(batch, None)
        row, pos = row[pos > 0], pos[pos > 0]
        apart = self._is_held_out[batch.prompts[row]]
        for part, moments in ((~apart, self.fitted), (apart, self.held_out)):
            self._add(tape, batch, row[part], pos[part], moments, accumulate)

    def _add(
        self, tape: Tape, batch: Batch, row: Tensor, pos: Tensor, moments: list[Moments], accumulate: Accumulate
    ) -> None:
        order = batch.ids[row, pos].argsort()  # equal tokens become neighbours: they share an embedding
        row, pos = row[order], pos[order]
        tokens, lengths = torch.unique_consecutive(batch.ids[row, pos], return_counts=True)
        if moments is self.fitted:
            self.token_counts.index_add_(0, tokens, lengths.double())
        device = tape.last.device
        at, runs = (row.to(device), pos.to(device)), (self._embedding[tokens.to(device)], lengths.to(device))
        ends = [tape.residual(layer)[at].double() for layer in (tape.n_layers, tape.n_layers - 1)]
        responses = torch.cat(ends, dim=1)
        for layer, one in enumerate(moments):
            one.add(tape.residual(layer)[at].double(), responses, runs, accumulate)

    def covariance(self, layer: int) -> Tensor:
        """Return the products of centred residuals over all prompts, [d, d]."""
        return (self.fitted[layer] + self.held_out[layer]).centred().xx

    def maps(self, layer: int, alpha: float) -> dict[str, RidgeMap]:
        """Fit the maps from this layer to each response."""
        d = len(self.fitted[layer].x)
        return dict(zip(RESPONSES, ridge_maps(self.fitted[layer], [d] * 3, alpha), strict=True))

    def unrelated(self, layer: int, response: str, alpha: float, generator: torch.Generator) -> Tensor:
        """Draw the map [d, d] that a random pairing of the states with this response would give."""
        scatter = self.fitted[layer].centred()
        return unrelated_map(scatter.xx, self._products(response), scatter.n, alpha, generator)

    def _products(self, response: str) -> Tensor:
        if response == "in":
            counts = self.token_counts.to(self._embedding.device)
            centred = self._embedding - counts @ self._embedding / counts.sum()
            return (centred * counts[:, None]).T @ centred
        return self.fitted[-1 if response == "out" else -2].centred().xx


class Reading:
    """A reader of held-out prompts through the maps: surprisals by "out", the current token by "in".

    Args:
        model: the model to read.
        maps: by layer, then by response.
    """

    def __init__(self, model: Subject, maps: list[dict[str, RidgeMap]]) -> None:
        self._model, self._maps = model, maps
        weight = model.W_E.float()
        self._tokens = Head(lambda states: states @ weight.T, weight)
        self._log_probs: list[np.ndarray] = []
        self._ranks: list[np.ndarray] = []

    def collect(self, run: Run, held_out: Tensor) -> dict[str, np.ndarray]:
        """Return `lens_r` and `recall_1`, `_5`, `_10` over a run's held-out prompts, float64 [L + 1] each."""
        fitted = set((~held_out).nonzero()[:, 0].tolist())
        for batch in in_batches(run.tokens, self._model.batch_tokens(2), "held out", skip=fitted):
            self._model.run(batch.ids, partial(self._read, batch=batch))
        log_probs, ranks = (np.concatenate(parts, axis=1) for parts in (self._log_probs, self._ranks))
        own = log_probs[-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {"lens_r": np.array([np.corrcoef(one, own)[0, 1] for one in log_probs[:-1]])}
        return found | {f"recall_{k}": (ranks < k).mean(axis=1) for k in (1, 5, 10)}

    def _read(self, tape: Tape, batch: Batch) -> None:
        (row, pos), following = followed(batch)
        kept = pos > 0
        row, pos, following = row[kept], pos[kept], following[kept]
        at = row.to(tape.last.device), pos.to(tape.last.device)
        residuals, final = [tape.residual(layer)[at] for layer in range(len(self._maps))], tape.last[at]
        mapped: dict[str, list[Tensor]] = {
            to: [maps[to](state).to(final.dtype) for maps, state in zip(self._maps, residuals, strict=True)]
            for to in ("out", "in")
        }
        wanted: dict[str, Any] = {"entropy": False, "kl": False}
        read = self._model.read_out(tape, [*mapped["out"], final], final, targets=following[:, None], **wanted)
        recalled = read_out(
            self._tokens,
            [state.float() for state in mapped["in"]],
            mapped["in"][0].float(),
            d_vocab=self._model.d_vocab,
            memory=options.available // 2,
            targets=batch.ids[row, pos][:, None],
            **wanted,
        )
        self._log_probs.append(read.log_prob[..., 0].double().numpy())
        self._ranks.append(recalled.rank[..., 0].numpy())
