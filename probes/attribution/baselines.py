"""Attribution methods to compare with: gradients and occlusion (from Captum), attention rollout, random scores.

Gradients and occlusion act on the difference that a token's embedding makes, compared with a baseline embedding, to
the residual that enters the first block; position embeddings stay. If that residual is linear in the embedding, as in
every common architecture but BLOOM, this is the method on the embedding itself. The baseline is the mean of the
vocabulary's embeddings, or zero on request. Zero is not a harmless default: a model with RMS norms (Llama, Gemma)
divides by the size of its input, so the output changes within the first millionth of the path from zero to the prompt,
and integrated gradients miss completeness by their whole size for any number of steps.

Nor is a baseline harmless at position 0, where most models let their attention rest (the attention sink). In the middle
of SmolLM2-135M (its weights from a 4-bit file) the residual at position 0 has a norm of 22,000, at later ones of 160.
Another token there or the mean embedding leaves the sink (23,000 to 28,000), a zero embedding takes it away (0), and
the mean embedding at every position makes a sink of every one (28,000): identical positions are all like the first.
So integrated gradients, whose path changes all positions at once, keep position 0 and special tokens by default; what
changes one position at a time (occlusion) or none (the other gradients) keeps none.

Each is a `Method` of `probes.attribution._targets`; `attribute` calls it by its name.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError, Subject, in_batches, warn
from interp.model.sites import Edit, editing
from probes.attribution._embedding import Baseline, Forward, Keep, Output, by_embedding
from probes.attribution._path import integrate
from probes.attribution._targets import Scores, Targets
from probes.attribution.normxlogit import read_factors

N_STEPS = 50
"""Parts of the path of integrated gradients."""


def input_x_gradient(
    subject: Subject,
    targets: Targets,
    *,
    seed: int = 0,
    of: Output = "log_prob",
    baseline: Baseline = "mean",
    keep: Keep = "none",
) -> Scores:
    """Score by (embedding - baseline) · gradient: the first-order effect of the embedding in place of the baseline.

    With `keep="sinks"` position 0 and special tokens are their own baseline, so their score is 0.
    """
    from captum.attr import InputXGradient

    def attribute(forward: Forward, added: Tensor, variants: int) -> Tensor:
        return InputXGradient(forward).attribute(added.requires_grad_()).sum(dim=-1)

    return by_embedding(subject, targets, "input_x_gradient", attribute, of=of, baseline=baseline, keep=keep)


def gradient_norm(subject: Subject, targets: Targets, *, seed: int = 0, of: Output = "log_prob") -> Scores:
    """Score by the Euclidean norm of the gradient: the output's sensitivity to the embedding in any direction."""
    from captum.attr import Saliency

    def attribute(forward: Forward, added: Tensor, variants: int) -> Tensor:
        gradient = Saliency(forward).attribute(added.requires_grad_(), abs=False)
        return torch.linalg.vector_norm(gradient, dim=-1)

    return by_embedding(subject, targets, "gradient_norm", attribute, of=of, baseline="zero")


def integrated_gradients(
    subject: Subject,
    targets: Targets,
    *,
    seed: int = 0,
    of: Output = "log_prob",
    baseline: Baseline = "mean",
    keep: Keep = "sinks",
    n_steps: int = N_STEPS,
) -> Scores:
    """Score by gradients averaged from baseline to embedding, times their difference (Sundararajan et al. 2017).

    A prompt's scores add up to its output minus that of a prompt of baselines. Position 0 and special tokens are their
    own baseline, so their score is 0, unless `keep="none"`: see this module's head for what the mean embedding does to
    them.

    The average is a Clenshaw-Curtis sum over `n_steps` (rounded up to an even number) parts of the path; the points of
    half as many parts are among its own, so that sum is checked too, at no cost. A warning is given where the sum
    misses the change in output by over 1 % (6 % in half precision), or where the two sums differ by over 5 % of it on
    a token: what happens to add up has not converged. More steps help, unless the output jumps on the path: a mixture
    of experts that changes experts, or RMS norms with `baseline="zero"`.

    SmolLM2-135M needs more than the default for all but short prompts, because its output changes within a tenth of the
    path: prompts of 5, 13, 14 and 17 tokens miss 0.3, 7, 1 and 8 % at 50 steps, and 0.001, 0.9, 5 and 9 % at 100; with
    `keep="none"` they miss 23 to 88 % and 11 to 92 %. The shipped model misses less than 0.1 % at 50 steps either way.
    """
    if n_steps < 1:
        raise InputError(f"n_steps={n_steps}; give at least 1.")
    gaps: list[np.ndarray] = []

    def attribute(forward: Forward, added: Tensor, variants: int) -> Tensor:
        path = integrate(forward, added, n_steps, variants)
        gaps.append(path.gaps().double().cpu().numpy())
        return path.scores

    scores = by_embedding(subject, targets, "integrated_gradients", attribute, of=of, baseline=baseline, keep=keep)
    _warn_of_gaps(np.concatenate(gaps), n_steps, subject.dtype)
    return scores


