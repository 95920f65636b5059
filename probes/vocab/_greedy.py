"""The most probable continuation of many short texts, step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from interp.authoring import SharedPrefix

_LONGEST_PERIOD = 25
_CYCLES = 3  # so often must a loop have been gone through


def continued(prefix: SharedPrefix, ids: Tensor, n_steps: int) -> tuple[Tensor, Tensor]:
    """Continue each token after a shared prefix by the most probable token, `n_steps` times.

    Args:
        prefix: what all texts begin with.
        ids: the first token of each, int64 [n].
        n_steps: 1 or more.

    Returns:
        The chosen tokens, int64 [n, n_steps], and their probabilities, float64 [n, n_steps].
    """
    branch, fed, chosen, probs = prefix.branch(len(ids)), ids[:, None], [], []
    for _ in range(n_steps):
        best, prob = branch.next_token_logits(fed, _best)
        chosen.append(best.cpu())
        probs.append(prob.cpu().double())
        fed = chosen[-1][:, None]
    return torch.stack(chosen, dim=1), torch.stack(probs, dim=1)


def period(ids: list[int]) -> int:
    """Return the length of the loop that a text ends in, at most 25; 0 if it ends in none gone through three times.

    >>> period([9, 1, 2, 1, 2, 1, 2]), period([4, 4, 4]), period([1, 2, 1, 2]), period([])
    (2, 1, 0, 0)
    """
    for length in range(1, _LONGEST_PERIOD + 1):
        end = ids[-_CYCLES * length :]
        if len(end) == _CYCLES * length and end == end[:length] * _CYCLES:
            return length
    return 0


def _best(logits: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.float()
    best = logits.argmax(dim=1)
    return best, (logits.gather(1, best[:, None])[:, 0] - logits.logsumexp(dim=1)).exp().clamp(max=1)
