"""Measure associations of words by an effect size and a permutation test (May et al., 2019), behind a positive control.

Flowers go with pleasant words and insects with unpleasant ones, for people. Where a model's vectors do not show that,
at the same place and layer, a null result of another test there says nothing: rows of control "positive" say whether.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    Column,
    InputError,
    Layers,
    Run,
    Schema,
    Source,
    Subject,
    columns,
    load,
    probe,
    shipped_path,
    text_ids,
    whole_frame,
)
from interp.model.tape import Tape
from probes import papers
from probes.geometry.clouds._clouds import Where, weight_rows
from probes.geometry.concepts import plots
from probes.geometry.concepts._association import effect, effect_interval, p_value, scores
from probes.geometry.concepts._pairs import token_of
from probes.geometry.concepts._places import InnerProducts, Place, places_of

AssociationMetric: TypeAlias = Literal["raw", "centred", "causal"]
"""As `Metric`, or "centred": the dot product of vectors less the mean of the vocabulary, or of the test's words."""

POSITIVE = "flowers, insects / pleasant, unpleasant"
_LEAST = 2  # words of a group that is tested

ASSOCIATION = Schema(
    probe="association",
    paper=papers.ASSOCIATIONS,
    rows="one per test, place and control",
    columns=columns(
        *("model", "run_id"),
        Column("test", "str", "names of the targets and of the attributes"),
        Column("where", "str", "embedding, unembedding or residual"),
        Column("layer", "id", "layer of the residual, 0..L; missing for weights", low=0, missing=True),
        Column("metric", "str", "the inner product: raw, centred or causal"),
        "control",
        Column("effect", "float", "difference of the targets' mean scores, in standard deviations", missing=True),
        Column("effect_low", "float", "lower end of its 95 % interval over words", missing=True),
        Column("effect_high", "float", "upper end", missing=True),
        Column("p", "float", "share of partitions of the targets with as large a difference", "0..1", 0.0, 1.0, True),
        Column("n_x", "int", "words of the first target", low=0),
        Column("n_y", "int", "words of the second", low=0),
        Column("n_a", "int", "words of the first attribute", low=0),
        Column("n_b", "int", "words of the second", low=0),
        Column("n_dropped", "int", "words that are not there: rows of weights are of single tokens", low=0),
    ),
)


def shipped_lists() -> dict[str, list[str]]:
    """Return the shipped lists: flowers, insects, pleasant and unpleasant words."""
    table = pd.read_csv(shipped_path("geometry") / "word_lists.csv", keep_default_na=False)
    return {str(name): rows["word"].tolist() for name, rows in table.groupby("list", sort=False)}


