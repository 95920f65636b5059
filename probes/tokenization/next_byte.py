"""Ask what the model says about the next byte of a prompt that may end inside a token.

The exact distribution counts every canonical way to write the prompt so far (Phan et al., arXiv 2410.09303). Beside it
stand the usual one, which takes the prompt's own tokens as they are, and that of token healing, which takes the last of
them back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from interp.authoring import VOCABULARY, Column, InputError, Run, Schema, Source, Texts, columns, load, probe
from interp.tokenization import lattice_of
from probes import papers
from probes.tokenization import plots
from probes.tokenization._contexts import Contexts
from probes.tokenization._covers import END_OF_TEXT, Cut, Distribution
from probes.tokenization._prompts import END, Cuts, check_cuts, places, read_prompts

Healing: TypeAlias = bool | Literal["token", "pretoken"]
"""The part taken back before a prompt is healed: True and "token", its last token; "pretoken", its last word."""

CUT = Column("cut", "int", "bytes of the prompt before the cut, without a space that the tokenizer adds", low=1)
METHOD = VOCABULARY["method"].with_(meaning="exact: by all covers; naive: after the prompt's tokens; healed: one back")
RANK = VOCABULARY["rank"].with_(meaning="bytes of strictly higher probability; 0 is the most probable", missing=False)

NEXT_BYTE = Schema(
    probe="next_byte",
    paper=papers.EXACT_BYTES,
    rows="one per prompt, cut, method and next byte of some probability, and one for the end of the text",
    columns=columns(
        *("model", "run_id", "prompt_id"),
        CUT,
        Column("byte", "id", "the next byte; missing for the end of the text", low=0, high=255, missing=True),
        Column("text", "str", "the byte as it reads: a character, 0xHH for part of one, <end>"),
        METHOD,
        "prob",
        VOCABULARY["log_prob"].with_(meaning="log-probability of the byte", missing=False),
        RANK,
    ),
    summary_by=("cut", "method", "text"),
    summary_of=("prob",),
)


@probe(NEXT_BYTE, plot=plots.next_byte)
def next_byte(
    subject: Source,
    texts: Texts,
    *,
    cuts: Cuts = END,
    top_k: int | None = None,
    seed: int = 0,
    bos: bool | None = None,
    truncate: bool = False,
) -> pd.DataFrame:
    """Predict the next byte after a prompt exactly, whatever its cut into tokens; beside it the usual way and healing.

    Args:
        subject: anything `interp.load` takes, with a tokenizer.
        texts: anything `Subject.tokens` takes. Special tokens are left whole, and what follows the last is read as
            bytes.
        cuts: where prompts end: "end", as they are given; a number of byte places to draw for each; or places, which
            count the bytes before.
        top_k: keep so many of the most probable bytes of each method; None keeps all of some probability.
        seed: of the draw of places.
        bos: see `Subject.tokens`. Where a prompt begins with no special token, its first token is taken as given.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, cut, method and next byte. Probabilities of a method sum to 1; of the exact one the share
        that `tokenization_bias` calls `lost` was left out.

    Raises:
        InputError: the tokenizer loses a byte of a text or has none for its tokens, or a cut cannot be made.
        TooLong: a text fills the context.

    Cost: a forward pass over the prompt and the other ways to begin its last word, and an unembedding for each
    beginning after which a token could stand that passes the cut, about seven.

    Pitfall: a byte is not a character: outside ASCII the next one may be part of a letter.

    >>> frame = next_byte("reference", ["Once upon a ti"], top_k=1)
    >>> [(method, text, round(prob, 2)) for method, text, prob in frame[["method", "text", "prob"]].values]
    [('exact', 'm', 1.0), ('naive', ' ', 0.55), ('healed', 'p', 0.45)]
    """
    check_cuts(cuts, end=True)
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k={top_k}: give at least 1, or None for all.")
    subject = load(subject)
    parameters = {"cuts": cuts, "top_k": top_k}
    run = Run(NEXT_BYTE, subject, subject.tokens(texts, bos=bos, truncate=truncate), parameters=parameters, seed=seed)
    lattice = lattice_of(subject)
    prompts = read_prompts(run.tokens, lattice, texts)
    contexts = Contexts()
    chosen = places(prompts, lattice, cuts, seed=seed, last=True)
    made = [Cut(lattice, one, place, contexts) for one, at in zip(prompts, chosen, strict=True) for place in at]
    contexts.read(run)
    return run.frame([part for cut in made for part in _rows(cut, top_k)])


def _rows(cut: Cut, top_k: int | None) -> Iterator[dict[str, Any]]:
    for method, found in methods(cut).items():
        order = np.argsort(-found.prob, kind="stable")[:top_k]
        order = order[found.prob[order] > 0]
        yield {
            "prompt_id": np.full(len(order), cut.prompt.prompt_id),
            "cut": cut.place,
            "byte": np.where(order == END_OF_TEXT, -1, order),
            "text": np.array([name_of(one) for one in order.tolist()], dtype=object),
            "method": method,
            "prob": np.minimum(1.0, found.prob[order]),
            "log_prob": np.log(np.minimum(1.0, found.prob[order])),
            "rank": np.searchsorted(-found.prob[order], -found.prob[order]),
        }


def methods(cut: Cut, *, healing: Healing = True) -> dict[str, Distribution]:
    """Return the distributions of a cut by method."""
    found = {"exact": cut.exact(), "naive": cut.naive()}
    name = "aligned" if healing == "pretoken" else "healed"
    healed = None if healing is False else cut.aligned() if healing == "pretoken" else cut.healed()
    return found if healed is None else found | {name: healed}


def name_of(outcome: int) -> str:
    """Return a byte as it reads.

    >>> name_of(65), name_of(0xE2), name_of(256)
    ('A', '0xE2', '<end>')
    """
    if outcome == END_OF_TEXT:
        return "<end>"
    return chr(outcome) if outcome < 0x80 else f"0x{outcome:02X}"
