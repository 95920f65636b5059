"""Draw the variants of prompts, and lay each on the prompt's own tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch

from interp.authoring import InputError, TooLong, UnknownName, content_keys
from interp.tokenization import Pieces, Variant, recut
from interp.tokenization.edits import Edit, edited, original_places, shuffles, typos
from interp.tokenization.python_source import naming, spacing
from interp.tokenization.recutting import FIXED, SAME_BYTES, changed, common_cuts, ends_of, replaced
from probes.tokenization._prompts import Prompt

CANONICAL, RANDOM_TOKEN = "canonical", "random_token"
REWRITES: dict[str, Callable[[str, float, np.random.Generator], list[Edit]]] = {
    "typo": typos,
    "shuffle": shuffles,
    "spacing": spacing,
    "naming": naming,
}
"""Schemes that change the text: typing errors, permuted letters, and Python source of an equal syntax tree."""
SCHEMES = (*SAME_BYTES, *REWRITES)


@dataclass(frozen=True)
class Laid:
    """A variant of a prompt, laid on the prompt's own tokens.

    Attributes:
        prompt: the prompt.
        ids: tokens of the variant, with the special tokens before them.
        scheme: what was done.
        number: of the draw.
        control: "none", "random_token", or "canonical" for the prompt itself.
        n_noncanonical: tokens that the tokenizer would not write after those before.
        n_changed: tokens of the prompt that the variant does not have.
        own: the common cuts as places in the prompt, special tokens included, int64 [n].
        here: the same places in the variant, int64 [n].
        first: the first of these cuts that lies behind a change.
        starts: the first token whose loss counts, in the prompt and in the variant: the text's own first one, or if
            nothing precedes that, the first behind a common cut.
        n_bytes: bytes of the prompt from there to the last common cut.
    """

    prompt: Prompt
    ids: tuple[int, ...]
    scheme: str
    number: int
    control: str
    n_noncanonical: int
    n_changed: int
    own: np.ndarray
    here: np.ndarray
    first: int
    starts: tuple[int, int]
    n_bytes: int

    @property
    def n_tokens(self) -> int:
        """The tokens of the text."""
        return len(self.ids) - len(self.prompt.before)


def check_schemes(schemes: Sequence[str], p: float, known: Sequence[str] = SCHEMES) -> list[str]:
    """Return the schemes that were asked for.

    Raises:
        InputError: there is none, one is named twice, or p is not a share.
        UnknownName: one is not known.
    """
    chosen = list(schemes)
    for one in chosen:
        if one not in known:
            raise UnknownName("scheme", one, known)
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"schemes={chosen!r}: name at least one, each once.")
    if not 0 < p <= 1:
        raise InputError(f"p={p}: give a share above 0 and up to 1.")
    return chosen


def keys_of(prompts: Sequence[Prompt], seed: int) -> list[int]:
    """Return a number for each prompt that its tokens and the seed decide."""
    return content_keys([torch.tensor(one.ids) for one in prompts], seed).tolist()  # type: ignore[no-any-return]


def draws(key: int, scheme: str, number: int) -> np.random.Generator:
    """Return the random numbers of one draw of a scheme on one prompt."""
    of_scheme = int.from_bytes(blake2b(scheme.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng([key, of_scheme, number])


def drawn(pieces: Pieces, prompt: Prompt, scheme: str, key: int, number: int, p: float) -> Variant:
    """Return the variant of a prompt at one draw.

    Raises:
        InputError: nothing of the prompt can be cut otherwise.
    """
    if scheme in REWRITES:
        return _rewritten(pieces, prompt, scheme, draws(key, scheme, number), p)
    if not any(map(pieces.splits, prompt.ids)):
        raise InputError(
            f"prompt {prompt.prompt_id} has no token that two others spell, so it has no other cut; leave it out."
        )
    return recut(pieces, prompt.ids, scheme, draws(key, scheme, number), p=p)


def _rewritten(pieces: Pieces, prompt: Prompt, scheme: str, generator: np.random.Generator, p: float) -> Variant:
    added, text = prompt.text[: prompt.added], prompt.text[prompt.added :].decode(errors="replace")
    edits = REWRITES[scheme](text, p, generator)
    ids = pieces.lattice.encode(added + edited(text, edits).encode())
    places = original_places(text, edits)
    ends = ends_of(pieces, ids) - len(added)
    ends = np.where(places[ends] < 0, -1, places[ends] + len(added))
    return Variant(tuple(ids), ends, scheme, same_bytes=False)


def random_tokens(
    pieces: Pieces, prompt: Prompt, variant: Variant, key: int, number: int, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the tokens of a prompt that a variant changed, and the prompt with random ones there.

    With `allowed`, bool [d_vocab], other tokens are not drawn.
    """
    places = changed(prompt.ids, ends_of(pieces, prompt.ids), variant)
    generator = draws(key, f"{variant.scheme} {RANDOM_TOKEN}", number)
    return places, replaced(pieces, prompt.ids, places.tolist(), generator, allowed)


def laid_out(
    pieces: Pieces,
    prompt: Prompt,
    key: int,
    schemes: Sequence[str],
    n_variants: int,
    p: float,
    *,
    n_ctx: int,
    allowed: np.ndarray | None = None,
) -> Iterator[Laid]:
    """Yield a prompt itself, and each variant of it followed by its control.

    Raises:
        TooLong: a variant is longer than the context.
    """
    ends = ends_of(pieces, prompt.ids)
    itself = Variant(prompt.ids, ends, CANONICAL)
    yield _laid(pieces, prompt, itself, 0, CANONICAL, ends, np.empty(0, dtype=np.int64))
    for scheme in schemes:
        for number in range(1 if scheme in FIXED else n_variants):
            variant = drawn(pieces, prompt, scheme, key, number, p)
            places, others = random_tokens(pieces, prompt, variant, key, number, allowed)
            made = _laid(pieces, prompt, variant, number, "none", ends, places)
            check_length(made.ids, prompt, scheme, n_ctx)
            yield made
            yield Laid(
                prompt,
                prompt.before + others,
                scheme,
                number,
                RANDOM_TOKEN,
                pieces.lattice.noncanonical_pairs(others),
                len(places),
                made.own,  # read at the same places as the variant that it is the control of
                made.own,
                made.first,
                (made.starts[0], made.starts[0]),
                made.n_bytes,
            )


def check_length(ids: Sequence[int], prompt: Prompt, scheme: str, n_ctx: int) -> None:
    """Refuse a variant that is longer than the context.

    Raises:
        TooLong: it is.
    """
    if len(ids) > n_ctx:
        raise TooLong(
            f"prompt {prompt.prompt_id} cut by {scheme!r} has {len(ids)} tokens, and the model takes {n_ctx}; shorten "
            "it, or leave the scheme out."
        )


def _laid(
    pieces: Pieces,
    prompt: Prompt,
    variant: Variant,
    number: int,
    control: str,
    ends: np.ndarray,
    places: np.ndarray,
) -> Laid:
    own, here = common_cuts(ends, variant.ends)
    first = int(np.searchsorted(own, places[0])) if len(places) else 0  # before, all is equal
    n_before = len(prompt.before)
    return Laid(
        prompt,
        prompt.before + variant.ids,
        variant.scheme,
        number,
        control,
        pieces.lattice.noncanonical_pairs(variant.ids),
        len(places),
        own + n_before,
        here + n_before,
        min(first, len(own) - 1),
        (n_before, n_before) if n_before else (int(own[0]) + 1, int(here[0]) + 1),
        int(ends[own[-1]] - (0 if n_before else ends[own[0]])),
    )
