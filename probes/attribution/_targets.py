"""The schema, targets and scores that all attribution methods share.

A target is a token predicted at a position: the model reads tokens 0..target_pos and predicts the next one.
`target_pos` is the last position read, not the position of the target, which need not be in the text. Rows run over
pos 0..target_pos.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    VOCABULARY,
    Batch,
    Column,
    InputError,
    Positions,
    Subject,
    Tokens,
    TooLong,
    columns,
    continuation_of_ids,
    positions_of,
)
from interp.model.tape import Tape
from probes.attribution._target_ids import Target, chosen_ids

Continuation: TypeAlias = str | int | Sequence[str] | Tensor
"""Tokens to explain one by one: a text, one per prompt, ids [n] or [prompt, n], or a number to generate greedily."""

TARGET_POS = Column("target_pos", "int", "the last position read: the target is the token predicted after it", low=0)
ATTRIBUTION = columns(
    "model",
    "run_id",
    "prompt_id",
    "method",
    TARGET_POS,
    "target_id",
    "target",
    "pos",
    "token_id",
    "token",
    VOCABULARY["score"].with_(meaning="how much this token matters for the target, in the method's own unit"),
    Column("score_se", "float", "standard error of the score, if the method samples", low=0.0, missing=True),
    VOCABULARY["control"].with_(meaning="'none', or 'random' for scores that do not use the model"),
)
"""The columns of every attribution method; a method may add its own."""


@dataclass(frozen=True, eq=False)
class Targets:
    """The T targets of all prompts, ordered by prompt, then position.

    Attributes:
        tokens: the tokens read, prompt by prompt: the prompt and, with a continuation, all its tokens but the last.
        prompt: index into `tokens`, int64 [T].
        pos: `target_pos`, the last position read for this target, int64 [T].
        ids: the token predicted there, int64 [T]; -1 is the model's argmax, not yet known (`plan_targets` only).
    """

    tokens: Tokens
    prompt: Tensor
    pos: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def prompt_ids(self) -> np.ndarray:
        """`prompt_id` of each target, [T]."""
        ids: np.ndarray = self.tokens.table["prompt_id"].to_numpy()[self.prompt.numpy()]
        return ids

    @cached_property
    def contexts(self) -> Tokens:
        """The tokens read for each target, ids [target_pos + 1]; `prompts` of their batches are indices of targets."""
        ids = [self.tokens.ids[prompt][: pos + 1] for prompt, pos in zip(self.prompt, self.pos, strict=True)]
        return as_tokens(ids, self.tokens.bos)

    def of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the targets of a batch of `tokens`: their indices and their rows in the batch, int64 [k] each."""
        row_of = torch.full((len(self.tokens),), -1)
        row_of[batch.prompts] = torch.arange(len(batch.prompts))
        row = row_of[self.prompt]
        index = (row >= 0).nonzero()[:, 0]
        return index, row[index]


@dataclass(frozen=True)
class Scores:
    """A method's scores for T targets.

    Attributes:
        score: of every token read, float [target_pos + 1] per target; larger means more important.
        score_se: standard errors of the same shapes; None if the method does not sample.
        extra: the method's own additional columns, of the same shapes.
    """

    score: Sequence[np.ndarray]
    score_se: Sequence[np.ndarray] | None = None
    extra: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)


Method: TypeAlias = Callable[..., Scores]
"""`(subject, targets, *, seed, **options) -> Scores`: a method that `attribute` can call."""


def find_targets(
    subject: Subject,
    tokens: Tokens,
    *,
    target: Target = "argmax",
    continuation: Continuation | None = None,
    target_pos: Positions = -1,
) -> Targets:
    """Find the token to explain and the last position read, for every prompt.

    Args:
        subject: the model.
        tokens: of the prompts.
        target: see `Target`. A list has one entry per prompt; an entry may be a list of several tokens.
        continuation: instead of `target`: each of its tokens is a target, read after the ones before it. A text is
            tokenised together with the prompt, so begin it with a space if it begins with a new word. A number n lets
            the model continue greedily by n tokens, or until its end-of-text token, which is then the last target.
        target_pos: the last position read, or several: numbers, negative ones from each prompt's end, or a token's
            string, which means every place where it stands.

    Raises:
        InputError: a target is not one token, a continuation cannot be told apart from the end of its prompt, a
            position is outside a prompt, or targets are given in two ways.
        TooLong: a prompt and its continuation exceed the context.
    """
    targets = plan_targets(subject, tokens, target=target, continuation=continuation, target_pos=target_pos)
    if bool((targets.ids >= 0).all()):
        return targets
    return replace(targets, ids=_argmax(subject, targets))


def plan_targets(
    subject: Subject,
    tokens: Tokens,
    *,
    target: Target = "argmax",
    continuation: Continuation | None = None,
    target_pos: Positions = -1,
) -> Targets:
    """Do `find_targets` without the forward pass for argmaxes; for a method that runs one anyway. See `Targets.ids`."""
    if continuation is not None:
        if not (isinstance(target, str) and target == "argmax") or target_pos != -1:
            raise InputError("continuation sets the targets and their positions: leave target and target_pos out.")
        return _continued(tokens, _continuations(subject, tokens, continuation))
    chosen = chosen_ids(subject, len(tokens), target)
    asked = positions_of(subject, tokens, target_pos, "target_pos")
    wanted = [torch.arange(len(read)) for read in tokens.ids] if asked is None else asked.by_prompt
    prompt, pos, ids = [], [], []
    for index, (positions, targets) in enumerate(zip(wanted, chosen, strict=True)):
        for position in positions.tolist():
            prompt += [index] * len(targets)
            pos += [position] * len(targets)
            ids += targets
    return Targets(tokens, torch.tensor(prompt), torch.tensor(pos), torch.tensor(ids))


