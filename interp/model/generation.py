"""Generation with a key-value cache: several prompts of different lengths in one batch, without padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from interp.checks import checked
from interp.errors import InputError, ModelError
from interp.model.positions import check_ids

Step: TypeAlias = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""(ids [batch, pos], cache) -> logits [batch, d_vocab] after the last of them, and the cache: `Backend.step`."""


@dataclass(frozen=True)
class Generating:
    """The position of a forward pass in the texts it continues; an edit sees activations without their positions.

    Attributes:
        start: position of the pass's first token.
        prompt_lengths: tokens of each prompt, int64 [batch]; later tokens were generated.
    """

    start: int
    prompt_lengths: Tensor


def check_settings(
    prompts: Sequence[Tensor], max_new_tokens: int, temperature: float, *, d_vocab: int, n_ctx: int
) -> None:
    """Raise InputError for a prompt, a number of tokens or a temperature that cannot be used."""
    if temperature < 0 or max_new_tokens < 0:
        raise InputError(f"temperature={temperature}, max_new_tokens={max_new_tokens}: give 0 or more of both.")
    if not len(prompts):
        raise InputError("no prompts were given; pass at least one.")
    for prompt in prompts:
        check_ids(prompt[None], d_vocab=d_vocab, n_ctx=n_ctx)


def texts_to_continue(given: str | list[str]) -> list[str]:
    """Return a text or texts as a list, or raise InputError for token ids and chat messages, which are not texts."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, list | tuple) and any(not isinstance(one, str) for one in given):
        raise InputError(
            f"generate continues texts, not {type(next(one for one in given if not isinstance(one, str))).__name__}: "
            "give Subject.continue_ids the ids of Subject.tokens(...), which takes token ids and chat messages."
        )
    return given


def continue_prompts(
    step: Step,
    prompts: Sequence[Tensor],
    max_new_tokens: int,
    *,
    n_ctx: int,
    n_ids: int,
    end: int | None,
    temperature: float,
    seed: int,
    entering: Callable[[Generating | None], None],
) -> list[Tensor]:
    """Return the prompts with their continuations, int64 [pos] each, on the CPU, without the end-of-text token.

    Padding would shift positions, so there is none: the first pass feeds every prompt up to the length of the shortest,
    and each later pass one column, in which the longer prompts still read their own next token.

    Args:
        step: one forward pass that continues from a cache.
        prompts: int64 [pos] each, at least one token.
        max_new_tokens: per prompt; fewer if the context is full.
        n_ctx: the longest text in tokens.
        n_ids: how many tokens the model can read; one that it predicts beyond these raises ModelError.
        end: the end-of-text token, which ends a continuation; None if the tokenizer has none.
        temperature: 0 takes the most probable token each time.
        seed: of each row's own generator, so that a row's draws do not depend on the other rows.
        entering: called before each pass with its position in the texts, and with None at the end.
    """
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    stops = (lengths + max_new_tokens).clamp(max=n_ctx).tolist()
    generators = [torch.Generator().manual_seed(seed) for _ in prompts]
    ids = torch.stack([prompt[: int(lengths.min())] for prompt in prompts])
    cache: Any = None
    try:
        while ids.shape[1] < max(stops):
            column = ids.shape[1]
            fed = ids if cache is None else ids[:, -1:]
            entering(Generating(column - fed.shape[1], lengths))
            logits, cache = step(fed, cache)
            chosen = []
            for row, (prompt, one) in enumerate(zip(prompts, logits.float().cpu(), strict=True)):
                if column < len(prompt):
                    chosen.append(int(prompt[column]))
                    continue
                chosen.append(0 if column >= stops[row] else _sample(one, temperature, generators[row]))
                if chosen[-1] == end:
                    stops[row] = min(column, stops[row])
            if max(chosen) >= n_ids:
                raise ModelError(
                    f"the model predicts the token id {max(chosen)} next and embeds {n_ids} tokens, so it cannot read "
                    "its own answer; give a prompt with another answer."
                )
            ids = torch.cat([ids, torch.tensor(chosen)[:, None]], dim=1)
    finally:
        entering(None)
    return [row[: max(stop, len(prompt))] for row, stop, prompt in zip(ids, stops, prompts, strict=True)]


@checked
def continuation(tokenizer: Any, prompt: Tensor, ids: Tensor) -> str:
    """Return the text that `ids` add to `prompt`.

    The tokens are decoded together: a character can be split over several tokens, each unreadable alone.
    """
    before, whole = (tokenizer.decode(part, clean_up_tokenization_spaces=False) for part in (prompt, ids))
    added: str = whole[len(before) :]
    return added


def _sample(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    return int(torch.multinomial(torch.softmax(logits / temperature, dim=0), 1, generator=generator))
