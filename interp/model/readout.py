"""Residual vectors -> statistics of the next-token distribution, streamed in tiles.

A tile holds the logits of some rows and of one range of the vocabulary. Each tile is computed for all states in turn,
for several together if they have few rows, so that its part of the unembedding stays in cache. Only a few numbers per
row are kept between tiles: no tensor `[layers, rows, d_vocab]` is ever built, and no `[rows, d_vocab]` either if the
unembedding is available. All statistics are float32, whatever the model's dtype, from one shifted log-sum-exp, without
`log(p + eps)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from interp.errors import InputError
from interp.model._tile_statistics import Requested, TileStatistics
from interp.model.head import Head
from interp.model.tape import Tape

# Tiles of 512 x 2,048 float32 logits (4 MiB) are large enough for efficient matrix products and small enough for the
# processor's cache. A GPU has no such cache: there a tile is as wide as the vocabulary.
_CPU_ROWS, CPU_WIDTH = 512, 2048
# Limit of whole logits on a CPU, if tiles cannot be read: above it every pass over them is bound by memory.
_CPU_CHUNK_BYTES = 24 << 20
# Tiles alive at once: the reference's exponentials, a state's, and in the head the logits and two steps of a soft cap.
_LIVE_TILES = 5
_DOUBLE = 8  # bytes

# The argument of `read_out` that requests each statistic.
_REQUESTED_BY = dict.fromkeys(("target_ids", "log_prob", "rank"), "targets=")
_REQUESTED_BY |= {"entropy": "entropy=True", "kl": "kl=True"}


@dataclass(frozen=True)
class Readout:
    """Statistics of `states` read through a head; n states, r rows, t targets per row.

    Attributes:
        top_id: the k most probable tokens, most probable first, int64 [n, r, k]; among equals the lowest id if k is 1,
            in any order otherwise.
        top_log_prob: their log-probabilities, nats, float32 [n, r, k].
        reference_top1: the argmax of the reference, int64 [r].
        requested: the statistics that were requested, by name; each is also a property, which raises an InputError
            if it was not requested.
    """

    top_id: Tensor
    top_log_prob: Tensor
    reference_top1: Tensor
    requested: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def target_ids(self) -> Tensor:
        """Targets, int64 [r, t]."""
        return self._get("target_ids")

    @property
    def log_prob(self) -> Tensor:
        """Log-probability of each target, nats, float32 [n, r, t]."""
        return self._get("log_prob")

    @property
    def rank(self) -> Tensor:
        """Number of tokens with a strictly larger logit than the target, int64 [n, r, t]; 0 is the argmax."""
        return self._get("rank")

    @property
    def entropy(self) -> Tensor:
        """Entropy, nats, float32 [n, r]."""
        return self._get("entropy")

    @property
    def kl(self) -> Tensor:
        """KL(reference || state), nats, float32 [n, r]; exactly 0 if the state is the reference itself."""
        return self._get("kl")

    def _get(self, name: str) -> Tensor:
        if name not in self.requested:
            raise InputError(f"this readout does not have {name!r}; read the states with {_REQUESTED_BY[name]}.")
        return self.requested[name]


def reader(
    *, d_vocab: int, memory: int, final_norm: bool = True, **wanted: Any
) -> Callable[[Tape, Sequence[Tensor], Tensor], Readout]:
    """Return a function that reads residuals [rows, d_model] through a tape's heads; see `Subject.reader`."""

    def read(tape: Tape, states: Sequence[Tensor], reference: Tensor) -> Readout:
        head, reference_head = (tape.head, None) if final_norm else (tape.raw_head, tape.head)
        return read_out(
            head, states, reference, reference_head=reference_head, d_vocab=d_vocab, memory=memory, **wanted
        )

    return read