def attribution_columns(targets: Targets, scores: Scores, *, method: str, control: str = "none") -> dict[str, Any]:
    """Return the columns of one method for `Run.frame`, one row per target and position read."""
    n_read = (targets.pos + 1).numpy()
    per_target = {
        "prompt_id": targets.prompt_ids,
        "target_pos": targets.pos.numpy(),
        "target_id": targets.ids.numpy(),
    }
    per_token = {
        "pos": [np.arange(n) for n in n_read],
        "token_id": [ids.numpy() for ids in targets.contexts.ids],
        "score": scores.score,
        **({} if scores.score_se is None else {"score_se": scores.score_se}),
        **scores.extra,
    }
    return (
        {"method": method, "control": control, "score_se": np.nan}
        | {name: np.repeat(values, n_read) for name, values in per_target.items()}
        | {name: np.concatenate(list(values)) for name, values in per_token.items()}
    )


def _continuations(subject: Subject, tokens: Tokens, given: Continuation) -> list[Tensor]:
    """Return the tokens that continue each prompt, int64 [n] per prompt."""
    if isinstance(given, int | Integral):
        n = int(given)
        if n < 1:
            raise InputError(f"continuation={n}; give at least 1 token.")
        _check_lengths(subject, tokens, [n] * len(tokens))
        return _greedy(subject, tokens, n)
    several = [given] if isinstance(given, str) else given
    texts = isinstance(several, Sequence) and all(isinstance(one, str) for one in several)
    more = subject.tokens(several, bos=False if texts else None, truncate=True)  # refuses what is neither
    given_to = list(several) if texts else more.ids
    n_more = [len(one) + cut for one, cut in zip(more.ids, more.n_cut, strict=True)]
    if len(more) == 1:
        given_to, n_more = given_to * len(tokens), n_more * len(tokens)
    if len(given_to) != len(tokens):
        raise InputError(
            f"continuation lists {len(given_to)} texts for {len(tokens)} prompts; give one, or one per prompt."
        )
    if texts:
        pairs = zip(tokens.ids, given_to, strict=True)
        ids = [torch.tensor(continuation_of_ids(prompt, str(text), subject.tokenizer)) for prompt, text in pairs]
        n_more = [len(one) for one in ids]
    else:
        ids = given_to
    _check_lengths(subject, tokens, n_more)
    return ids


def _continued(tokens: Tokens, continuations: Sequence[Tensor]) -> Targets:
    lengths = torch.tensor([len(one) for one in continuations])
    first = torch.tensor([len(prompt) - 1 for prompt in tokens.ids])
    read = [torch.cat([prompt, one[:-1]]) for prompt, one in zip(tokens.ids, continuations, strict=True)]
    pos = torch.cat([start + torch.arange(n) for start, n in zip(first, lengths, strict=True)])
    prompt = torch.arange(len(tokens)).repeat_interleave(lengths)
    return Targets(replace(tokens, ids=read), prompt, pos, torch.cat(list(continuations)))


def _check_lengths(subject: Subject, tokens: Tokens, n_more: Sequence[int]) -> None:
    for number, prompt, more in zip(tokens.table["prompt_id"], tokens.ids, n_more, strict=True):
        if len(prompt) + more - 1 > subject.n_ctx:
            raise TooLong(
                f"prompt {number} has {len(prompt)} tokens; with {more} more (the last is only predicted) it exceeds "
                f"the context of {subject.n_ctx}; shorten the prompt or the continuation."
            )


def _greedy(subject: Subject, tokens: Tokens, n: int) -> list[Tensor]:
    """Generate n tokens greedily after each prompt, or until the end-of-text token."""
    end = getattr(subject.tokenizer, "eos_token_id", None)
    new: list[list[int]] = [[] for _ in tokens.ids]
    for _ in range(n):
        going = [index for index, ids in enumerate(new) if not ids or ids[-1] != end]
        if not going:
            break
        read = [torch.cat([tokens.ids[index], torch.tensor(new[index], dtype=torch.long)]) for index in going]
        last = torch.tensor([len(ids) - 1 for ids in read])
        growing = Targets(as_tokens(read, tokens.bos), torch.arange(len(read)), last, torch.full_like(last, -1))
        for index, token in zip(going, _argmax(subject, growing).tolist(), strict=True):
            new[index].append(token)
    return [torch.tensor(ids) for ids in new]


def _argmax(subject: Subject, targets: Targets) -> Tensor:
    """Return the target ids [T] with unknown ones (-1) replaced by the model's argmax."""
    ids = targets.ids.clone()
    for batch in targets.tokens.batches(subject.batch_tokens()):
        index, row = targets.of(batch)
        pos = targets.pos[index]

        def most_probable(tape: Tape, row: Tensor = row, pos: Tensor = pos) -> Tensor:
            device = tape.last.device
            return tape.head(tape.last[row.to(device), pos.to(device)]).argmax(dim=-1)

        best = subject.run(batch.ids, most_probable).cpu()
        ids[index] = torch.where(ids[index] < 0, best, ids[index])
    return ids


def as_tokens(ids: list[Tensor], bos: bool | None) -> Tokens:
    """Return `Tokens` of generated sequences, numbered in the given order."""
    table = pd.DataFrame({"prompt_id": np.arange(len(ids))})
    return Tokens(ids, table, bos, np.zeros(len(ids), dtype=np.int64))
