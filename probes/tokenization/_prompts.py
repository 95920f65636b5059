"""Prompts as bytes: what their tokens spell, and where they may be cut."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from interp.authoring import InputError, Texts, Tokens, content_keys, frame_of_texts, whole_numbers
from interp.tokenization import Lattice

Cuts: TypeAlias = str | int | Sequence[int]
END = "end"


@dataclass(frozen=True)
class Prompt:
    """A prompt whose text is read as bytes.

    Attributes:
        prompt_id: its number.
        before: the ids up to the last special token, which spell no text and are never cut.
        ids: the ids of the text.
        text: what they spell, with the space that a tokenizer may add before it.
        added: how many bytes the tokenizer added, 0 or 1; places count the bytes behind.
    """

    prompt_id: int
    before: tuple[int, ...]
    ids: tuple[int, ...]
    text: bytes
    added: int

    @property
    def n_bytes(self) -> int:
        """The number of the text's own bytes."""
        return len(self.text) - self.added

    def given(self, encoding: tuple[int, ...]) -> tuple[int, ...]:
        """Return the first ids of an encoding that no probability is known of: its first token, if nothing precedes."""
        return () if self.before else encoding[:1]


def read_prompts(tokens: Tokens, lattice: Lattice, texts: Texts) -> list[Prompt]:
    """Return prompts as bytes.

    Args:
        tokens: the prompts.
        lattice: of the tokenizer.
        texts: what the tokens were made of.

    Raises:
        InputError: a tokenizer loses a byte of a text, a prompt holds no text, or holds token ids that its tokenizer
            would not write.
    """
    specials = "|".join(map(re.escape, lattice.tokenizer.all_special_tokens)) or "$^"
    for one in _strings(texts):
        rest = re.split(specials, one)[-1]
        if rest:
            lattice.read(rest)
    found = []
    lengths = lattice.vocabulary.lengths
    for number, tensor in zip(tokens.table["prompt_id"].tolist(), tokens.ids, strict=True):
        ids = tuple(tensor.tolist())
        start = next((at for at in range(len(ids), 0, -1) if not lengths[ids[at - 1]]), 0)
        before, own = ids[:start], ids[start:]
        if not own:
            raise InputError(f"prompt {number} ends with a special token and holds no text behind it; add some.")
        if not lattice.canonical(own):
            raise InputError(f"prompt {number} holds token ids that its tokenizer would not write; give its text.")
        text = lattice.vocabulary.join(own)
        found.append(Prompt(number, before, own, text, int(lattice.adds_space and text[:1] == b" ")))
    return found


def _strings(texts: Texts) -> list[str]:
    """Return texts that were given as such; token ids and chat messages spell what they spell."""
    if isinstance(texts, Tokens):
        return []
    with suppress(InputError):
        return list(frame_of_texts(texts)["text"])
    return []


def check_cuts(cuts: Cuts, *, end: bool) -> None:
    """Refuse cuts that are not "end", a number, or byte places.

    Raises:
        InputError: they are something else, or "end" where a next byte is needed.
    """
    if isinstance(cuts, str):
        if cuts == END and end:
            return
        raise InputError(f"cuts={cuts!r}: give a number of cuts or a list of byte places{', or end' * end}.")
    if isinstance(cuts, int):
        if cuts < 1:
            raise InputError(f"cuts={cuts}: give at least 1.")
        return
    if not len(cuts):
        raise InputError("cuts=[]: give at least one byte place.")
    whole_numbers(cuts, "cuts")


def places(prompts: Sequence[Prompt], lattice: Lattice, cuts: Cuts, *, seed: int, last: bool) -> list[list[int]]:
    """Return the byte places at which each prompt is cut, in order.

    Args:
        prompts: see `read_prompts`.
        lattice: of the tokenizer.
        cuts: "end", a number of places to draw for each prompt, or places for all.
        seed: of the draw, which depends on the prompt's ids too.
        last: whether a prompt may be cut at its end, where nothing of it follows.

    Raises:
        InputError: a place is outside a prompt, inside a character, or leaves nothing that could be cut.
    """
    import torch

    if isinstance(cuts, str):
        return [[_checked(one, lattice, one.n_bytes, last=True)] for one in prompts]
    if not isinstance(cuts, int):
        several = sorted(set(whole_numbers(list(cuts), "cuts")))
        return [[_checked(one, lattice, place, last=last) for place in several] for one in prompts]
    keys = content_keys([torch.tensor(one.ids) for one in prompts], seed)
    return [_drawn(one, lattice, cuts, key, last=last) for one, key in zip(prompts, keys.tolist(), strict=True)]


def _drawn(prompt: Prompt, lattice: Lattice, n: int, key: int, *, last: bool) -> list[int]:
    order = np.random.default_rng(key).permutation(np.arange(1, prompt.n_bytes + last))
    found: list[int] = []
    for place in order.tolist():
        if len(found) < n and not _fault(prompt, lattice, place, last=last):
            found.append(place)
    if not found:
        raise InputError(f"prompt {prompt.prompt_id} has no place to cut; give a longer text, or bos=True.")
    return sorted(found)


def _checked(prompt: Prompt, lattice: Lattice, place: int, *, last: bool) -> int:
    fault = _fault(prompt, lattice, place, last=last)
    if fault:
        raise InputError(f"prompt {prompt.prompt_id} cannot be cut at byte {place}: {fault}.")
    return place


def _fault(prompt: Prompt, lattice: Lattice, place: int, *, last: bool) -> str:
    """Return why a prompt cannot be cut at a place, with the mend; empty if it can."""
    most = prompt.n_bytes - (not last)
    if not 1 <= place <= most:
        return f"give places from 1 to {most}"
    at = place + prompt.added
    if prompt.text[at : at + 1] and prompt.text[at] & 0xC0 == 0x80:
        return "it is inside a character, and no prompt ends there; give another place"
    encodings = lattice.prefixes(prompt.text[:at])
    if not encodings:
        return "the tokenizer does not give that beginning back; give another place"
    if not prompt.before and len(encodings[0]) < 2:
        return "what is before is one token, whose own probability is not known; give a later place, or bos=True"
    return ""
