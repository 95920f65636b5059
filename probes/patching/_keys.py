"""Sites that run over keys, `scores` and `pattern`: a row of theirs belongs to its query, at the query's position."""

from __future__ import annotations

import torch
from torch import Tensor

from interp.model.sites import OF_KEYS


def by_position(site: str, value: Tensor) -> Tensor:
    """Return a value with its position second, and back: sites over keys are [batch, head, query, key]."""
    return value.transpose(1, 2) if site in OF_KEYS else value


def with_keys(site: str, value: Tensor, n_keys: int) -> Tensor:
    """Return a value [batch, query, head, key] with so many keys, cut or filled; of other sites the value itself."""
    if site not in OF_KEYS:
        return value
    return torch.nn.functional.pad(value, (0, n_keys - value.shape[-1]), value=OF_KEYS[site])


def change_of(base: Tensor, source: Tensor) -> Tensor:
    """Return the difference in float32; 0 where both are equal, as masked scores are, at -inf."""
    return torch.where(source == base, 0.0, source.float() - base.float())


def seen_part(site: str, value: Tensor, base: Tensor, source: Tensor) -> Tensor:
    """Return what of a change or a gradient can matter: for sites over keys, among the keys seen, with a sum of 0.

    A softmax ignores what is added to all of its scores, and what it gives sums to 1 in any run. Other sites keep all.

    Args:
        site: of the value.
        value: what is projected, of the shape of the others.
        base: what the site holds in one run.
        source: what it holds in the other.
    """
    if site not in OF_KEYS:
        return value
    seen = base.isfinite() & source.isfinite() if site == "scores" else (base > 0) | (source > 0)
    mean = torch.where(seen, value, 0.0).sum(dim=-1, keepdim=True) / seen.sum(dim=-1, keepdim=True).clamp(min=1)
    return torch.where(seen, value - mean, 0.0)
