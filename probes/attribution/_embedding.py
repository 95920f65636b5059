"""Attribution on the residual that enters the first block: a token's embedding against a baseline embedding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from interp.authoring import ModelError, Subject, UnknownName, in_batches
from interp.model.sites import editing, recording
from interp.model.tape import Tape
from probes.attribution._checks import special_positions
from probes.attribution._targets import Scores, Targets

Output: TypeAlias = Literal["log_prob", "logit", "prob"]
"""The attributed output of the target: its log-probability (nats), logit or probability. Of a contrast, the output of
the target minus that of the other token: with "log_prob" and "logit" the same difference of logits."""

Baseline: TypeAlias = Literal["mean", "zero"]
"""The embedding that a token's is compared with: the mean of the vocabulary's, or zero."""

Keep: TypeAlias = Literal["sinks", "none"]
"""The positions that are their own baseline: position 0 and special tokens, where attention collects, or none."""

Forward: TypeAlias = Callable[[Tensor], Tensor]
"""Difference to the baseline residual [n * batch, pos, d_model] -> output of each row's target, both float32."""

_AT_ONCE = 256  # tokens: on a CPU larger batches are not faster, while smaller ones read all weights for little


def by_embedding(
    subject: Subject,
    targets: Targets,
    label: str,
    attribute: Callable[[Forward, Tensor, int], Tensor],
    *,
    of: Output,
    baseline: Baseline,
    keep: Keep = "none",
) -> Scores:
    """Run `attribute(forward, difference to the baseline residual, variants)` -> [batch, pos] on every context.

    `variants` is the number of copies of the batch that fit into one call of `forward`.
    """
    for name, value, known in (("output", of, Output), ("baseline", baseline, Baseline), ("keep", keep, Keep)):
        if value not in get_args(known):
            raise UnknownName(name, value, get_args(known))
    contexts = targets.contexts
    bare = baseline_residual(subject, max(map(len, contexts.ids)), baseline)
    kept = [special_positions(subject, ids.numpy(), first=True) & (keep == "sinks") for ids in contexts.ids]
    scores: list[Any] = [None] * len(targets)
    # A gradient keeps the activations of every block: about 24 vectors per token and layer.
    most = subject.batch_tokens(24)
    at_once = min(most, _AT_ONCE) if subject.device.type == "cpu" else most
    for batch in in_batches(contexts, most, label):
        last, ids = batch.lengths - 1, targets.ids[batch.prompts]
        against = None if targets.against is None else targets.against[batch.prompts]
        own = np.zeros(tuple(batch.ids.shape), dtype=bool)
        for row, target in enumerate(batch.prompts.tolist()):
            own[row, : len(kept[target])] = kept[target]
        variants = max(1, at_once // batch.ids.numel())

        def program(
            tape: Tape,
            last: Tensor = last,
            ids: Tensor = ids,
            against: Tensor | None = against,
            own: np.ndarray = own,
            variants: int = variants,
        ) -> Tensor:
            residual = tape.residual(0).float()
            stays = torch.from_numpy(own).to(residual.device)[..., None]
            base = torch.where(stays, residual, bare[: residual.shape[1]].float())
            return attribute(_forward(tape, base, last, ids, against, of), residual - base, variants).detach()

        found = subject.run(batch.ids, program).double().cpu().numpy()
        for row, (target, length) in enumerate(zip(batch.prompts.tolist(), batch.lengths.tolist(), strict=True)):
            scores[target] = found[row, :length]
    return Scores(scores)


def _forward(tape: Tape, base: Tensor, last: Tensor, ids: Tensor, against: Tensor | None, of: Output) -> Forward:
    """Return the model from embeddings on, for copies of the tape's batch; float32 in and out, its own dtype inside."""
    dtype = tape.residual(0).dtype
    last, ids = last.to(base.device), ids.to(base.device)
    others = None if against is None else against.to(base.device)

    def forward(added: Tensor) -> Tensor:
        n = len(added) // len(base)
        residual = (base.repeat(n, 1, 1) + added).to(dtype)
        for block in range(tape.n_layers):
            residual = tape.run_block(block, residual)
        rows = torch.arange(len(added), device=base.device)
        logits = tape.head(residual[rows, last.repeat(n)]).float()
        if of == "log_prob" and others is None:  # the normaliser of a contrast cancels
            logits = logits.log_softmax(dim=-1)
        elif of == "prob":
            logits = logits.softmax(dim=-1)
        own = logits[rows, ids.repeat(n)]
        return own if others is None else own - logits[rows, others.repeat(n)]

    return forward


def baseline_residual(subject: Subject, length: int, baseline: Baseline) -> Tensor:
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