def read_out(
    head: Head | Callable[[Tensor], Tensor],
    states: Sequence[Tensor],
    reference: Tensor,
    *,
    d_vocab: int,
    memory: int,
    targets: Tensor | Literal["argmax"] | None = None,
    reference_head: Head | Callable[[Tensor], Tensor] | None = None,
    entropy: bool = True,
    kl: bool = True,
    k: int = 1,
    listed: Tensor | None = None,
) -> Readout:
    """Read every state through `head` and return statistics of its next-token distribution.

    Args:
        head: residual [rows, d_model] -> logits [rows, d_vocab].
        states: residuals [r, d_model] each.
        reference: residual [r, d_model] whose distribution `kl` and "argmax" refer to; if it is one of `states`, it is
            read only once.
        d_vocab: size of the vocabulary; with `memory` it determines the rows per tile.
        memory: bytes that all tiles together may use.
        targets: ids [r, t] to score, or "argmax" for the reference's own argmax (t = 1).
        reference_head: the head for the reference; default `head`.
        entropy: compute entropies.
        kl: compute divergences from the reference.
        k: number of top tokens to return, at least 1.
        listed: which tokens may be among the top, bool [d_vocab], at least k of them; None for all. With it,
            `reference_top1` is the most probable of these.

    Returns:
        A `Readout`, on the CPU.

    Raises:
        InputError: there are no states or no rows.
        NumericalError: a state's logits hold NaN or +infinity.
    """
    if not states or not len(reference):
        raise InputError("there is nothing to read: give at least one state of at least one row.")
    head, reference_head = _as_head(head), _as_head(reference_head or head)
    n_targets = 0 if targets is None else 1 if isinstance(targets, str) else targets.shape[1]
    tiling = _Tiling.of(head, reference, len(states), n_targets, d_vocab, memory)
    same = [state is reference and reference_head is head for state in states]
    columns: dict[str, list[Tensor]] = {}
    with torch.no_grad():  # a decorator would be lost where a program is sent to a model on another machine
        for start in range(0, len(reference), tiling.n_rows):
            rows = slice(start, start + tiling.n_rows)
            compared = _Rows(reference_head, reference[rows], tiling)
            read = [state[rows] for state, known in zip(states, same, strict=True) if not known]
            others = [_Rows(head, some, tiling) for some in tiling.side_by_side(read)]
            ids = targets[rows].to(reference.device) if isinstance(targets, Tensor) else None
            if targets == "argmax":
                ids = compared.argmax()
            own, *found = _read(
                compared,
                others,
                Requested(entropy, kl, k, ids, None if listed is None else listed.to(reference.device)),
            )
            rest = (one for several in found for one in _apart(several, len(compared.residual)))
            results = [own if known else next(rest) for known in same]
            for name in own:
                columns.setdefault(name, []).append(torch.stack([result[name] for result in results]).cpu())
            columns.setdefault("reference_top1", []).append(own["top_id"][:, 0].cpu())
            if ids is not None:
                columns.setdefault("target_ids", []).append(ids.cpu())
    per_row = ("target_ids", "reference_top1")
    joined = {name: torch.cat(parts, dim=0 if name in per_row else 1) for name, parts in columns.items()}
    always = {name: joined.pop(name) for name in ("top_id", "top_log_prob", "reference_top1")}
    return Readout(**always, requested=joined)


def _read(compared: _Rows, others: Sequence[_Rows], wanted: Requested) -> list[dict[str, Tensor]]:
    """Return statistics of the reference's rows and of the other states, computed tile by tile."""
    reference = compared.running(wanted)
    states = [rows.running(wanted) for rows in others]
    for tile in compared.tiling.tiles():
        exponentials, scratch = (compared.buffer(name, tile) for name in ("exponentials", "scratch"))
        step = reference.add(compared.logits(tile), tile.start, scratch, exponentials=exponentials)
        for rows, state in zip(others, states, strict=True):
            state.add(rows.logits(tile), tile.start, rows.buffer("scratch", tile), reference=step)
    for rows, state in zip((compared, *others), (reference, *states), strict=True):
        if state.must_recount():
            for tile in compared.tiling.tiles():
                state.recount(rows.logits(tile))
    return [state.statistics(reference) for state in (reference, *states)]


def _apart(several: Mapping[str, Tensor], n_rows: int) -> Iterator[dict[str, Tensor]]:
    """Yield the statistics of each state of those that were read together."""
    parts = {name: torch.split(values, n_rows) for name, values in several.items()}
    for place in range(len(parts["top_id"])):
        yield {name: values[place] for name, values in parts.items()}


