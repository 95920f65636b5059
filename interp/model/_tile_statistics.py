"""Statistics of next-token distributions whose logits arrive in tiles; only a few numbers per row are kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from interp.errors import NumericalError


@dataclass(frozen=True)
class Requested:
    """The statistics to keep; `ids` are the targets of each row, [rows, t], `listed` the tokens that may be a top."""

    entropy: bool
    kl: bool
    k: int
    ids: Tensor | None
    listed: Tensor | None


@dataclass(frozen=True)
class TileStep:
    """A tile's effect on the sums of the reference; the states compared with it need these numbers.

    The rows of several states may be compared with it together, one state's behind another's.
    """

    exponentials: Tensor  # [rows, width]
    decay: Tensor  # [rows], factor of the earlier sums after the largest logit has grown
    total_before: Tensor  # [rows], the sum of exponentials before this tile, decayed


class TileStatistics:
    """The statistics of a state, or of several read together, updated tile by tile.

    Sums of exponentials are relative to the largest logit so far and rescaled when it grows: nothing overflows, and a
    large constant in all logits costs no digits.

    Args:
        n_rows: rows of the state, or of all.
        wanted: the statistics to keep.
        bounds: lower and upper bounds of the targets' logits, [rows, t] each: targets are ranked before the tile that
            holds them arrives. None if one tile holds the whole vocabulary.
        device: of the rows.
    """

    def __init__(
        self, n_rows: int, wanted: Requested, bounds: tuple[Tensor, Tensor] | None, device: torch.device
    ) -> None:
        self._wanted, self._bounds = wanted, bounds
        self._peak = torch.full((n_rows,), -torch.inf, device=device)
        self._base, self._total, self._weighted, self._cross = torch.zeros(4, n_rows, device=device)
        self._top = torch.empty(n_rows, 0, device=device)
        self.top_id = torch.empty(n_rows, 0, dtype=torch.long, device=device)
        if wanted.ids is not None:
            self._logit, self._above = torch.zeros(2, *wanted.ids.shape, device=device)
            self._near: list[tuple[Tensor, int, Tensor]] = []

    def add(
        self,
        logits: Tensor,
        start: int,
        scratch: Tensor,
        *,
        exponentials: Tensor | None = None,
        reference: TileStep | None = None,
    ) -> TileStep:
        """Add float32 logits [rows, width] of the tokens from `start` on; the logits are overwritten.

        Args:
            logits: of the tile.
            start: its first token.
            scratch: float32 [rows, width] buffer.
            exponentials: float32 [rows, width] buffer that receives the exponentials; given for the reference only.
            reference: the reference's step for the same tile; None for the reference itself.
        """
        if self._wanted.ids is not None:
            # Rank before the shift: it rounds, and could make two small logits under a large maximum equal.
            self._rank(logits, start, self._wanted.ids, scratch)
        listed = self._wanted.listed
        if listed is None:
            self.keep_top(logits, start)
        else:
            self.keep_top(torch.where(listed[start : start + logits.shape[1]], logits, -torch.inf), start)
        grown, decay = self._rebase(self._top[:, 0] if listed is None else logits.amax(dim=1))
        logits.sub_(self._base[:, None])
        powers = torch.exp(logits, out=scratch if exponentials is None else exponentials)
        before = decay * self._total
        self._total = before + powers.sum(dim=1)
        if self._wanted.entropy or (self._wanted.kl and reference is None):
            added = _total(torch.mul(powers, logits, out=scratch))
            self._weighted = decay * self._weighted - grown * before + added
        if self._wanted.kl and reference is not None:
            n = len(logits) // len(reference.decay)
            earlier, total_before = reference.decay.repeat(n), reference.total_before.repeat(n)
            # avoid 0 * inf when the reference's earlier sum has decayed to 0
            cross = torch.where(earlier == 0, 0.0, earlier * self._cross)
            shape = n, len(reference.decay), -1
            torch.mul(reference.exponentials, logits.view(shape), out=scratch.view(shape))
            self._cross = cross - grown * total_before + _total(scratch)
        return TileStep(powers, decay, before)

    def recount(self, logits: Tensor) -> None:
        """Count a tile again, for targets whose logits lay outside their bounds."""
        for column, one in enumerate(self._logit.unbind(dim=1)):
            self._above[:, column] += (logits > one[:, None]).sum(dim=1)

    def must_recount(self) -> bool:
        """Return True if any target's logit lies outside its bounds, and reset the counts in that case."""
        if self._wanted.ids is None or self._bounds is None:
            return False
        low, high = self._bounds
        within = (self._logit >= low) & (self._logit <= high)
        if bool(within.all()):
            return False
        self._above.zero_()
        self._near.clear()
        return True

    def statistics(self, reference: TileStatistics) -> dict[str, Tensor]:
        """Return the wanted statistics after the last tile; `reference` may be this object itself.

        Raises:
            NumericalError: a row's logits hold NaN or +infinity, or no token is possible.
        """
        log_total = self._total.log()
        if not torch.isfinite(log_total).all():
            raise NumericalError("the logits hold NaN or infinity: check the model's weights and its dtype.")
        stats = {"top_id": self.top_id, "top_log_prob": (self._top - self._base[:, None]) - log_total[:, None]}
        if self._wanted.ids is not None:
            stats["log_prob"] = (self._logit - self._base[:, None]) - log_total[:, None]
            for rows, column, values in self._near:
                larger = values > self._logit[rows, column]
                self._above[:, column].index_add_(0, rows, larger.float())
            stats["rank"] = self._above.long()
        if self._wanted.entropy:
            stats["entropy"] = self._entropy()
        if self._wanted.kl and reference is self:
            stats["kl"] = torch.zeros_like(log_total)
        elif self._wanted.kl:
            n = len(log_total) // len(reference._total)
            cross_entropy = log_total - self._cross / reference._total.repeat(n)
            # Both are float32 sums of up to d_vocab terms: a divergence of zero can come out as -1e-7.
            stats["kl"] = (cross_entropy - reference._entropy().repeat(n)).clamp_(min=0.0)
        return stats

    def _entropy(self) -> Tensor:
        return (self._total.log() - self._weighted / self._total).clamp_(min=0.0)

    def _rebase(self, largest: Tensor) -> tuple[Tensor, Tensor]:
        """Move the base of the exponentials to the largest logit; return its growth and the factor for earlier sums."""
        first = self._peak.isneginf()  # only tokens of probability 0 so far
        self._peak = torch.maximum(self._peak, largest)
        base = torch.where(self._peak.isneginf(), 0.0, self._peak)
        grown = torch.where(first, 0.0, base - self._base)
        self._base = base
        return grown, torch.exp(-grown)

    def keep_top(self, logits: Tensor, start: int) -> None:
        """Update the largest logits with those of a tile."""
        if self._wanted.k > 1:
            found = logits.topk(min(self._wanted.k, logits.shape[1]), dim=1)
            values, ids = torch.cat([self._top, found.values], 1), torch.cat([self.top_id, found.indices + start], 1)
            self._top, order = values.topk(min(self._wanted.k, values.shape[1]), dim=1)
            self.top_id = ids.gather(1, order)
            return
        if not self._top.shape[1]:
            self._top, self.top_id = logits.max(dim=1, keepdim=True)
            self.top_id += start
            return
        # A maximum is cheap and an argmax is not: compute the argmax only for rows with a new maximum.
        largest = logits.amax(dim=1)
        rows = (~(largest <= self._top[:, 0])).nonzero()[:, 0]  # written so that NaN counts as larger
        self._top[rows, 0] = largest[rows]
        self.top_id[rows, 0] = logits[rows].argmax(dim=1) + start

    def _rank(self, logits: Tensor, start: int, ids: Tensor, scratch: Tensor) -> None:
        here = (ids >= start) & (ids < start + logits.shape[1])
        values = logits.gather(1, (ids - start).clamp(0, logits.shape[1] - 1))
        self._logit = torch.where(here, values, self._logit)
        low, high = (self._logit, self._logit) if self._bounds is None else self._bounds
        for column in range(ids.shape[1]):
            # Count in float32, which is exact below 2**24 tokens: summing booleans is eight times slower.
            surely = torch.gt(logits, high[:, column, None], out=scratch).sum(dim=1)
            self._above[:, column] += surely
            if self._bounds is None:
                continue
            # Few tokens besides the target lie between the bounds: compare them once the target's logit is known.
            maybe = torch.gt(logits, low[:, column, None], out=scratch).sum(dim=1)
            rows = (maybe > surely).nonzero()[:, 0]
            some = logits[rows]
            which, token = ((some > low[rows, column, None]) & (some <= high[rows, column, None])).nonzero(
                as_tuple=True
            )
            self._near.append((rows[which], column, some[which, token]))


def _total(products: Tensor) -> Tensor:
    """Sum each row [rows]; a token of probability 0 and logit -infinity, whose product is NaN, adds 0."""
    total = products.sum(dim=1)
    return products.nan_to_num_(nan=0.0, neginf=-torch.inf).sum(dim=1) if total.isnan().any() else total
