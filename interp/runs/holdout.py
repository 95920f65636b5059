"""Split prompts into fitted and held-out ones, and refuse too few of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from interp.checks import checked
from interp.errors import InputError
from interp.model.tokens import Tokens
from interp.runs.draws import content_order
from interp.runs.run import Run


@checked
def require_fitted(run: Run, *, held_out: float, tokens_per_dim: float, seed: int) -> None:
    """Refuse a run in which too few tokens remain to fit once a share of the prompts is held out.

    Raises:
        InputError: there is one prompt only, or the fitted prompts have fewer tokens than `require_enough` asks for.
    """
    if len(run.tokens) < 2:
        raise InputError("one prompt cannot be both fitted and held out; pass at least two.")
    n_tokens = fitted_tokens(run.tokens, held_out, seed)
    require_enough(n_tokens, run.subject.d_model, tokens_per_dim)


@checked
def require_enough(n_tokens: int, d_model: int, tokens_per_dim: float) -> None:
    """Refuse a regression on so few tokens that it would fit anything.

    Raises:
        InputError: there are fewer than `tokens_per_dim` tokens per dimension, or fewer than `d_model + 2` in all.
    """
    if n_tokens < max(tokens_per_dim * d_model, d_model + 2):
        raise InputError(
            f"{n_tokens} tokens are too few to regress on {d_model} dimensions: give at least "
            f"{tokens_per_dim:g} per dimension, {int(max(tokens_per_dim * d_model, d_model + 2))} in all, "
            "or lower tokens_per_dim and check the column 'null'."
        )


@checked
def held_out_prompts(prompts: Sequence[Tensor], share: float, seed: int) -> Tensor:
    """Choose the held-out prompts by their contents and the seed, bool [n_prompts]: at least one, never all."""
    count = min(max(1, round(share * len(prompts))), len(prompts) - 1)
    order = torch.from_numpy(content_order(prompts, seed))
    return torch.zeros(len(prompts), dtype=torch.bool).index_fill_(0, order[:count], True)


def fitted_tokens(tokens: Tokens, held_out: float, seed: int) -> int:
    """Count the tokens of the fitted prompts that have a next token."""
    kept = ~held_out_prompts(tokens.ids, held_out, seed)
    return sum(len(ids) - 1 for ids, fitted in zip(tokens.ids, kept.tolist(), strict=True) if fitted)
