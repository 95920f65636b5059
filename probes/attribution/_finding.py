"""Find the targets that a user asks for: tokens, the model's own argmax, or every token of a continuation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import TypeAlias

import torch
from torch import Tensor

from interp.authoring import InputError, Positions, Subject, Tokens, TooLong, continuation_of_ids, positions_of
from interp.model.tape import Tape
from probes.attribution._target_ids import Against, Target, against_ids, chosen_ids
from probes.attribution._targets import Targets, as_tokens

Continuation: TypeAlias = str | int | Sequence[str] | Tensor
"""Tokens to explain one by one: a text, one per prompt, ids [n] or [prompt, n], or a number to generate greedily."""


def find_targets(
    subject: Subject,
    tokens: Tokens,
    *,
    target: Target = "argmax",
    continuation: Continuation | None = None,
    target_pos: Positions = -1,
    against: Against = None,
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
        against: see `Against`.

    Raises:
        InputError: a target is not one token or is contrasted with itself, a continuation cannot be told apart from the
            end of its prompt, a position is outside a prompt, or targets are given in two ways.
        TooLong: a prompt and its continuation exceed the context.
    """
    targets = plan_targets(
        subject, tokens, target=target, continuation=continuation, target_pos=target_pos, against=against
    )
    if bool((targets.ids >= 0).all()) and (targets.against is None or bool((targets.against >= 0).all())):
        return targets
    ids, others = _likeliest(subject, targets)
    return _distinct(subject, replace(targets, ids=ids, against=others))


def plan_targets(
    subject: Subject,
    tokens: Tokens,
    *,
    target: Target = "argmax",
    continuation: Continuation | None = None,
    target_pos: Positions = -1,
    against: Against = None,
) -> Targets:
    """Do `find_targets` without the forward pass for argmaxes; for a method that runs one anyway. See `Targets.ids`."""
    if continuation is not None:
        if not (isinstance(target, str) and target == "argmax") or target_pos != -1:
            raise InputError("continuation sets the targets and their positions: leave target and target_pos out.")
        more = _continuations(subject, tokens, continuation)
        others = against_ids(subject, [len(one) for one in more], against)
        return _distinct(subject, _continued(tokens, more, others))
    chosen = chosen_ids(subject, len(tokens), target)
    others = against_ids(subject, [len(one) for one in chosen], against)
    asked = positions_of(subject, tokens, target_pos, "target_pos")
    wanted = [torch.arange(len(read)) for read in tokens.ids] if asked is None else asked.by_prompt
    prompt, pos, ids, contrasts = [], [], [], []
    for index, (positions, targets) in enumerate(zip(wanted, chosen, strict=True)):
        for position in positions.tolist():
            prompt += [index] * len(targets)
            pos += [position] * len(targets)
            ids += targets
            contrasts += others[index] if others else []
    beside = None if others is None else torch.tensor(contrasts)
    return _distinct(subject, Targets(tokens, torch.tensor(prompt), torch.tensor(pos), torch.tensor(ids), beside))


def _distinct(subject: Subject, targets: Targets) -> Targets:
    """Return the targets, or raise InputError if one is contrasted with itself."""
    same = (targets.ids == targets.against).nonzero() if targets.against is not None else targets.ids[:0]
    known = [int(index) for index in same if int(targets.ids[index]) >= 0]
    if known:
        token = str(subject.token_strings[int(targets.ids[known[0]])])
        raise InputError(
            f"against={token!r} is a target of prompt {targets.prompt_ids[known[0]]} too, after position "
            f"{int(targets.pos[known[0]])}; give another token, or 'runner_up'."
        )
    return targets


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


def _continued(tokens: Tokens, continuations: Sequence[Tensor], against: list[list[int]] | None) -> Targets:
    lengths = torch.tensor([len(one) for one in continuations])
    first = torch.tensor([len(prompt) - 1 for prompt in tokens.ids])
    read = [torch.cat([prompt, one[:-1]]) for prompt, one in zip(tokens.ids, continuations, strict=True)]
    pos = torch.cat([start + torch.arange(n) for start, n in zip(first, lengths, strict=True)])
    prompt = torch.arange(len(tokens)).repeat_interleave(lengths)
    others = None if against is None else torch.tensor([token for one in against for token in one])
    return Targets(replace(tokens, ids=read), prompt, pos, torch.cat(list(continuations)), others)


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
        for index, token in zip(going, _likeliest(subject, growing)[0].tolist(), strict=True):
            new[index].append(token)
    return [torch.tensor(ids) for ids in new]


def _likeliest(subject: Subject, targets: Targets) -> tuple[Tensor, Tensor | None]:
    """Return targets and contrasts, int64 [T] each, with unknown ones (-1) replaced by the model's likeliest tokens."""
    ids = targets.ids.clone()
    others = None if targets.against is None else targets.against.clone()
    contrasts = others is not None
    for batch in targets.tokens.batches(subject.batch_tokens()):
        index, row = targets.of(batch)
        pos, own = targets.pos[index], ids[index]

        def two_best(tape: Tape, row: Tensor = row, pos: Tensor = pos, own: Tensor = own) -> Tensor:
            device = tape.last.device
            logits = tape.head(tape.last[row.to(device), pos.to(device)])
            first = logits.argmax(dim=-1)
            first = torch.where(own.to(device) < 0, first, own.to(device))
            if not contrasts:
                return torch.stack([first, first])
            return torch.stack([first, logits.scatter(1, first[:, None], -torch.inf).argmax(dim=-1)])

        best, second = subject.run(batch.ids, two_best).cpu()
        ids[index] = best
        if others is not None:
            others[index] = torch.where(others[index] < 0, second, others[index])
    return ids, others