@dataclass(frozen=True)
class _Tiling:
    """The rows and tokens of a tile, and reusable buffers for it.

    Allocating tensors of this size anew would cost more in page faults than the arithmetic. Where a tile has room for
    the rows of several states, they are read together: the unembedding passes through the cache once for all of them.
    """

    n_rows: int
    n_together: int
    width: int
    d_vocab: int
    buffers: Mapping[str, Tensor]

    @classmethod
    def of(cls, head: Head, reference: Tensor, n_states: int, n_targets: int, d_vocab: int, memory: int) -> _Tiling:
        """Choose tiles that fit the memory budget; narrow ones only on a CPU with the unembedding available."""
        device = reference.device
        if head.weight is not None and device.type == "cpu":
            width = min(d_vocab, CPU_WIDTH)
            behind_norm = (n_states + 1) * reference.shape[1] * reference.element_size()
            room = min(_CPU_ROWS, memory // (_LIVE_TILES * 4 * width + behind_norm))
        else:
            width = d_vocab
            chunk = memory // _LIVE_TILES
            room = (min(chunk, _CPU_CHUNK_BYTES) if device.type == "cpu" else chunk) // (4 * width)
        n_rows = max(1, min(len(reference), room))
        # The bounds of the targets' logits are computed at once, from a row of the unembedding for each.
        of_targets = n_rows * n_targets * reference.shape[1] * (reference.element_size() + 2 * _DOUBLE)
        fitting = min(room // n_rows, memory // max(1, of_targets))
        together = max(1, min(n_states, fitting)) if width < d_vocab else 1
        names = ("exponentials", "scratch", "logits") if width < d_vocab else ("exponentials", "scratch")
        buffers = {name: torch.empty(n_rows * together * width, device=device) for name in names}
        return cls(n_rows, together, width, d_vocab, buffers)

    def side_by_side(self, states: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the rows of states that are read together, one state's behind another's."""
        for start in range(0, len(states), self.n_together):
            some = states[start : start + self.n_together]
            yield some[0] if len(some) == 1 else torch.cat(list(some))

    def tiles(self) -> Iterator[range]:
        """Yield ranges of the vocabulary, in order."""
        for start in range(0, self.d_vocab, self.width):
            yield range(start, min(start + self.width, self.d_vocab))


class _Rows:
    """A chunk of rows of a state, or of several one behind another, ready to be read tile by tile."""

    def __init__(self, head: Head, residual: Tensor, tiling: _Tiling) -> None:
        self.head, self.residual, self.tiling = head, residual, tiling
        self.whole = tiling.width == tiling.d_vocab
        self.normed = residual if self.whole else head.norm(residual)

    def logits(self, tile: range) -> Tensor:
        """Return float32 logits [rows, len(tile)] to overwrite (a copy if the head returns its input)."""
        if not self.whole:
            return self.head.tile(self.normed, tile.start, tile.stop, out=self.buffer("logits", tile))
        logits = self.head(self.residual).float()
        aliased = logits.untyped_storage().data_ptr() == self.residual.untyped_storage().data_ptr()
        return logits.clone() if aliased else logits

    def running(self, wanted: Requested) -> TileStatistics:
        """Return new, empty statistics for these rows."""
        if wanted.ids is not None:  # the same targets for each state
            wanted = replace(wanted, ids=wanted.ids.repeat(len(self.residual) // len(wanted.ids), 1))
        bounds = None if self.whole or wanted.ids is None else self.head.bounds(self.normed, wanted.ids)
        return TileStatistics(len(self.residual), wanted, bounds, self.residual.device)

    def argmax(self) -> Tensor:
        """Return the most probable token of each row, [rows, 1]."""
        top = TileStatistics(
            len(self.residual),
            Requested(entropy=False, kl=False, k=1, ids=None, listed=None),
            None,
            self.residual.device,
        )
        for tile in self.tiling.tiles():
            top.keep_top(self.logits(tile), tile.start)
        return top.top_id

    def buffer(self, name: str, tile: range) -> Tensor:
        """Return a buffer for a tile of these rows, [rows, len(tile)]."""
        shape = len(self.residual), len(tile)
        return self.tiling.buffers[name][: shape[0] * shape[1]].view(shape)


def _as_head(head: Head | Callable[[Tensor], Tensor]) -> Head:
    return head if isinstance(head, Head) else Head(head)
