"""Claims about clouds of vectors: rows of the embedding, common and rare ones, and the tokens of a prompt."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.authoring import InputError, Subject
from interp.findings import Claim, Comparison, NotApplicable
from interp.findings.per_prompt import SHARE, STORIES
from interp.stats import pseudo_values
from interp.stats.clouds import CloudSums
from interp.stats.correlation import rank_correlation
from interp.stats.neighbours import distinct_rows
from probes import papers
from probes.geometry.clouds._clouds import weight_rows
from probes.geometry.clouds.local_dimension import local_dimension
from probes.geometry.clouds.prompt_geometry import prompt_geometry

_SURE = 1e-3
_LENGTH, _N_PROMPTS, _FEWEST = 97, 120, 12
"""Tokens of a prompt, its first included: clouds of unlike numbers of points cannot be compared. And prompts."""
_SCALE = 2  # neighbours 2 and 4, as in the paper's figures
_PARTS = 12  # of a group of rows, left out in turn
_COMMON, _RARE = 0.3, 0.2  # shares of the tokens seen: the most and the least frequent ones


def breaks_of_rows(subject: Subject, *, seed: int) -> pd.DataFrame:
    """Test 300 rows of the embedding, and as many points of a Gaussian cloud of the same covariance.

    Raises:
        NotApplicable: the vocabulary is too small to have 200 neighbours for each.
    """
    try:
        return local_dimension(subject, controls=("gaussian",), seed=seed)
    except InputError as error:
        raise NotApplicable(str(error).rstrip(".")) from error


def increases(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return whether each point breaks to a larger dimension (1 or 0), and the same of the Gaussian cloud's points."""
    found = [frame.loc[frame["control"] == control, "p_increase"] < _SURE for control in ("none", "gaussian")]
    own, control = (one.astype(float).set_axis(np.arange(len(one))) for one in found)
    return own, control  # a pair is a row and a Gaussian point: the two samples are independent


