"""The kind of token in each row of the vocabulary."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.authoring import Column, InputError, Run, Schema, Source, columns
from interp.authoring import probe as mark_probe
from interp.model.weights import require_one_vocabulary
from probes import papers
from probes.vocab import plots
from probes.vocab._words import Letters, alphabet, kinds_of_tokens

VOCABULARY_SCHEMA = Schema(
    probe="vocabulary",
    paper=papers.CHARACTERS,
    rows="one per row of the embedding",
    columns=columns(
        "model",
        "run_id",
        "token_id",
        "token",
        Column("kind", "str", "word; single_letter; other (not a word); special; unused (no token: padding rows)"),
        Column("word", "str", "the token without the space around it; empty if it is not a word"),
        Column("norm", "float", "norm of its embedding", low=0.0),
    ),
)


def _count_kinds(frame: pd.DataFrame) -> pd.DataFrame:
    """Count the rows of each kind."""
    return frame.groupby(["model", "run_id", "kind"], sort=True).agg(n_tokens=("token_id", "size")).reset_index()


@mark_probe(VOCABULARY_SCHEMA, plot=plots.vocabulary, summarise=_count_kinds)
def vocabulary(subject: Source, *, letters: Letters = "ascii") -> pd.DataFrame:
    """Classify every row of the vocabulary: the words that `character_content` asks about, and all other tokens.

    The norm does not tell which tokens were hardly learned, see `token_health`.

    Args:
        subject: anything `interp.load` takes.
        letters: see `character_content`.

    Returns:
        One row per token; `.interp.summary()` counts them by kind.

    Raises:
        InputError: the alphabet is unknown or has no words and no letters here, or the model came without a tokenizer.
        ModelError: the model embeds other tokens than it predicts.

    Cost: no forward pass.

    Pitfall: a word here is a token of letters of one script; it need not be a word of any language.

    >>> frame = vocabulary("reference")
    >>> frame.interp.summary()[["kind", "n_tokens"]].values.tolist()
    [['other', 280], ['single_letter', 102], ['special', 1], ['word', 7809]]
    """
    run = Run(VOCABULARY_SCHEMA, subject, None, parameters={"letters": letters})
    require_one_vocabulary(run.subject, "vocabulary")
    kind, words = kinds_of_tokens(run.subject, alphabet(letters).word)
    norms = run.subject.W_E.float().norm(dim=1).double().cpu().numpy()
    # A character-level model has words of one letter only.
    if not np.isin(kind, ("word", "single_letter")).any():
        raise InputError(
            f"no token of {run.subject.name!r} is a word or a letter of {letters!r}; choose another alphabet."
        )
    part = {"token_id": np.arange(len(kind)), "kind": kind, "word": words, "norm": norms}
    return run.frame([part])
