"""Attribution methods to hold a new one against: gradients and occlusion (from Captum), attention rollout, chance.

Gradients and occlusion act on what a token's embedding adds to the residual that enters the first block: position
embeddings stay, and a token's baseline is to be there without its embedding. Where that residual is linear in the
embedding, as in every common architecture but BLOOM, this is the method on the embedding itself.

Each is a `Method` of `probes._attribution`, reached by its name through `attribute`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from interp.errors import InputError, UnknownName
from interp.run import in_batches
from interp.sites import Edit, editing
from interp.subject import Subject
from interp.tape import Tape
from probes._attribution import Scores, Targets
from probes.normxlogit import read_factors

Output: TypeAlias = Literal["log_prob", "logit", "prob"]
"""What of the target is attributed: its log-probability (nats), logit or probability."""

Forward: TypeAlias = Callable[[Tensor], Tensor]
"""What embeddings add to the residual [batch, pos, d_model] -> output of each row's target [batch], both float32."""


def input_x_gradient(subject: Subject, targets: Targets, *, seed: int = 0, of: Output = "log_prob") -> Scores:
    """Embedding times gradient, summed over dimensions: the first-order effect of the embedding (Denil et al. 2014)."""
    from captum.attr import InputXGradient

    def attribute(forward: Forward, added: Tensor) -> Tensor:
        return InputXGradient(forward).attribute(added.requires_grad_()).sum(dim=-1)

    return _by_embedding(subject, targets, "input_x_gradient", of, attribute)


def gradient_norm(subject: Subject, targets: Targets, *, seed: int = 0, of: Output = "log_prob") -> Scores:
    """Euclidean norm of the gradient: how sensitive the output is to the embedding, whatever its direction."""
    from captum.attr import Saliency

    def attribute(forward: Forward, added: Tensor) -> Tensor:
        gradient = Saliency(forward).attribute(added.requires_grad_(), abs=False)
        return torch.linalg.vector_norm(gradient, dim=-1)

    return _by_embedding(subject, targets, "gradient_norm", of, attribute)


def integrated_gradients(
    subject: Subject, targets: Targets, *, seed: int = 0, of: Output = "log_prob", n_steps: int = 50
) -> Scores:
    """Gradients averaged on the way from no embeddings to all, times these (Sundararajan et al. 2017).

    A prompt's scores add up to its output less that without any embedding. The average is a Gauss-Legendre sum of
    `n_steps` gradients; a warning tells where they were too few to add up within 1 % (6 % in half precision).
    """
    from captum.attr import IntegratedGradients

    if n_steps < 1:
        raise InputError(f"n_steps={n_steps}; give at least 1.")
    gaps: list[float] = []

    def attribute(forward: Forward, added: Tensor) -> Tensor:
        method = IntegratedGradients(forward)
        scores = method.attribute(added, n_steps=n_steps, internal_batch_size=len(added)).detach().sum(dim=-1)
        change = forward(added) - forward(torch.zeros_like(added))
        gaps.extend(((scores.sum(dim=-1) - change).abs() / change.abs().clamp(min=1.0)).tolist())
        return scores

    scores = _by_embedding(subject, targets, "integrated_gradients", of, attribute)
    too_far = np.array(gaps) > max(0.01, 8 * torch.finfo(subject.dtype).eps)
    if too_far.any():
        warnings.warn(
            f"integrated gradients of {too_far.sum()} of {len(gaps)} targets do not add up to the change in output, "
            f"by up to {max(gaps):.0%} of it: raise n_steps={n_steps}.",
            stacklevel=2,
        )
    return scores


def occlusion(subject: Subject, targets: Targets, *, seed: int = 0, of: Output = "log_prob") -> Scores:
    """By how much the output falls when one token loses its embedding (Zeiler & Fergus 2014); one pass per token."""
    from captum.attr import Occlusion

    def attribute(forward: Forward, added: Tensor) -> Tensor:
        window = (1, added.shape[-1])
        return Occlusion(forward).attribute(added, sliding_window_shapes=window)[..., 0]

    return _by_embedding(subject, targets, "occlusion", of, attribute)


