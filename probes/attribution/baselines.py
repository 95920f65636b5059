"""Attribution methods to compare with: gradients and occlusion (from Captum), attention rollout, random scores.

Gradients and occlusion act on the difference that a token's embedding makes, compared with a baseline embedding, to
the residual that enters the first block; position embeddings stay. If that residual is linear in the embedding, as in
every common architecture but BLOOM, this is the method on the embedding itself. The baseline is the mean of the
vocabulary's embeddings, or zero on request. Zero is not a harmless default: a model with RMS norms (Llama, Gemma)
divides by the size of its input, so the output changes within the first millionth of the path from zero to the prompt,
and integrated gradients miss completeness by their whole size for any number of steps.

Each is a `Method` of `probes.attribution._targets`; `attribute` calls it by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError, ModelError, Subject, UnknownName, in_batches, warn
from interp.model.sites import Edit, editing, recording
from interp.model.tape import Tape
from probes.attribution._targets import Scores, Targets
from probes.attribution.normxlogit import read_factors

Output: TypeAlias = Literal["log_prob", "logit", "prob"]
"""The attributed output of the target: its log-probability (nats), logit or probability."""

Baseline: TypeAlias = Literal["mean", "zero"]
"""The embedding that a token's is compared with: the mean of the vocabulary's, or zero."""

Forward: TypeAlias = Callable[[Tensor], Tensor]
"""Difference to the baseline residual [batch, pos, d_model] -> output of each row's target [batch], both float32."""


def input_x_gradient(
    subject: Subject, targets: Targets, *, seed: int = 0, of: Output = "log_prob", baseline: Baseline = "mean"
) -> Scores:
    """Score by (embedding - baseline) · gradient: the first-order effect of the embedding in place of the baseline."""
    from captum.attr import InputXGradient

    def attribute(forward: Forward, added: Tensor) -> Tensor:
        return InputXGradient(forward).attribute(added.requires_grad_()).sum(dim=-1)

    return _by_embedding(subject, targets, "input_x_gradient", of, baseline, attribute)


def gradient_norm(subject: Subject, targets: Targets, *, seed: int = 0, of: Output = "log_prob") -> Scores:
    """Score by the Euclidean norm of the gradient: the output's sensitivity to the embedding in any direction."""
    from captum.attr import Saliency

    def attribute(forward: Forward, added: Tensor) -> Tensor:
        gradient = Saliency(forward).attribute(added.requires_grad_(), abs=False)
        return torch.linalg.vector_norm(gradient, dim=-1)

    return _by_embedding(subject, targets, "gradient_norm", of, "zero", attribute)


def integrated_gradients(
    subject: Subject,
    targets: Targets,
    *,
    seed: int = 0,
    of: Output = "log_prob",
    baseline: Baseline = "mean",
    n_steps: int = 50,
) -> Scores:
    """Score by gradients averaged from baseline to embedding, times their difference (Sundararajan et al. 2017).

    A prompt's scores add up to its output minus that of a prompt of baselines. The average is a Gauss-Legendre sum of
    `n_steps` gradients; a warning is given if they do not add up within 1 % (6 % in half precision). More steps help,
    unless the output jumps on the path: a mixture of experts that changes experts, or RMS norms with
    `baseline="zero"`.
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

    scores = _by_embedding(subject, targets, "integrated_gradients", of, baseline, attribute)
    too_far = np.array(gaps) > max(0.01, 8 * torch.finfo(subject.dtype).eps)
    if too_far.any():
        warn(
            f"integrated gradients of {too_far.sum()} of {len(gaps)} targets do not add up to the change in output, "
            f"by up to {max(gaps):.0%} of it: raise n_steps={n_steps}.",
        )
    return scores


def occlusion(
    subject: Subject, targets: Targets, *, seed: int = 0, of: Output = "log_prob", baseline: Baseline = "mean"
) -> Scores:
    """Score by the fall of the output when one token's embedding becomes the baseline; one forward pass per token."""
    from captum.attr import Occlusion

    def attribute(forward: Forward, added: Tensor) -> Tensor:
        window = (1, added.shape[-1])
        return Occlusion(forward).attribute(added, sliding_window_shapes=window)[..., 0]

    return _by_embedding(subject, targets, "occlusion", of, baseline, attribute)


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


def _by_embedding(
    subject: Subject,
    targets: Targets,
    label: str,
    of: Output,
    baseline: Baseline,
    attribute: Callable[[Forward, Tensor], Tensor],
) -> Scores:
    """Run `attribute(forward, difference to the baseline residual)` -> [batch, pos] on every target's context."""
    for name, value, known in (("output", of, get_args(Output)), ("baseline", baseline, get_args(Baseline))):
        if value not in known:
            raise UnknownName(name, value, known)
    contexts = targets.contexts
    bare = _of_baseline(subject, max(map(len, contexts.ids)), baseline)
    scores: list[Any] = [None] * len(targets)
    # A gradient keeps the activations of every block: about 24 vectors per token and layer.
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
    """Return the model from embeddings on, for the tape's batch; float32 in and out, the model's dtype inside."""
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


def _of_baseline(subject: Subject, length: int, baseline: Baseline) -> Tensor:
    """Return the first block's input if every token's embedding is the baseline, [length, d_model].

    It is the same for every prompt: the baseline plus position embeddings if the model has them.

    Raises:
        ModelError: embeddings are not rows of W_E, or these times a constant.
    """
    ids = (torch.arange(length) % subject.d_vocab)[None]
    site = subject.site("embed")
    with recording([site]) as seen:  # run once without edits first: verification must see the unedited model
        subject.run(ids, lambda tape: tape.last[:, -1])
    (embedded,) = seen
    assert embedded is not None
    vector = torch.zeros_like(embedded[0, 0])
    if baseline == "mean":
        vector = _scale_of(subject, ids[0], embedded[0]) * subject.W_E.float().mean(dim=0)
    with editing(site, lambda value: vector.to(value).expand_as(value)):
        return subject.run(ids, lambda tape: tape.residual(0))[0]


def _scale_of(subject: Subject, ids: Tensor, embedded: Tensor) -> Tensor:
    """Return the factor by which the model multiplies rows of W_E: 1, or in Gemma the root of d_model."""
    rows, given = subject.W_E[ids.to(subject.W_E.device)].float(), embedded.float()
    scale = (rows * given).sum() / rows.square().sum()
    if not torch.allclose(scale * rows, given, rtol=0.02, atol=1e-3 * float(given.abs().max())):
        raise ModelError(f"the embeddings of {subject.name!r} are not rows of its W_E; use baseline='zero'.")
    return scale