@probe(ASSOCIATION, plot=plots.association, summarise=whole_frame)
def association(
    subject: Source,
    *,
    targets: Mapping[str, Sequence[str]] | None = None,
    attributes: Mapping[str, Sequence[str]] | None = None,
    where: Sequence[Where] = ("embedding", "unembedding"),
    layers: Layers = "all",
    metric: AssociationMetric = "centred",
    template: str = "This is about the word {}",
    n_permutations: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Test whether two groups of words differ in their association with two others, beside the positive control.

    Args:
        subject: anything `interp.load` takes.
        targets: two lists of words by name, X and Y; None runs the positive control alone.
        attributes: two lists of words by name, A and B.
        where: which rows of the vocabulary to test; words that are not single tokens are dropped there, and counted.
        layers: of the residual stream, 0..L, read at the last token of the template; None reads none.
        metric: see `AssociationMetric`.
        template: a text with {} for the word.
        n_permutations: partitions drawn where there are more than 100,000.
        seed: of the draws.

    Returns:
        One row per test and place. A word's score is its mean cosine with A minus that with B; the effect is the mean
        score of X minus that of Y, in standard deviations of all scores. The control "positive" is the test of flowers
        and insects with pleasant and unpleasant words. A group of fewer than two words has no numbers.

    Raises:
        InputError: not two lists of two words each, or nothing to test.

    Cost: one forward pass over a short text per word.

    Pitfall: where the row "positive" of the same place does not show its known association, a null result is no
    evidence; and a template and word list decide much of the rest (May et al., 2019).

    >>> frame = association("reference", where=[], layers=[4], metric="raw", n_permutations=999)
    >>> frame[["control", "n_x", "n_a"]].values.tolist()
    [['positive', 16, 16]]
    """
    tests = _tests(targets, attributes)
    if template.count("{}") != 1:
        raise InputError(f"template={template!r}: give a text with one {{}} for the word.")
    if n_permutations < 1:
        raise InputError(f"n_permutations={n_permutations}: give at least 1.")
    model = load(subject)
    places = places_of(model, where, layers)
    if not places:
        raise InputError("where=[] and layers=None leave nothing to test; name a place.")
    parameters = {
        "tests": {name: [list(of) for of in lists] for name, (lists, _) in tests.items()}, "where": list(where),
        "layers": layers, "metric": metric, "template": template, "n_permutations": n_permutations,
    }  # fmt: skip
    run = Run(ASSOCIATION, model, None, parameters=parameters, seed=seed)
    vectors = WordVectors(run.subject, [word for lists, _ in tests.values() for of in lists for word in of], template)
    rows: list[dict[str, Any]] = []
    for name, (lists, control) in tests.items():
        for place, groups in vectors.read(lists, places, metric):
            random = np.random.default_rng(seed)
            n = dict(zip(("n_x", "n_y", "n_a", "n_b"), map(len, groups), strict=True))
            found = dict.fromkeys(("effect", "effect_low", "effect_high", "p"), np.nan)
            if min(map(len, groups)) >= _LEAST:
                x, y = (scores(of, groups[2], groups[3]) for of in groups[:2])
                low, high = effect_interval(x, y, random)
                found = {"effect": effect(x, y), "effect_low": low, "effect_high": high}
                found["p"] = p_value(x, y, n_permutations, random)
            dropped = sum(map(len, lists)) - sum(map(len, groups))
            rows.append(
                {
                    "test": name,
                    **place.columns,
                    "metric": metric,
                    "control": control,
                    **found,
                    **n,
                    "n_dropped": dropped,
                }
            )
    return run.frame(rows)


class WordVectors:
    """Vectors of words at any place: rows of single tokens, or states at the last token of a template."""

    def __init__(self, subject: Subject, words: Sequence[str], template: str) -> None:
        self._subject = subject
        self._texts: dict[str, str] = {}  # of the words that the tokenizer can read
        for word in dict.fromkeys(words):
            with suppress(InputError):
                text_ids([template.format(word)], subject.tokenizer)
                self._texts[word] = template.format(word)
        self._products = InnerProducts(subject)

    def read(
        self, lists: Sequence[Sequence[str]], places: Sequence[Place], metric: AssociationMetric
    ) -> list[tuple[Place, list[np.ndarray]]]:
        """Return for each place the vectors of each list, float64 [n, d_model]."""
        states = self._states([place.layer for place in places if place.layer >= 0])
        found = []
        for place in places:
            if place.layer >= 0:
                rows = states[place.layer]
                at = {word: row for row, word in enumerate(self._texts)}
                groups = [rows[[at[word] for word in of if word in at]] for of in lists]
                together = np.concatenate(groups)
                centre = together.mean(axis=0) if len(together) else 0.0
            else:
                every = weight_rows(self._subject, place.where).astype(np.float64)  # type: ignore[arg-type]
                ids = [
                    [one for one in (token_of(self._subject, word) for word in of) if one is not None] for of in lists
                ]
                groups, centre = [every[of] for of in ids], every.mean(axis=0)
            if metric == "centred":
                groups = [of - centre for of in groups]
            found.append(
                (place, [self._products.mapped(of, place, "causal" if metric == "causal" else "raw") for of in groups])
            )
        return found

    def _states(self, layers: Sequence[int]) -> dict[int, np.ndarray]:
        if not layers or not self._texts:
            return dict.fromkeys(layers, np.empty((0, self._subject.d_model)))
        tokens = self._subject.tokens(list(self._texts.values()))
        states = torch.empty(len(layers), len(tokens), self._subject.d_model, dtype=torch.float64)
        for batch in tokens.batches(self._subject.batch_tokens()):
            ends = batch.lengths - 1

            def program(tape: Tape, ends: Tensor = ends) -> Tensor:
                at = torch.arange(len(ends), device=tape.last.device), ends.to(tape.last.device)
                return torch.stack([tape.residual(layer)[at] for layer in layers]).double().cpu()

            states[:, batch.prompts] = self._subject.run(batch.ids, program)
        return dict(zip(layers, states.numpy(), strict=True))


def _tests(
    targets: Mapping[str, Sequence[str]] | None, attributes: Mapping[str, Sequence[str]] | None
) -> dict[str, tuple[list[Sequence[str]], str]]:
    """Return each test's four lists and its control, the positive one last.

    Raises:
        InputError: one of targets and attributes is missing, or they are not two lists of words.
    """
    found: dict[str, tuple[list[Sequence[str]], str]] = {}
    if (targets is None) != (attributes is None):
        raise InputError(
            "targets and attributes belong together; give both, or neither for the positive control alone."
        )
    if targets is not None and attributes is not None:
        for what, given in (("targets", targets), ("attributes", attributes)):
            if len(given) != 2 or any(len(set(of)) < _LEAST for of in given.values()):
                raise InputError(
                    f"{what} {list(given)} are not two lists of two different words or more; name two such lists."
                )
        name = " / ".join(", ".join(map(str, given)) for given in (targets, attributes))
        found[name] = [list(dict.fromkeys(of)) for of in (*targets.values(), *attributes.values())], "none"
    lists = shipped_lists()
    found[POSITIVE] = [lists[name] for name in ("flowers", "insects", "pleasant", "unpleasant")], "positive"
    return found