def rollout(subject: Subject, targets: Targets, *, seed: int = 0) -> Scores:
    """Attention rollout (Abnar & Zuidema 2020): patterns averaged over heads and with the identity, multiplied through.

    The scores of a prompt are shares and add up to 1; they know the last position read but not the target.

    Raises:
        ModelError: the architecture shows no attention patterns on this backend.
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
            hooks.enter_context(subject.backend.showing_patterns())
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
    """Scores uniform in 0..1; a prompt and target draw the same ones in whatever company they come."""
    draws = [
        np.random.default_rng([seed, int(target), *ids.tolist()]).random(len(ids))
        for target, ids in zip(targets.ids, targets.contexts.ids, strict=True)
    ]
    return Scores(draws)


def norm(subject: Subject, targets: Targets, *, seed: int = 0) -> Scores:
    """NormXLogit's first factor alone: the norm of what enters the first block."""
    _, factors = read_factors(subject, targets, layers=[subject.n_layers])
    return Scores(factors.norm)


def logit(subject: Subject, targets: Targets, *, seed: int = 0) -> Scores:
    """NormXLogit's second factor alone: the target's logit read at each position of the last layer."""
    _, factors = read_factors(subject, targets, norm="none", layers=[subject.n_layers])
    return factors.scores(0)


def _by_embedding(
    subject: Subject,
    targets: Targets,
    label: str,
    of: Output,
    attribute: Callable[[Forward, Tensor], Tensor],
) -> Scores:
    """Run `attribute(forward, what embeddings add)` -> [batch, pos] on every target's context."""
    if of not in get_args(Output):
        raise UnknownName("output", of, get_args(Output))
    contexts = targets.contexts
    bare = _without_embeddings(subject, max(map(len, contexts.ids)))
    scores: list[Any] = [None] * len(targets)
    # A gradient keeps what every block computed: about two dozen vectors of a token per layer.
    for batch in in_batches(contexts, subject.batch_tokens(24), label):
        last, ids = batch.lengths - 1, targets.ids[batch.prompts]

        def program(tape: Tape, last: Tensor = last, ids: Tensor = ids) -> Tensor:
            residual = tape.residual(0)
            base = bare[: residual.shape[1]].float()
            forward = _forward(tape, base, last, ids, of)
            return attribute(forward, residual.float() - base).detach()

        found = subject.run(batch.ids, program).double().cpu().numpy()
        for row, (target, length) in enumerate(zip(batch.prompts.tolist(), batch.lengths.tolist(), strict=True)):
            scores[target] = found[row, :length]
    return Scores(scores)


def _forward(tape: Tape, base: Tensor, last: Tensor, ids: Tensor, of: Output) -> Forward:
    """The model from embeddings on, for the tape's own batch; float32 outside, the model's dtype inside."""
    dtype = tape.residual(0).dtype
    rows = torch.arange(len(last), device=base.device)
    last, ids = last.to(base.device), ids.to(base.device)

    def forward(added: Tensor) -> Tensor:
        residual = (base + added).to(dtype)
        for block in range(tape.n_layers):
            residual = tape.run_block(block, residual)
        logits = tape.head(residual[rows, last]).float()
        if of == "log_prob":
            logits = logits.log_softmax(dim=-1)
        elif of == "prob":
            logits = logits.softmax(dim=-1)
        return logits[rows, ids]

    return forward


def _without_embeddings(subject: Subject, length: int) -> Tensor:
    """What enters the first block at each position where tokens have no embedding, [length, d_model].

    It is the same for every prompt: position embeddings, where the model has them, or nothing.
    """
    ids = torch.zeros(1, length, dtype=torch.long)
    subject.run(ids, lambda tape: tape.last[:, -1])  # checks the model, which must be as it is for that
    with editing(subject.site("embed"), torch.zeros_like):
        return subject.run(ids, lambda tape: tape.residual(0))[0]
