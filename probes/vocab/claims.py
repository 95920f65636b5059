"""Claims about under-trained tokens, of Land and Bartolo (2024), and about the loss of rare tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from interp.authoring import InputError, Subject, concat
from interp.findings import Claim, Comparison, NotApplicable
from interp.findings.per_prompt import SHARE, STORIES
from probes import papers
from probes.vocab._categories import categories
from probes.vocab._directions import reference_rows, suspects
from probes.vocab.loss_by_frequency import loss_by_frequency
from probes.vocab.token_health import token_health
from probes.vocab.token_repetition import BOUNDS, token_repetition

_TOKENS, _FEWEST = 150, 20
_PARTS = 12


def lowest_directions(subject: Subject, *, seed: int) -> pd.DataFrame:
    """Ask for the ordinary tokens nearest to the reference direction, and for as many at random."""
    known = suspects(subject)
    return _asked(subject, np.where(known.ordinary, known.direction, np.inf), int(known.ordinary.sum()), seed)


def lowest_norms(subject: Subject, *, seed: int) -> pd.DataFrame:
    """Ask for the ordinary tokens of the shortest embeddings, and for as many at random."""
    ordinary = suspects(subject).ordinary
    norm = subject.W_E.float().norm(dim=1).cpu().numpy()
    return _asked(subject, np.where(ordinary, norm, np.inf), int(ordinary.sum()), seed)


def _asked(subject: Subject, indicator: np.ndarray, n_ordinary: int, seed: int) -> pd.DataFrame:
    n = min(_TOKENS, n_ordinary // 50)  # the lowest 2 %, as candidates are
    if n < _FEWEST:
        raise NotApplicable(f"2 % of its {n_ordinary} ordinary tokens are {n}, and {_FEWEST} are needed")
    lowest = np.argsort(indicator, kind="stable")[:n]
    return token_repetition(subject, token_ids=lowest.tolist(), n_random=n, seed=seed)


def hardly_learned(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return for each candidate whether it is hardly learned (1 or 0), and the same for random tokens."""
    tokens = frame.drop_duplicates(["control", "token_id"])
    found = tokens["verdict"].isin(list(BOUNDS)[:2]).astype(float).groupby(tokens["control"])
    candidates, others = (found.get_group(control).reset_index(drop=True) for control in ("none", "random"))
    return candidates, others  # a pair is a candidate and a random token: the two samples are independent


def half_held_out(subject: Subject, *, seed: int) -> pd.DataFrame:
    """Find directions by half of the unused rows; `held_out` marks the other half."""
    table = categories(subject)
    try:
        rows, _ = reference_rows(subject, table, "unused")
    except InputError as error:
        raise NotApplicable("its vocabulary has no unused rows") from error
    if len(rows) < 2 * _FEWEST:
        raise NotApplicable(f"its vocabulary has {len(rows)} unused rows, and {2 * _FEWEST} are needed")
    mixed = np.random.default_rng(seed).permutation(rows)
    known, held_out = mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]
    one_token = torch.zeros(1, 1, dtype=torch.int64)  # the direction needs no text
    frame = token_health(subject, one_token, reference=known.tolist(), indicators=["direction"])
    return frame.assign(held_out=frame["token_id"].isin(held_out))


def above_held_out(frame: pd.DataFrame) -> pd.Series:
    """Return for each held-out row the share of ordinary tokens with a larger direction; their mean is the AUROC."""
    others = np.sort(frame.loc[(frame["category"] == "ok") & ~frame["held_out"], "direction"])
    held_out = frame.loc[frame["held_out"], "direction"]
    below, at = (np.searchsorted(others, held_out, side=side) for side in ("left", "right"))
    return pd.Series(1 - (below + at) / 2 / len(others), index=held_out.index)


def loss_of_parts(subject: Subject, texts: pd.DataFrame, *, truncate: bool) -> pd.DataFrame:
    """Measure the loss by frequency in each of twelve parts of the texts, with the counts of all; see `part`."""
    ids = subject.tokens(texts, truncate=truncate).ids
    counts = np.bincount(torch.cat([one[1:] for one in ids]).numpy(), minlength=subject.d_vocab).astype(float)
    frames = []
    for part in range(_PARTS):
        some = texts.iloc[part::_PARTS]
        frame = loss_by_frequency(subject, some, counts=counts.tolist(), n_bins=5, match="targets", truncate=truncate)
        frames.append(frame.assign(part=part))
    return concat(frames)


def gap_of_rare(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return how far the model is below the loss of the frequencies alone, nats, for the rarest and commonest fifth."""
    model = frame[frame["control"] == "none"].sort_values("bin")
    gap = (model["unigram_loss"] - model["loss"]).groupby(model["part"])
    return gap.first(), gap.last()


def _repeated(id: str, statement: str, says: str, measure: Any, note: str) -> Claim:
    return Claim(
        id=f"tokens.{id}",
        statement=statement,
        paper=papers.UNDERTRAINED_TOKENS,
        says=says,
        probe="token_repetition",
        measure=measure,
        statistic=hardly_learned,
        comparison=Comparison(above="control"),
        bounds=SHARE,
        unit="tokens",
        note=note + "The 150 lowest tokens, or the lowest 2 %, against as many at random; hardly learned is a largest "
        "probability below .01 after two prompts. Tokens of one model are not independent draws.",
    )


CLAIMS = (
    _repeated(
        "direction",
        "tokens near the direction of untrained ones are hardly learned more often than random ones",
        "Tokens whose row of the unembedding is near that of tokens that cannot have been trained cannot be repeated: "
        "of the most suspicious 2 %, a few to most have a probability below .01, by the model. The paper has no "
        "control; here it is random tokens.",
        lowest_directions,
        "",
    ),
    _repeated(
        "norm",
        "tokens of the shortest embeddings are hardly learned more often than random ones",
        "In models with untied embeddings the norm of the embedding tells which tokens are under-trained. That "
        "outlying norms mark glitch tokens is a common belief about all models. The control is random tokens.",
        lowest_norms,
        "The paper uses the norm for models with untied embeddings only. ",
    ),
    Claim(
        id="tokens.held_out",
        statement="unused rows are found by the direction of others (AUROC >= 0.95)",
        paper=papers.UNDERTRAINED_TOKENS,
        says="Rows of tokens that never occur share a direction, by which others like them are found. The paper shows "
        "it by verified tokens; here half of the unused rows are held out, and ordinary tokens are the control.",
        probe="token_health",
        measure=half_held_out,
        statistic=above_held_out,
        comparison=Comparison(at_least=0.95),
        bounds=SHARE,
        unit="held-out rows",
        note="Only where the vocabulary has unused rows. Some ordinary tokens are under-trained too, which lowers it.",
    ),
    Claim(
        id="tokens.rare",
        statement="the gap between the model's loss and that of the frequencies is smaller for rare tokens",
        paper=papers.FREQUENCY_LOSS,
        says="Weight decay raises the loss of rare tokens long before the average shows it. That is about training; "
        "of one model it can be asked how far it is below the loss of the frequencies alone where tokens are rare. The "
        "control is common tokens.",
        probe="loss_by_frequency",
        measure=loss_of_parts,
        texts=STORIES,
        n_texts=96,
        statistic=gap_of_rare,
        comparison=Comparison(below="control"),
        unit="parts of the corpus",
        note="The gap in nats of the rarest and of the commonest fifth of positions, in twelve parts of the stories; "
        "counts are those of the stories themselves. The loss of the frequencies is larger for rare tokens, which "
        "leaves more to gain there.",
    ),
)
