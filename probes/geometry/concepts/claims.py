"""Claims about concepts as directions and about associations, each beside a control."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import InputError, Subject, layers_of
from interp.findings import Claim, Comparison, NotApplicable
from interp.findings.per_prompt import SHARE
from probes import papers
from probes.geometry.concepts._association import scores
from probes.geometry.concepts._places import Place
from probes.geometry.concepts.association import WordVectors, shipped_lists
from probes.geometry.concepts.concept_angles import concept_angles
from probes.geometry.concepts.concept_directions import concept_directions

_NOTE = "Shipped pairs of English words, fourteen concepts or those that keep three pairs; rows of the unembedding."


def directions(subject: Subject, *, seed: int) -> pd.DataFrame:
    """Measure the shipped concepts in the unembedding.

    Raises:
        NotApplicable: the vocabulary has too few of the words.
    """
    try:
        return concept_directions(subject, where=["unembedding"], metric=["raw"], seed=seed)
    except InputError as error:
        raise NotApplicable(str(error).rstrip(".")) from error


def angles(subject: Subject, *, seed: int) -> pd.DataFrame:
    """Measure the angles between the shipped concepts in the unembedding.

    Raises:
        NotApplicable: the vocabulary has too few of the words.
    """
    try:
        return concept_angles(subject, where=["unembedding"], seed=seed)
    except InputError as error:
        raise NotApplicable(str(error).rstrip(".")) from error


def flowers_and_insects(subject: Subject, *, seed: int) -> pd.DataFrame:
    """Return the score of each flower and insect in the middle of the depth: pleasant less unpleasant."""
    del seed  # nothing is drawn
    lists = [shipped_lists()[name] for name in ("flowers", "insects", "pleasant", "unpleasant")]
    middle = layers_of(subject.n_layers // 2, subject.n_layers, subject.name)
    words = WordVectors(subject, [word for of in lists for word in of], "This is about the word {}")
    ((_, groups),) = words.read(lists, [Place("residual", middle[0])], "centred")
    names = np.repeat(["flowers", "insects"], [len(lists[0]), len(lists[1])])
    found = np.concatenate([scores(of, groups[2], groups[3]) for of in groups[:2]])
    return pd.DataFrame({"list": names, "word": lists[0] + lists[1], "score": found})


def parallel(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return how parallel each concept's pairs are, and the same words paired anew."""
    by = {control: rows.set_index("concept")["parallel"] for control, rows in frame.groupby("control")}
    return by["none"], by["shuffled"]


def told_apart(frame: pd.DataFrame) -> pd.Series:
    """Return for each concept how often the other pairs tell a pair's right word from its left."""
    return frame[frame["control"] == "none"].set_index("concept")["held_out_auroc"]


def orthogonal(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return |cosine| of each two concepts that share no word with the causal product, and with the raw one."""
    rows = frame[(frame["control"] == "none") & (frame["shared_words"] == 0)]
    rows = rows.assign(size=rows["cosine"].abs(), pair=rows["concept_a"] + ", " + rows["concept_b"])
    by = {metric: of.set_index("pair")["size"] for metric, of in rows.groupby("metric")}
    return by["causal"], by["raw"]


def pleasant(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the flowers' scores and the insects'; a number of either is no pair, the two samples are independent."""
    own, control = (frame.loc[frame["list"] == name, "score"].reset_index(drop=True) for name in ("flowers", "insects"))
    return own, control


def _claim(id: str, statement: str, says: str, statistic: Any, comparison: Comparison, **more: Any) -> Claim:
    shared: dict[str, Any] = {"paper": papers.LINEAR_ORIGINS, "parameters": {"seed": 0}, "note": _NOTE}
    return Claim(
        id=f"concepts.{id}", statement=statement, says=says, statistic=statistic, comparison=comparison, **shared | more
    )


CLAIMS = (
    _claim(
        "parallel",
        "pairs of a concept differ in parallel beyond what their two groups of words do",
        "Word pairs of one concept differ by nearly the same vector in the unembedding. The usual control is random "
        "words, which any two classes of words pass; here it is the same words of a concept paired anew, which keeps "
        "the difference of the two classes.",
        parallel,
        Comparison(above="control"),
        probe="concept_directions",
        measure=directions,
        unit="concepts",
    ),
    _claim(
        "held_out",
        "a direction from the other pairs tells which word of a left-out pair is which, nine in ten times",
        "If a concept is a direction, the difference of the other pairs orders a pair that it has not seen. The "
        "control in the frame, words paired anew, orders nearly as many, as the two classes of words differ.",
        told_apart,
        Comparison(at_least=0.9),
        probe="concept_directions",
        measure=directions,
        unit="concepts",
        bounds=SHARE,
    ),
    _claim(
        "causal",
        "the causal inner product makes different concepts more nearly orthogonal than the raw one does",
        "Concepts that can vary without each other are orthogonal under the inner product that whitens the unembedding "
        "(Park et al., 2023). The control is the cosine without whitening, which is larger for random words too.",
        orthogonal,
        Comparison(below="control"),
        probe="concept_angles",
        measure=angles,
        unit="pairs of concepts",
        bounds=SHARE,
        note=_NOTE
        + " Pairs of concepts that share a word are left out; pairs that share a concept are not independent.",
    ),
    _claim(
        "positive",
        "in the middle of the depth flowers go with pleasant words more than insects do",
        "The best established association of people. May et al. find associations of sentence encoders by templates, "
        "and that their test's assumptions may fail. Insects are the control; where this fails, no null result of "
        "another association says anything.",
        pleasant,
        Comparison(above="control"),
        probe="association",
        measure=flowers_and_insects,
        unit="words",
        paper=papers.ASSOCIATIONS,
        note="States at the end of 'This is about the word ...', centred, half way through the blocks; one template "
        "and one list of words. Moved to mid-depth after it had failed in SmolLM2's embeddings: decide it on other "
        "models.",
    ),
)
