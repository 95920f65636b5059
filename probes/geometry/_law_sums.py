"""The sums of `next_token_law`: moments of every layer's regressions, which shards of a corpus can add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interp.authoring import (
    Batch,
    InputError,
    ModelError,
    Run,
    content_order,
    followed,
    held_out_prompts,
    one_core_each,
    progress_bar,
    require_fitted,
)
from interp.model.tape import Tape
from interp.stats.least_squares import Accumulate, Moments


@dataclass(frozen=True)
class LawSettings:
    """A checked set of the arguments of `next_token_law` that decide its numbers."""

    normalised: bool = True
    held_out: float = 0.2
    draws: int = 5
    tokens_per_dim: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1 or self.draws < 1:
            raise InputError(
                f"held_out={self.held_out}, draws={self.draws}: give a share between 0 and 1, and at least one draw."
            )


def law_sums(run: Run) -> LawStream:
    """Return the sums of a run of `next_token_law`; refuse too few tokens."""
    settings = LawSettings(**run.parameters)
    require_fitted(run, held_out=settings.held_out, tokens_per_dim=settings.tokens_per_dim, seed=run.seed or 0)
    return LawStream(run, settings)


class LawStream:
    """A sum of the moments of every layer's regressions, [layer][fitted, held out]."""

    def __init__(self, run: Run, settings: LawSettings) -> None:
        subject = run.subject
        self._normalised, self._draws = settings.normalised, settings.draws
        seed = 0 if run.seed is None else run.seed
        self._held_out = held_out_prompts(run.tokens.ids, settings.held_out, seed)
        self._unembedding = subject.W_U.T
        generator = torch.Generator().manual_seed(seed)
        renamed = [torch.randperm(subject.d_vocab, generator=generator) for _ in range(self._draws)]
        self._renamed = torch.stack(renamed)  # [draws, d_vocab]
        order = torch.from_numpy(content_order(run.tokens.ids, seed))  # a shuffle must not follow the given order
        following = torch.cat([run.tokens.ids[index][1:] for index in order])
        shuffles = [torch.randperm(len(following), generator=generator) for _ in range(self._draws)]
        self._shuffled = following[torch.stack(shuffles)]  # [draws, tokens], prompt after prompt
        lengths = torch.tensor([len(ids) - 1 for ids in run.tokens.ids])[order]
        self._starts = torch.empty_like(lengths).scatter_(0, order, lengths.cumsum(0) - lengths)
        n_responses = 1 + 2 * self._draws + subject.d_model
        layers = range(subject.n_layers + 1)
        self._moments = [
            [Moments.zeros(subject.d_model, n_responses, subject.device) for _ in range(2)] for _ in layers
        ]

    @property
    def n_bytes(self) -> int:
        """Memory of the sums."""
        return sum(one.n_bytes for layer in self._moments for one in layer)

    def add(self, tape: Tape, batch: Batch, accumulate: Accumulate) -> None:
        """Add a batch to the moments.

        Raises:
            ModelError: the model's head is on another machine.
        """
        if tape.head.weight is None:
            raise ModelError(
                "next_token_law needs the unembedding as a matrix on this machine; load the model without remote=True, "
                "and without quantising its unembedding."
            )
        (row, pos), following = followed(batch)
        # Fitted rows first, so that each part is a slice; within a part, equal responses side by side.
        held_out = self._held_out[batch.prompts[row]].long()
        order = (held_out * len(self._unembedding) + following).argsort()
        row, pos, following, held_out = (one[order] for one in (row, pos, following, held_out))
        numbers = self._numbers(batch, row, pos, following).to(tape.last.device)
        parts = [(held_out == part).nonzero()[:, 0] for part in range(2)]
        runs = [self._runs(following[part]) for part in parts]
        for layer, moments in enumerate(self._moments):
            states = tape.residual(layer)[row.to(tape.last.device), pos.to(tape.last.device)]
            states = (tape.head.norm(states) if self._normalised else states).double()
            start = 0
            for one, rows, shared in zip(moments, parts, runs, strict=True):
                stop = start + len(rows)
                one.add(states[start:stop], numbers[start:stop], shared, accumulate)
                start = stop

    def state(self) -> dict[str, Tensor]:
        """Return the moments of the batches that were read."""
        return {
            f"{layer}.{part}.{name}": value
            for layer, moments in enumerate(self._moments)
            for part, one in enumerate(moments)
            for name, value in one.state().items()
        }

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Add the moments of other batches."""
        for layer, moments in enumerate(self._moments):
            for part, one in enumerate(moments):
                one.merge({name: state[f"{layer}.{part}.{name}"] for name in one.state()})

    def rows(self) -> list[dict[str, np.ndarray]]:
        """Return the frame's columns, layer by layer."""
        n_layers = len(self._moments)
        parts = []
        with one_core_each() as pool, progress_bar(n_layers, "layer", "next_token_law, fits") as bar:
            for part in pool.map(self._layer, range(n_layers)):
                parts.append(part)
                bar.update()
        return parts

    def _numbers(self, batch: Batch, row: Tensor, pos: Tensor, following: Tensor) -> Tensor:
        """Return the scalar responses, float64 [n, 1 + 2 draws]: id, renamed ids, shuffled tokens' ids."""
        shuffled = self._shuffled[:, self._starts[batch.prompts[row]] + pos].T
        return torch.cat([following[:, None], self._renamed[:, following].T, shuffled], dim=1).double()

    def _runs(self, following: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unembeddings of the different tokens among sorted ids, and the count of each."""
        ids, lengths = torch.unique_consecutive(following.to(self._unembedding.device), return_counts=True)
        return self._unembedding[ids].double(), lengths

    def _layer(self, layer: int) -> dict[str, np.ndarray]:
        fitted, tested = self._moments[layer]
        whole = (fitted + tested).centred()
        in_sample = whole.fit()
        centre = fitted.x / fitted.n, fitted.y / fitted.n
        trained = fitted.about(*centre).fit()
        errors = tested.about(*centre).residual(trained.coefficients)
        rows = []
        null = 1 - in_sample.rank / (whole.n - 1)
        for response, control, draw, at in self._curves():
            left = float((whole.yy - in_sample.explained)[at].sum().clamp(min=0.0) / whole.yy[at].sum())
            rows.append((layer, response, "in_sample", control, draw, left, null, whole.n, in_sample.rank))
            left = float(errors[at].sum() / tested.centred().yy[at].sum())
            rows.append((layer, response, "held_out", control, draw, left, np.nan, tested.n, trained.rank))
        names = ("layer", "response", "sample", "control", "draw", "residual", "null", "n_tokens", "n_dims")
        found = {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        with np.errstate(divide="ignore"):
            return found | {"log10_residual": np.log10(found["residual"])}

    def _curves(self) -> list[tuple[str, str, int, slice]]:
        """Return response, control, draw and slice of columns of each curve."""
        draws = range(self._draws)
        first = 1 + self._draws
        return [
            ("next", "none", 0, slice(0, 1)),
            *(("next", "shuffled_vocabulary", draw, slice(1 + draw, 2 + draw)) for draw in draws),
            *(("next", "shuffled_tokens", draw, slice(first + draw, first + draw + 1)) for draw in draws),
            ("unembedding", "none", 0, slice(first + self._draws, None)),
        ]