def clouds_of_stories(subject: Subject, texts: pd.DataFrame, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Measure the clouds of stories of equal length, at half of the depth and in its last quarter.

    Raises:
        NotApplicable: too few stories are so long for this model, or it has fewer than four blocks.
    """
    depth = subject.n_layers
    if depth < 4:
        raise NotApplicable(f"the model has {depth} blocks; test one of four or more, with middle and last ones.")
    found = subject.tokens(texts, truncate=truncate)
    long = [ids[:_LENGTH] for ids in found.ids if len(ids) >= _LENGTH][:_N_PROMPTS]
    if len(long) < _FEWEST:
        raise NotApplicable(f"{len(long)} stories have {_LENGTH} tokens in {subject.name!r}; {_FEWEST} are needed.")
    layers = sorted({depth // 2, *_last_quarter(depth)})
    return prompt_geometry(
        subject, long, layers=layers, scales=[_SCALE], k=[1], controls=["shuffled"], seed=seed, truncate=truncate
    )


def _last_quarter(depth: int) -> list[int]:
    return sorted({depth * 3 // 4, depth * 7 // 8, depth})


def _dimension(frame: pd.DataFrame, control: str) -> pd.DataFrame:
    kept = (frame["metric"] == "dimension") & (frame["control"] == control)
    return frame[kept].pivot(index="prompt_id", columns="layer", values="value")


def shuffled_dimension(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the dimension of each prompt's shuffled tokens at half of the depth, and that of the tokens in order."""
    middle = int(frame["layer"].max()) // 2
    return _dimension(frame, "shuffled")[middle], _dimension(frame, "none")[middle]


def dimension_and_loss(frame: pd.DataFrame) -> pd.Series:
    """Return each prompt's pseudo-value of the partial rank correlation of dimension and loss, types held fixed."""
    late = _dimension(frame, "none")[_last_quarter(int(frame["layer"].max()))].mean(axis=1)
    facts = frame[frame["control"] == "none"].drop_duplicates("prompt_id").set_index("prompt_id")
    rows = facts[["loss", "n_types"]].assign(dimension=late)

    def correlation(some: pd.DataFrame) -> float:
        x, y, held = (some[name].to_numpy(float) for name in ("dimension", "loss", "n_types"))
        return float(rank_correlation(x[None], y, held=held, n_resamples=1)[0][0])

    return pseudo_values(rows, correlation)


def rows_by_frequency(subject: Subject, texts: pd.DataFrame, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Measure IsoScore of the rows of common and of rare tokens of the stories, equally many, by parts of them.

    Raises:
        NotApplicable: too few tokens occur.
    """
    counts = np.zeros(subject.d_embedding, dtype=int)
    for prompt in subject.tokens(texts, truncate=truncate).ids:
        counts += np.bincount(prompt[1:].numpy(), minlength=len(counts))
    rows = weight_rows(subject, "embedding")
    distinct = distinct_rows(rows)
    random = np.random.default_rng(seed)
    seen = random.permutation(distinct[counts[distinct] > 0])  # equal counts are in a random order
    seen = seen[np.argsort(-counts[seen], kind="stable")]
    n = int(_RARE * len(seen))
    if n < 4 * _PARTS:
        raise NotApplicable(f"the stories have {len(seen)} different tokens in {subject.name!r}, too few for groups.")
    groups = {"rare": seen[-n:], "common": random.permutation(seen[: int(_COMMON * len(seen))])[:n]}
    found = []
    for name, ids in groups.items():
        parts = [CloudSums.of(rows[ids[part::_PARTS]]) for part in range(_PARTS)]
        whole = CloudSums.zeros(rows.shape[1])
        for one in parts:
            whole = whole + one
        score = whole.isoscore(debiased=True)
        for number, one in enumerate(parts):
            left = (whole - one).isoscore(debiased=True)
            found.append({"group": name, "part": number, "isoscore": _PARTS * score - (_PARTS - 1) * left})
    return pd.DataFrame(found)


def rare_and_common(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the pseudo-values of IsoScore of rare tokens' rows, and those of common tokens' rows."""
    scores = frame.pivot(index="part", columns="group", values="isoscore")
    return scores["rare"], scores["common"]


_OF_STORIES = (
    f"Up to {_N_PROMPTS} shipped stories, all cut to {_LENGTH - 1} tokens after the first, as the dimension depends on "
    f"their number; it is from neighbours {_SCALE} and {2 * _SCALE}. "
)

CLAIMS = (
    Claim(
        id="geometry.increase",
        statement="more embedding rows break to a larger dimension than points of a Gaussian of the same covariance",
        paper=papers.TOKEN_MANIFOLD,
        says="Around many tokens the dimension of the embedding changes with the distance, and around some it "
        "increases, which no fibre bundle allows. The paper has no control: a smooth Gaussian cloud of the same "
        "covariance, the control here, breaks often too, and hardly ever to a larger dimension.",
        probe="local_dimension",
        measure=breaks_of_rows,
        statistic=increases,
        comparison=Comparison(above="control"),
        bounds=SHARE,
        unit="tokens",
        parameters={"seed": 0},
        note="300 rows, neighbours 10 to 200, p < .001 by a test that is calibrated for evenly spread points, in place "
        "of the paper's t-tests. Chosen after SmolLM2 and the shipped model were seen: decide it on other models.",
    ),
    Claim(
        id="geometry.shuffle",
        statement="at half of the depth, shuffled prompts are of higher dimension than prompts in order",
        paper=papers.TOKEN_GEOMETRY,
        says="The intrinsic dimension of the cloud of a prompt's tokens peaks in middle layers, and there it is larger "
        "where the prompt's tokens are shuffled. The prompts in their own order are the control: the tokens are equal.",
        probe="prompt_geometry",
        measure=clouds_of_stories,
        texts=STORIES,
        statistic=shuffled_dimension,
        comparison=Comparison(above="control"),
        parameters={"seed": 0},
        note=_OF_STORIES + "A Gaussian of the same covariance has a much higher dimension than either.",
    ),
    Claim(
        id="geometry.loss",
        statement="prompts of higher loss have a higher dimension late in depth, distinct tokens held fixed",
        paper=papers.TOKEN_GEOMETRY,
        says="The dimension of a prompt's tokens goes with its loss. A prompt of many different tokens has both a "
        "larger dimension and a higher loss; the paper has no control for that. Here the number of distinct tokens is "
        "held fixed: the partial rank correlation should be above 0.",
        probe="prompt_geometry",
        measure=clouds_of_stories,
        texts=STORIES,
        statistic=dimension_and_loss,
        comparison=Comparison(above=0.0),
        parameters={"seed": 0},
        note=_OF_STORIES + "The dimension is the mean over layers at three quarters, seven eighths and all of the "
        "depth; the prompts' pseudo-values of the correlation are resampled.",
    ),
    Claim(
        id="geometry.rare",
        statement="the rows of rare tokens are less isotropic than those of frequent ones",
        paper=papers.RARE_TOKENS,
        says="Rare tokens' embeddings are pushed together in training, and with them all others' degenerate. The paper "
        "does not hold the number of rows equal, on which such scores depend: here as many rows of frequent tokens "
        "are the control.",
        probe="isotropy",
        measure=rows_by_frequency,
        texts=STORIES,
        statistic=rare_and_common,
        comparison=Comparison(below="control"),
        unit="parts of the rows",
        parameters={"seed": 0},
        note="IsoScore without the bias of few points. Frequent are the first 30 % of the tokens of the shipped "
        "stories, rare the last 20 %: of another corpus, other tokens are rare.",
    ),
)
