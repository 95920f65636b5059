"""Log-probabilities of the candidates that may follow a prompt, with as few forward passes as they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from interp.authoring import Subject, TooLong, progress_bar
from interp.model.tape import Tape

_READ_TOGETHER = 64  # places whose next-token distributions are computed at a time


def log_probs(subject: Subject, questions: Sequence[Sequence[str]], label: str) -> np.ndarray:
    """Return the log-probability of each candidate after its prompt, float64 [question, candidate].

    Whole texts are tokenised, because a tokenizer may join the end of the prompt with the beginning of the candidate;
    the sum begins where the candidates' tokens first differ.

    Args:
        subject: the model.
        questions: the texts of each, its prompt with one candidate after another; as many for each.
        label: before the progress bar.

    Raises:
        TooLong: a text is longer than the context.
    """
    texts = [text for question in questions for text in question]
    tokens = subject.tokens(texts, truncate=True)
    if tokens.n_cut.any():
        longest = max(len(ids) + cut for ids, cut in zip(tokens.ids, tokens.n_cut, strict=True))
        raise TooLong(
            f"a question has {longest} tokens with its examples, more than the context of {subject.n_ctx}; "
            "give fewer shots, or shorter words."
        )
    n_candidates = len(questions[0])
    asked = [tokens.ids[place : place + n_candidates] for place in range(0, len(texts), n_candidates)]
    starts = [_shared(candidates) for candidates in asked]
    found = torch.empty(len(asked), n_candidates, dtype=torch.float64)
    short: list[int] = []  # questions whose candidates differ in their last token only
    long: list[int] = []
    for place, (candidates, start) in enumerate(zip(asked, starts, strict=True)):
        (short if all(len(ids) == start + 1 for ids in candidates) else long).append(place)
    prompts = [tuple(asked[place][0][: starts[place]].tolist()) for place in short]
    runs, row_of = _covering(prompts)
    with progress_bar(len(runs) + n_candidates * len(long), "prompt", label) as bar:
        if short:
            last = torch.stack([torch.stack([ids[-1] for ids in asked[place]]) for place in short])
            at = torch.tensor([row_of[prompt] for prompt in prompts]), torch.tensor(list(map(len, prompts))) - 1
            found[short] = _after(subject, runs, *at, last, bar.update)
        if long:
            whole = [ids for place in long for ids in asked[place]]
            first = torch.tensor([starts[place] for place in long]).repeat_interleave(n_candidates)
            found[long] = _whole(subject, whole, first, bar.update).view(-1, n_candidates)
    return found.numpy()


def _covering(prompts: Sequence[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], dict[tuple[int, ...], int]]:
    """Return the prompts that begin no other one, and for each prompt which of these begins with it.

    >>> _covering([(1,), (1, 2), (1, 3), (1, 2, 4)])
    ([(1, 3), (1, 2, 4)], {(1, 3): 0, (1, 2, 4): 1, (1, 2): 1, (1,): 1})
    """
    runs: list[tuple[int, ...]] = []
    row_of: dict[tuple[int, ...], int] = {}
    for prompt in sorted(set(prompts), reverse=True):  # what begins with a prompt stands right before it
        if not runs or runs[-1][: len(prompt)] != prompt:
            runs.append(prompt)
        row_of[prompt] = len(runs) - 1
    return runs, row_of


def _after(
    subject: Subject,
    runs: Sequence[tuple[int, ...]],
    rows: Tensor,
    places: Tensor,
    candidates: Tensor,
    advance: Callable[[int], object],
) -> Tensor:
    """Return the log-probability of each candidate after a place of a prompt, float64 [question, candidate].

    The letters of a word are asked for in one pass, as the prompt of each is the beginning of the next one's.

    Args:
        subject: the model.
        runs: prompts.
        rows: prompt of each question, int64 [question].
        places: position in it, int64 [question].
        candidates: tokens, int64 [question, candidate].
        advance: called with the number of prompts done.
    """
    found = torch.empty(candidates.shape, dtype=torch.float64)
    for batch in subject.tokens([list(run) for run in runs]).batches(min(subject.batch_tokens(), 1 << 14)):
        row_of = {int(prompt): row for row, prompt in enumerate(batch.prompts)}
        mine = torch.tensor([place for place, row in enumerate(rows.tolist()) if row in row_of])
        row = torch.tensor([row_of[one] for one in rows[mine].tolist()])

        def program(tape: Tape, row: Tensor = row, mine: Tensor = mine) -> Tensor:
            parts = []
            for some in torch.split(torch.arange(len(mine)), _READ_TOGETHER):
                at = row[some].to(tape.last.device), places[mine[some]].to(tape.last.device)
                log_prob = tape.head(tape.last[at]).float().log_softmax(dim=-1)
                parts.append(log_prob.gather(1, candidates[mine[some]].to(log_prob.device)))
            return torch.cat(parts)

        found[mine] = subject.run(batch.ids, program).double().cpu()
        advance(len(batch.ids))
    return found


def _whole(subject: Subject, texts: Sequence[Tensor], first: Tensor, advance: Callable[[int], object]) -> Tensor:
    """Return the log-probability of each text's tokens from `first` [text] to its end, float64 [text]."""
    found = torch.empty(len(texts), dtype=torch.float64)
    for batch in subject.tokens([ids.tolist() for ids in texts]).batches(min(subject.batch_tokens(), 1 << 14)):
        summed = _summed(batch.ids, first[batch.prompts], batch.lengths)
        found[batch.prompts] = subject.run(batch.ids, summed).double().cpu()
        advance(len(batch.ids))
    return found


def _shared(candidates: Sequence[Tensor]) -> int:
    """Return the number of first tokens that all candidates share."""
    shortest = min(map(len, candidates))
    stacked = torch.stack([ids[:shortest] for ids in candidates])
    return int((stacked == stacked[0]).all(dim=0).long().cumprod(dim=0).sum())


def _summed(ids: Tensor, first: Tensor, lengths: Tensor) -> Callable[[Tape], Tensor]:
    """Return a program: the log-probability of each prompt's tokens from `first` to its end, float32 [batch]."""
    place = torch.arange(1, ids.shape[1])
    row, pos = ((place >= first[:, None]) & (place < lengths[:, None])).nonzero(as_tuple=True)

    def program(tape: Tape) -> Tensor:
        at = row.to(tape.last.device), pos.to(tape.last.device)
        logits = tape.head(tape.last[at]).float()
        wanted = ids.to(at[0].device)[at[0], at[1] + 1]
        each = logits.log_softmax(dim=-1).gather(1, wanted[:, None])[:, 0]
        return torch.zeros(len(ids), device=each.device).index_add_(0, at[0], each)

    return program
