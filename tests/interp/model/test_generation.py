"""Generation with a cache says what the model says without one, for every row and on both backends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import interp
from interp.errors import InputError

PROMPTS = ["w3 w4 w5 w6 w7 w8 w9", "w20", "w11 w12 w13", "w3 w4 w5 w6 w7 w8 w9 w10 w30 w31 w32 w33"]


def greedy(subject: interp.Subject, prompt: Tensor, n: int) -> list[int]:
    """Argmax after argmax, the whole text read anew each time."""
    ids = prompt[None]
    for _ in range(n):
        ids = torch.cat([ids, subject.logits(ids)[0][-1:].argmax(-1)[None]], dim=1)
    return ids[0].tolist()


def test_greedy_generation_equals_that_without_a_cache(
    small_subject: Callable[[str, str], interp.Subject], any_architecture: str, any_backend: str
) -> None:
    """Ragged prompts side by side; longer than the sliding windows, so that positions and masks are tested too."""
    subject = small_subject(any_architecture, any_backend)
    prompts = subject.tokens(PROMPTS).ids
    together = subject.continue_ids(prompts, 9, temperature=0)
    for prompt, ids in zip(prompts, together, strict=True):
        alone = greedy(subject, prompt, 9)
        end = [place for place, token in enumerate(alone) if token == 2 and place >= len(prompt)]
        assert ids.tolist() == alone[: end[0] if end else None]


def test_a_rows_draws_do_not_depend_on_its_neighbours(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str
) -> None:
    subject = small_subject("llama", any_backend)
    together = subject.generate(PROMPTS, 8, seed=3)
    assert together == [subject.generate(prompt, 8, seed=3) for prompt in PROMPTS]
    assert len(set(together)) == len(PROMPTS)


def test_a_cache_is_kept(small_subject: Callable[[str, str], interp.Subject], any_backend: str) -> None:
    """After the prompt the model reads one token at a time."""
    subject = small_subject("llama", any_backend)
    widths = []
    step = subject.backend.step

    def counting(ids: Tensor, cache: object) -> object:
        widths.append(ids.shape[1])
        return step(ids, cache)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject.backend, "step", counting)
        subject.generate("w3 w4 w5", 6, temperature=0)
    assert widths[0] == 4 and set(widths[1:]) == {1}
    assert subject.generating is None


def test_models_without_a_cache_read_the_whole_text_each_time() -> None:
    from interp.planted import two_step

    planted = two_step()
    assert interp.load(planted.model).generate("w0 w4", 4, temperature=0) == "w0 w4 w6 w8 w10 w0"


def test_generation_that_cannot_be_is_refused(small_subject: Callable[[str, str], interp.Subject]) -> None:
    subject = small_subject("gpt2", "bridge")
    with pytest.raises(InputError, match="no texts were given"):
        subject.generate([], 3)
    with pytest.raises(InputError, match="temperature=-1"):
        subject.generate(["w3"], 3, temperature=-1)