def occlusion(
    subject: Subject,
    targets: Targets,
    *,
    seed: int = 0,
    of: Output = "log_prob",
    baseline: Baseline = "mean",
    keep: Keep = "none",
) -> Scores:
    """Score by the fall of the output when one token's embedding becomes the baseline; one forward pass per token.

    With `keep="sinks"` position 0 and special tokens are their own baseline, so their score is 0.
    """
    from captum.attr import Occlusion

    def attribute(forward: Forward, added: Tensor, variants: int) -> Tensor:
        window = (1, added.shape[-1])
        found = Occlusion(forward).attribute(added, sliding_window_shapes=window, perturbations_per_eval=variants)
        return found[..., 0]

    return by_embedding(subject, targets, "occlusion", attribute, of=of, baseline=baseline, keep=keep)


def rollout(subject: Subject, targets: Targets, *, seed: int = 0) -> Scores:
    """Score by attention rollout (Abnar & Zuidema 2020): the product over layers of averaged attention patterns.

    A layer's patterns are averaged over heads, then with the identity. The scores of a prompt are shares and add up to
    1; they depend on the last position read but not on the target.

    Raises:
        ModelError: the architecture does not expose attention patterns on this backend.
    """
    sites = [subject.site("pattern", layer) for layer in range(subject.n_layers)]
    longest = max(map(len, targets.tokens.ids))
    states = 1 + (subject.n_heads + 1) * longest // subject.d_model  # a pattern has a row of `longest` for each head
    shares: list[Any] = [None] * len(targets)
    for batch in in_batches(targets.tokens, subject.batch_tokens(states), "rollout"):
        patterns: dict[int, Tensor] = {}

        def keeper(layer: int, patterns: dict[int, Tensor] = patterns) -> Edit:
            def keep(pattern: Tensor) -> Tensor:
                patterns[layer] = pattern.float().mean(dim=1)
                return pattern

            return keep

        with ExitStack() as hooks:
            hooks.enter_context(subject.showing_patterns())
            for layer, site in enumerate(sites):
                hooks.enter_context(editing(site, keeper(layer)))
            subject.run(batch.ids, lambda tape: tape.last[:1, :1])
        index, row = targets.of(batch)
        mixed = torch.eye(batch.ids.shape[1], device=patterns[0].device)
        for layer in range(subject.n_layers):
            mixed = 0.5 * (patterns[layer] @ mixed + mixed)
        rows = mixed.double().cpu().numpy()
        for target, at, pos in zip(index.tolist(), row.tolist(), targets.pos[index].tolist(), strict=True):
            shares[target] = rows[at, pos, : pos + 1]
    return Scores(shares)


def random(subject: Subject, targets: Targets, *, seed: int = 0) -> Scores:
    """Draw scores uniform in 0..1; they depend only on the seed, the target and its prompt."""
    draws = [
        np.random.default_rng([seed, int(target), *ids.tolist()]).random(len(ids))
        for target, ids in zip(targets.ids, targets.contexts.ids, strict=True)
    ]
    return Scores(draws)


def norm(subject: Subject, targets: Targets, *, seed: int = 0) -> Scores:
    """Score by NormXLogit's first factor alone: the norm of the first block's input."""
    _, factors = read_factors(subject, targets, layers=[subject.n_layers])
    return Scores(factors.norm)


def logit(subject: Subject, targets: Targets, *, seed: int = 0) -> Scores:
    """Score by NormXLogit's second factor alone: the target's logit read at each position of the last layer."""
    _, factors = read_factors(subject, targets, norm="none", layers=[subject.n_layers])
    return factors.scores(0)


def _warn_of_gaps(gaps: np.ndarray, n_steps: int, dtype: torch.dtype) -> None:
    """Warn of targets that did not converge; `gaps` are those of `Path.gaps`, [target, 3]."""
    least = max(0.01, 8 * torch.finfo(dtype).eps)  # 6 % in half precision
    missed = gaps[:, 0] > least
    # Half as many points err more: by less than 5 % of the change on each token, the sum of all points can be trusted.
    apart = gaps[:, 2] > 5 * least
    if not (missed | apart).any():
        return
    worst = gaps.max(axis=0)
    warn(
        f"integrated gradients of {(missed | apart).sum()} of {len(gaps)} targets have not converged: their sums do "
        f"not add up to the change in output by up to {worst[0]:.1%} of it (by {worst[1]:.1%} at half the steps), and "
        f"a token's score moves by up to {worst[2]:.1%} from half the steps to all: raise n_steps={n_steps}.",
    )
