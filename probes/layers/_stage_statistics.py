"""Statistics by depth for the stages of inference: locality of attention, and similarity of neighbouring layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

WINDOW = 5
"""The previous tokens that count as local, as in the paper."""


def locality(pattern: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """Measure how local attention is, per prompt, as a mean over heads.

    Args:
        pattern: [batch, head, query, key].
        lengths: of the prompts, int64 [batch]; positions beyond are not read.

    Returns:
        float64 [batch] each. "prev5_entry": mean of the entries one to five left of the diagonal, including the first
        token as a key, as the paper computes it; at most 0.2, except in the first rows, which have fewer. "prev5_mass":
        attention from position 5 on to the previous five tokens, without the first token; NaN for prompts of up to
        five tokens. "first_mass": attention to the first token, from position 1 on.
    """
    n_pos, device = pattern.shape[-1], pattern.device
    lengths = lengths.to(device)[:, None]
    query = torch.arange(n_pos, device=device)
    near = torch.zeros(2, len(pattern), n_pos, dtype=torch.float64, device=device)  # with and without the first token
    for back in range(1, min(WINDOW, n_pos - 1) + 1):
        diagonal = pattern.diagonal(-back, dim1=-2, dim2=-1).double().mean(dim=1)  # [batch, n_pos - back]
        near[0, :, back:] += diagonal
        near[1, :, back + 1 :] += diagonal[:, 1:]
    real = (query > 0) & (query < lengths)
    far_enough = real & (query >= WINDOW)
    n_entries = (real * query.clamp(max=WINDOW)).sum(dim=1)
    to_first = pattern[..., 0].double().mean(dim=1)
    return {
        "prev5_entry": (near[0] * real).sum(dim=1) / n_entries,
        "prev5_mass": (near[1] * far_enough).sum(dim=1) / far_enough.sum(dim=1),
        "first_mass": (to_first * real).sum(dim=1) / real.sum(dim=1),
    }


def uniform(n_pos: int) -> Tensor:
    """Return the pattern [1, 1, n_pos, n_pos] of a head that attends equally to all visible tokens: chance."""
    ones = torch.ones(n_pos, n_pos, dtype=torch.float64).tril()
    return (ones / ones.sum(dim=1, keepdim=True))[None, None]


class CrossMoments:
    """A sum of moments of each layer's residuals over rows, for the similarity of layers.

    Attributes:
        n: number of rows.
        totals: sum of x over rows, float64 [layers, d_model].
        own: xᵀx of each layer, float64 [layers, d_model, d_model].
        next: xᵀy of each layer and the one after it, float64 [layers - 1, d_model, d_model].
    """

    def __init__(self, n_layers: int, d_model: int) -> None:
        self.n = 0
        self.totals = torch.zeros(n_layers, d_model, dtype=torch.float64)
        self.own = torch.zeros(n_layers, d_model, d_model, dtype=torch.float64)
        self.next = torch.zeros(n_layers - 1, d_model, d_model, dtype=torch.float64)

    @classmethod
    def of(cls, states: Sequence[Tensor]) -> CrossMoments:
        """Return the moments of residuals [rows, d_model], one per layer."""
        moments = cls(len(states), states[0].shape[1])
        moments.add(states)
        return moments

    @property
    def n_bytes(self) -> int:
        """Memory of the sums."""
        return self.totals.nbytes + self.own.nbytes + self.next.nbytes

    def add(self, states: Sequence[Tensor]) -> None:
        """Add residuals [rows, d_model], one per layer."""
        before: Tensor | None = None
        for layer, state in enumerate(states):
            wide = state.double()
            self.totals[layer] += wide.sum(dim=0).cpu()
            self.own[layer] += (wide.T @ wide).cpu()
            if before is not None:
                self.next[layer - 1] += (before.T @ wide).cpu()
            before = wide
        self.n += len(states[0])

    def cka_next(self) -> Tensor:
        """Return the linear CKA of each layer and the next, float64 [layers - 1]; NaN if a residual does not vary.

        ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) in Frobenius norms, X and Y centred over rows (Kornblith et al. 2019).
        """
        means = self.totals / self.n
        norms = torch.stack([(one - self.n * torch.outer(m, m)).norm() for one, m in zip(self.own, means, strict=True)])
        pairs = zip(self.next, means[:-1], means[1:], strict=True)
        cross = torch.stack([(one - self.n * torch.outer(m, after)).norm() for one, m, after in pairs])
        return cross**2 / (norms[:-1] * norms[1:])
