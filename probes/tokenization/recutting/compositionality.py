"""Ask whether the row of a token is the sum of the rows of its parts (compositionality, after Chai et al. 2024).

All rows of an embedding share a mean, which makes any two sums similar: cosines are of rows without it. Random parts
are the control, and parts of which the first alone is right.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import VOCABULARY, Column, InputError, Run, Schema, Source, columns, load, probe
from interp.model.weights import require_one_vocabulary
from interp.stats import bootstrap_over_prompts
from interp.tokenization import Pieces, lattice_of
from probes import papers
from probes.tokenization.recutting import plots

Where: TypeAlias = Literal["embedding", "unembedding"]

COMPOSITIONALITY = Schema(
    probe="compositionality",
    paper=papers.SUBWORD_ROBUSTNESS,
    rows="one per token and control",
    columns=columns(
        *("model", "run_id", "token_id", "token"),
        Column("first_id", "int", "its first part", low=0),
        Column("first", "str", "`first_id` as text"),
        Column("second_id", "int", "its second part", low=0),
        Column("second", "str", "`second_id` as text"),
        VOCABULARY["control"].with_(
            meaning="'none' for its own parts, 'same_first' for a random second one, 'random_parts' for two random ones"
        ),
        Column("cosine", "float", "of its row with the sum of the parts', without the mean row", low=-1.0, high=1.0),
        Column("cosine_raw", "float", "the same with the mean, which all rows share", low=-1.0, high=1.0),
    ),
)


def _summarise(frame: pd.DataFrame, **options: object) -> pd.DataFrame:
    """Average over tokens, with 95 % bootstrap intervals."""
    each = frame.rename(columns={"token_id": "prompt_id"})
    found = bootstrap_over_prompts(each, ["model", "run_id", "control"], ["cosine", "cosine_raw"], **options)  # type: ignore[arg-type]
    return found.rename(columns={"n_prompts": "n_tokens"})


@probe(COMPOSITIONALITY, plot=plots.compositionality, summarise=_summarise)
def compositionality(
    subject: Source, *, where: Where = "embedding", n_pairs: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Compare the rows of tokens that two others spell with the sums of these two's rows.

    Args:
        subject: anything `interp.load` takes, with a tokenizer.
        where: the rows of the "embedding" or the "unembedding".
        n_pairs: tokens to draw among those that can be cut in two, each with one of its cuts; all, if there are fewer.
        seed: of the draws.

    Returns:
        One row per token and control, by token; the summary averages over tokens.

    Raises:
        InputError: the model came without a tokenizer, or no token can be cut in two.

    Cost: no forward pass.

    Pitfall: all rows share a mean, which makes the raw cosines large for random parts too.

    >>> frame = compositionality("reference", n_pairs=500)
    >>> frame.interp.summary()[["control", "cosine"]].round(2).values.tolist()
    [['none', 0.15], ['random_parts', -0.01], ['same_first', 0.1]]
    """
    if n_pairs < 1:
        raise InputError(f"n_pairs={n_pairs}: give at least 1.")
    subject = load(subject)
    require_one_vocabulary(subject, "compositionality")
    run = Run(COMPOSITIONALITY, subject, None, parameters={"where": where, "n_pairs": n_pairs}, seed=seed)
    pieces = Pieces(lattice_of(subject))
    generator = np.random.default_rng(seed)
    pool = pieces.lattice.vocabulary.order
    drawn: list[tuple[int, int, int]] = []
    for index in generator.permutation(pool).tolist():
        pairs = pieces.splits(index)
        if pairs:
            drawn.append((index, *pairs[int(generator.integers(len(pairs)))]))
        if len(drawn) == n_pairs:
            break
    if not drawn:
        raise InputError(
            f"no token of {subject.name!r} is spelt by two others, so none can be compared with its parts."
        )
    token, first, second = np.array(sorted(drawn)).T
    others = generator.choice(pool, (3, len(token)))
    table = subject.W_E if where == "embedding" else subject.W_U.T
    known = torch.from_numpy(np.sort(pool)).to(table.device)
    mean = table[known].double().mean(dim=0)
    parts = {"none": (first, second), "same_first": (first, others[0]), "random_parts": (others[1], others[2])}
    return run.frame(
        {
            "token_id": token,
            "first_id": one,
            "second_id": two,
            "control": control,
            "cosine": _cosine(table, token, one, two, mean),
            "cosine_raw": _cosine(table, token, one, two, torch.zeros_like(mean)),
        }
        for control, (one, two) in parts.items()
    )


def _cosine(table: Tensor, token: np.ndarray, first: np.ndarray, second: np.ndarray, mean: Tensor) -> np.ndarray:
    """Return the cosine of tokens' rows with the sums of two others', all without a mean, float64 [n]."""
    one, two, three = (table[torch.from_numpy(ids).to(table.device)].double() - mean for ids in (token, first, second))
    cosine: np.ndarray = torch.cosine_similarity(one, two + three, dim=1).clamp(-1, 1).cpu().numpy()
    return cosine
