"""Change the first half of a text, and measure the loss of its clean second half.

After the typing errors and permutations of Chai et al. (2024). The noise itself is not scored. The control replaces the
tokens at the same places by random ones: whole words of the text are then lost, not spelt badly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from interp.authoring import (
    VOCABULARY,
    Column,
    InputError,
    Run,
    Schema,
    Source,
    Texts,
    columns,
    load,
    probe,
    say_cost,
)
from interp.tokenization import Pieces, Variant, lattice_of
from interp.tokenization.edits import Edit, edited, original_places, shuffles, typos
from interp.tokenization.recutting import changed, ends_of, replaced
from probes import papers
from probes.tokenization._prompts import Prompt, read_prompts
from probes.tokenization.recutting import plots
from probes.tokenization.recutting._comparison import STATES_PER_LAYER, compared
from probes.tokenization.recutting._variants import RANDOM_TOKEN, Laid, check_length, check_schemes, draws, keys_of

EDITS = {"typo": typos, "shuffle": shuffles}

PERTURBATION = Schema(
    probe="perturbation",
    paper=papers.SUBWORD_ROBUSTNESS,
    rows="one per prompt, scheme, share and control",
    columns=columns(
        *("model", "run_id", "prompt_id"),
        Column("scheme", "str", "what was done to the first half: typo or shuffle"),
        Column("p", "float", "share of its letters, or of its groups of letters", "0..1", low=0.0, high=1.0),
        VOCABULARY["control"].with_(meaning="'none' for the change, 'random_token' for random tokens where it was"),
        Column("n_edits", "int", "changes of the first half", low=0),
        Column("n_changed", "int", "tokens of the first half that it does not have any more", low=0),
        Column("loss_suffix", "float", "loss of the second half, which is clean", "nats per byte", low=0.0),
        Column("lost", "float", "that without the loss of the second half after the clean first", "nats per byte"),
        VOCABULARY["kl"].with_(meaning="KL(next token after the clean text || after the changed one)"),
        Column("same_top1", "bool", "whether the most probable next token is the same"),
    ),
    summary_by=("scheme", "p", "control"),
    summary_of=("lost", "loss_suffix", "kl", "same_top1", "n_edits"),
)


@probe(PERTURBATION, plot=plots.perturbation)
def perturbation(
    subject: Source,
    texts: Texts,
    *,
    schemes: Sequence[str] = ("typo", "shuffle"),
    p: Sequence[float] = (0.05, 0.1, 0.2),
    seed: int = 0,
    bos: bool | None = None,
    truncate: bool = False,
) -> pd.DataFrame:
    """Put typing errors into the first half of a text, and measure the loss of its clean second half.

    Args:
        subject: anything `interp.load` takes, with a tokenizer.
        texts: anything `Subject.tokens` takes; what follows the last special token is halved, where a word begins.
        schemes: "typo" (a letter is inserted, left out, replaced or swapped with the next) and "shuffle" (groups of
            three letters inside words are permuted).
        p: shares of the first half's letters, or groups, to change; 0 changes none.
        seed: of the draws, which depend on the prompt's tokens too, and on no other prompt.
        bos: see `Subject.tokens`.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, scheme, share and control. The second half has the same tokens in all.

    Raises:
        InputError: a scheme or share cannot be used, a text has no second word, or the tokenizer loses a byte of it.
        TooLong: a changed text is longer than the context.

    Cost: a forward pass of the text for each row.

    Pitfall: what is changed just before the second half costs most, so compare means over several texts.

    >>> texts = ["Once upon a time there was a little girl. She lived in a big house with a red door."]
    >>> frame = perturbation("reference", texts, schemes=("typo",), p=(0.2,))
    >>> frame[["control", "n_edits", "lost"]].round(2).values.tolist()
    [['none', 6, 0.13], ['random_token', 6, 0.1]]
    """
    chosen, shares = _checked(schemes, p)
    subject = load(subject)
    tokens = subject.tokens(texts, bos=bos, truncate=truncate)
    run = Run(PERTURBATION, subject, tokens, parameters={"schemes": chosen, "p": shares}, seed=seed)
    pieces = Pieces(lattice_of(subject))
    prompts = read_prompts(tokens, pieces.lattice, texts)
    made = [
        list(_changed_halves(pieces, one, key, chosen, shares, subject.n_ctx))
        for one, key in zip(prompts, keys_of(prompts, seed), strict=True)
    ]
    of = {id(laid): (share, n_edits) for several in made for laid, share, n_edits in several}
    places = {one: place for place, one in enumerate(of)}
    n_tokens = sum(len(laid.ids) for several in made for laid, _, _ in several)
    say_cost(run, passes=1 + n_tokens / sum(map(len, tokens.ids)), unembedded=n_tokens)
    found = [
        one
        for batch in run.batches(STATES_PER_LAYER)
        for one in compared(
            subject,
            batch,
            [[laid for laid, _, _ in made[index]] for index in batch.prompts.tolist()],
            [subject.n_layers],
        )
    ]
    return run.frame(
        [
            {
                "prompt_id": one.laid.prompt.prompt_id,
                "scheme": one.laid.scheme,
                "p": of[id(one.laid)][0],
                "control": one.laid.control,
                "n_edits": of[id(one.laid)][1],
                "n_changed": one.laid.n_changed,
                "loss_suffix": max(0.0, -one.log_prob / one.laid.n_bytes),
                "lost": one.lost,
                "kl": one.kl,
                "same_top1": one.same_top1,
            }
            for one in sorted(found, key=lambda one: places[id(one.laid)])
        ]
    )


def _checked(schemes: Sequence[str], p: Sequence[float]) -> tuple[list[str], list[float]]:
    chosen, shares = check_schemes(schemes, 1.0, tuple(EDITS)), list(p)
    for share in shares:
        if not 0 <= share <= 1:
            raise InputError(f"p={shares}: give shares from 0 to 1.")
    if not shares or len(set(shares)) < len(shares):
        raise InputError(f"p={shares}: give at least one share, each once.")
    return chosen, shares


def _changed_halves(
    pieces: Pieces, prompt: Prompt, key: int, schemes: Sequence[str], shares: Sequence[float], n_ctx: int
) -> Iterator[tuple[Laid, float, int]]:
    """Yield the changed prompts and their controls, each with its share and number of edits."""
    half = _half(pieces, prompt)
    ids, rest = prompt.ids[:half], prompt.ids[half:]
    ends = ends_of(pieces, ids)
    added, text = prompt.text[: prompt.added], prompt.text[prompt.added : ends[-1]].decode()
    for scheme in schemes:
        for share in shares:
            generator = draws(key, f"{scheme} {share}", 0)
            edits: list[Edit] = EDITS[scheme](text, share, generator)
            first = tuple(pieces.lattice.encode(added + edited(text, edits).encode()))
            places = original_places(text, edits)[ends_of(pieces, first) - len(added)]
            variant = Variant(first, np.where(places < 0, -1, places + len(added)), scheme, same_bytes=False)
            if not edits:
                variant = Variant(ids, ends, scheme)
            gone = changed(ids, ends, variant)
            yield _laid(prompt, variant.ids, rest, half, scheme, "none", len(gone), pieces, n_ctx), share, len(edits)
            others = replaced(pieces, ids, gone.tolist(), generator)
            control = _laid(prompt, others, rest, half, scheme, RANDOM_TOKEN, len(gone), pieces, n_ctx)
            yield control, share, len(edits)


def _laid(
    prompt: Prompt,
    first: tuple[int, ...],
    rest: tuple[int, ...],
    half: int,
    scheme: str,
    control: str,
    n_changed: int,
    pieces: Pieces,
    n_ctx: int,
) -> Laid:
    whole = prompt.before + first + rest
    check_length(whole, prompt, scheme, n_ctx)
    n_before = len(prompt.before)
    start, own_start = n_before + len(first), n_before + half
    n_bytes = int(pieces.lattice.vocabulary.lengths[list(rest)].sum())
    own, here = own_start + np.arange(len(rest)), start + np.arange(len(rest))
    return Laid(prompt, whole, scheme, 0, control, 0, n_changed, own, here, 0, (own_start, start), n_bytes)


def _half(pieces: Pieces, prompt: Prompt) -> int:
    """Return the token with which the second half begins: that nearest to the middle with which a word does.

    Raises:
        InputError: no second word begins with a token.
    """
    spelt = pieces.lattice.vocabulary.spelt
    begins = [at for at in range(1, len(prompt.ids)) if (spelt[prompt.ids[at]] or b"")[:1].isspace()]
    if not begins:
        raise InputError(f"prompt {prompt.prompt_id} has no second word whose loss could be measured; leave it out.")
    return min(begins, key=lambda at: abs(at - len(prompt.ids) / 2))
