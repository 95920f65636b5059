"""NormXLogit (Abbasi et al., 2025): the norm of a token's embedding times the target's logit at its position.

The score of token i is ‖x_i‖₂ · z(h_i)[y]: the norm of the first block's input at its position, times the target's
logit read from the residual stream there through the model's own head. One forward pass, no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    Column,
    Layers,
    Positions,
    Run,
    Schema,
    Source,
    Subject,
    Texts,
    UnknownName,
    columns,
    in_batches,
    layers_of,
    options,
    probe,
)
from interp.model.sites import recording
from interp.model.tape import Tape
from probes import papers
from probes.attribution import plots
from probes.attribution._finding import Continuation, find_targets, plan_targets
from probes.attribution._target_ids import Against, Target
from probes.attribution._targets import ATTRIBUTION, Scores, Targets, attribution_columns

Norm: TypeAlias = Literal["resid0", "token_embedding", "none"]
Centre: TypeAlias = Literal["none", "vocab_mean", "log_prob"]

NORMXLOGIT = Schema(
    probe="normxlogit",
    paper=papers.NORMXLOGIT,
    rows="one per prompt, target, layer and position read",
    columns=columns(
        *ATTRIBUTION,
        "layer",
        Column("norm", "float", "the first factor: Euclidean norm of the token's vector", low=0.0),
        Column(
            "logit",
            "float",
            "the second: the target's logit (minus that of `against`), read at this position and layer",
            "logits",
        ),
    ),
    summary_by=("layer",),
    lines_by=("target_pos",),
    summary_of=("score", "norm", "logit"),
)


@probe(NORMXLOGIT, plot=plots.attribution, explore=plots.explore_attribution)
def normxlogit(
    subject: Source,
    texts: Texts,
    *,
    target: Target = "argmax",
    continuation: Continuation | None = None,
    target_pos: Positions = -1,
    against: Against = None,
    norm: Norm = "resid0",
    layer: Layers = None,
    centre: Centre = "none",
    truncate: bool = False,
) -> pd.DataFrame:
    """Score every input token by the norm of its vector times the target's logit at its position.

    The score is a description, not a cause. In a causal model position i never sees later tokens and predicts token
    i + 1, so its logit shows whether its residual points to the target, not whether the model used it: in a model
    without attention, tokens that cannot matter still score. Logits are defined up to a constant, but the score is not:
    adding c to every logit adds c times the norm, and in a model whose logits are mostly negative (GPT-2) the tokens of
    small norm come first. `centre` removes the constant; it is an addition to the paper. The last position read has
    the logit that made the target the target, and tends to come first: look at the scores without it too. Both factors
    are in the frame because either alone is often as good as their product.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        target: the token to explain: "argmax" (the model's own), a token as text, an id, or one (or a list) of these
            per prompt.
        continuation: instead of `target`, every token of a text, of one text per prompt, or of the model's own n
            greedy tokens.
        target_pos: the last position read, or several, also by a token's string (see `logit_lens`); the target is the
            token predicted after it.
        against: the token to contrast the target with, as in `attribute`: the logit is then the target's minus that
            token's, so that scores are differences of the two tokens' scores, and a constant in the logits cancels.
        norm: the vector whose norm is taken: "resid0", the input of the first block, with position embeddings if the
            model adds them (the paper's choice); "token_embedding", the token's embedding alone; "none" uses 1.
        layer: the residual to read, 0..L, negative ones from the last, or several, or "all"; None is the last, as
            in the paper.
        centre: the value subtracted from the logit: "none", the mean logit over the vocabulary ("vocab_mean"), or the
            log-sum-exp ("log_prob", in nats).
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, target, layer and position read, with `norm` and `logit`, whose product is `score`.

    Raises:
        InputError: a text, target, position or layer cannot be used.
        ModelError: the weights are on another machine.

    Cost: one forward pass and a dot product per position, layer and target; centring unembeds every position.

    Pitfall: the last position has the logit that made the target the target, and tends to come first. Where all rows of
    the embedding are equally long (Gemma 3: to .05 %), the norm says nothing, and the logit alone ranks.

    >>> frame = normxlogit("reference", "Once upon a time there was a little", target=" girl")
    >>> frame.token.iloc[-1], frame.target.iloc[-1], bool((frame.score == frame.norm * frame.logit).all())
    (' little', ' girl', True)
    """
    parameters = {"target": target, "continuation": continuation, "target_pos": target_pos}
    parameters |= {"norm": norm, "layer": layer, "centre": centre}
    parameters |= {} if against is None else {"against": against}
    run = Run(NORMXLOGIT, subject, texts, parameters=parameters, truncate=truncate)
    layers = _layers(run.subject, layer)
    find = plan_targets if against is None else find_targets  # argmaxes are found in the pass that reads the factors
    targets = find(
        run.subject, run.tokens, target=target, continuation=continuation, target_pos=target_pos, against=against
    )
    targets, factors = read_factors(run.subject, targets, norm=norm, layers=layers, centre=centre)
    return run.frame(
        attribution_columns(targets, factors.scores(index), method="normxlogit") | {"layer": one}
        for index, one in enumerate(layers)
    )


def normxlogit_scores(
    subject: Subject,
    targets: Targets,
    *,
    seed: int = 0,
    norm: Norm = "resid0",
    layer: int | None = None,
    centre: Centre = "none",
) -> Scores:
    """Score by one layer of `normxlogit`, as a method of `attribute`; nothing is random, so the seed is ignored."""
    (layer,) = _layers(subject, layer)
    return read_factors(subject, targets, norm=norm, layers=[layer], centre=centre)[1].scores(0)


@dataclass(frozen=True)
class Factors:
    """The two factors for every target, float64: `norm` [target_pos + 1], `logit` [layer, target_pos + 1]."""

    norm: Sequence[np.ndarray]
    logit: Sequence[np.ndarray]

    def scores(self, index: int) -> Scores:
        """Return the product of both at one of the layers read."""
        logit = [of[index] for of in self.logit]
        product = [norm * of for norm, of in zip(self.norm, logit, strict=True)]
        return Scores(product, extra={"norm": self.norm, "logit": logit})


def read_factors(
    subject: Subject, targets: Targets, *, norm: Norm = "resid0", layers: Sequence[int], centre: Centre = "none"
) -> tuple[Targets, Factors]:
    """Return the targets, with argmaxes found in the same forward pass, and both factors of every target."""
    for name, value, known in (("norm", norm, get_args(Norm)), ("centre", centre, get_args(Centre))):
        if value not in known:
            raise UnknownName(name, value, known)
    if targets.against is not None:
        return targets, _contrasted(subject, targets, norm=norm, layers=layers, centre=centre)
    ids = targets.ids.clone()
    norms: list[Any] = [None] * len(targets)
    logits: list[Any] = [None] * len(targets)
    for batch in in_batches(targets.tokens, _batch_tokens(subject, targets, len(layers)), "normxlogit"):
        index, row = targets.of(batch)
        pos = targets.pos[index]
        with recording([subject.site("embed")] if norm == "token_embedding" else []) as embedded:
            read = subject.run(batch.ids, _reader(subject, row, pos, targets.ids[index], layers, centre))
        ids[index] = read.ids.cpu()
        vectors = embedded[0] if embedded else None
        size = _sizes(vectors) if vectors is not None else read.norms
        sizes = (torch.ones_like(size) if norm == "none" else size).double().cpu().numpy()
        values = read.logits.double().cpu().numpy()
        for place, (target, last) in enumerate(zip(index.tolist(), pos.tolist(), strict=True)):
            norms[target] = sizes[int(row[place]), : last + 1]
            logits[target] = values[:, place, : last + 1]
    return replace(targets, ids=ids), Factors(norms, logits)


def _contrasted(subject: Subject, targets: Targets, *, norm: Norm, layers: Sequence[int], centre: Centre) -> Factors:
    """Return the factors of contrasts, from one pass over the targets with the others beside them."""
    assert targets.against is not None
    prompt, pos = (one.repeat_interleave(2) for one in (targets.prompt, targets.pos))
    both = replace(
        targets, prompt=prompt, pos=pos, ids=torch.stack([targets.ids, targets.against], 1).flatten(), against=None
    )
    _, factors = read_factors(subject, both, norm=norm, layers=layers, centre=centre)
    logits = zip(factors.logit[::2], factors.logit[1::2], strict=True)
    return Factors(factors.norm[::2], [own - other for own, other in logits])


@dataclass(frozen=True)
class _Read:
    """The results of one forward pass for k targets.

    Attributes:
        ids: of the targets, [k].
        norms: of the first block's input, float32 [batch, pos].
        logits: of each target at every position of its prompt, float32 [layer, k, pos].
    """

    ids: Tensor
    norms: Tensor
    logits: Tensor


def _reader(
    subject: Subject, row: Tensor, pos: Tensor, ids: Tensor, layers: Sequence[int], centre: Centre
) -> Callable[[Tape], _Read]:
    """Return the program to run; target k is predicted at `row`, `pos` and has id `ids`, -1 for the argmax."""
    W_U, b_U, memory = subject.W_U, subject.b_U, options.available
    slot = _places_within(row)  # the targets of one prompt, side by side

    def program(tape: Tape) -> _Read:
        at = row.to(tape.last.device), pos.to(tape.last.device)
        final = tape.last[at]
        found = ids.to(final.device)
        if bool((found < 0).any()):
            found = torch.where(found < 0, tape.head(final).argmax(dim=-1), found)
        wanted = found.new_zeros(len(tape.last), int(slot.max()) + 1)  # [batch, slot]
        wanted[at[0], slot] = found
        column, bias = W_U.T[wanted].float(), b_U[wanted].float()  # [batch, slot, d_model], [batch, slot]
        logits = []
        for layer in layers:
            residual = tape.residual(layer)
            if centre == "none":
                # One column of the unembedding per target; verification checks that columns give the model's logits.
                product = tape.head.norm(residual).float() @ column.transpose(1, 2)
                of_slots = tape.head.transform(product + bias[:, None, :])
            else:
                of_slots = _centred(tape, residual, wanted, centre, memory)
            logits.append(of_slots[at[0], :, slot])
        return _Read(found, _sizes(tape.residual(0)), torch.stack(logits))

    return program


def _centred(tape: Tape, residual: Tensor, wanted: Tensor, centre: Centre, memory: int) -> Tensor:
    """Return the logits of the wanted tokens [batch, slot] minus the vocabulary's mean or log-sum-exp.

    Returns [batch, pos, slot]. Logits of the whole vocabulary are computed in chunks of rows.
    """
    n_batch, n_pos, _ = residual.shape
    flat = residual.flatten(0, 1)
    tokens = wanted[:, None, :].expand(-1, n_pos, -1).flatten(0, 1)
    n_rows = max(1, memory // (16 * tape.head(flat[:1]).shape[-1]))  # logits, their float32 copy and its exponentials
    parts = []
    for start in range(0, len(flat), n_rows):
        rows = slice(start, start + n_rows)
        logits = tape.head(flat[rows]).float()
        offset = logits.mean(dim=-1) if centre == "vocab_mean" else logits.logsumexp(dim=-1)
        parts.append(logits.gather(1, tokens[rows]) - offset[:, None])
    return torch.cat(parts).view(n_batch, n_pos, -1)


def _sizes(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors.float(), dim=-1)


def _places_within(row: Tensor) -> Tensor:
    """Return, for each entry of `row` [k] (equal ones adjacent), the number of equal entries before it.

    >>> _places_within(torch.tensor([0, 0, 2, 1, 1, 1])).tolist()
    [0, 1, 0, 0, 1, 2]
    """
    _, group, count = torch.unique_consecutive(row, return_inverse=True, return_counts=True)
    return torch.arange(len(row)) - (count.cumsum(0) - count)[group]


def _batch_tokens(subject: Subject, targets: Targets, n_layers: int) -> int:
    """Return the padded tokens per batch, lowered if the columns and logits of a prompt's targets fill memory."""
    lengths = [len(ids) for ids in targets.tokens.ids]
    per_target = 4 * (2 * subject.d_model + (n_layers + 2) * max(lengths))
    fitting = options.available // 2 // (int(targets.prompt.bincount().max()) * per_target)
    return min(subject.batch_tokens(), max(1, fitting) * min(lengths))


def _layers(subject: Subject, layer: Layers) -> list[int]:
    return layers_of(-1 if layer is None else layer, subject.n_layers, subject.name)
