"""The effects that ReAGent estimates by a recursion, estimated by least squares; interp's own method.

For small changes ReAGent's score grows in each step by a multiple of the mean effect of replacing the token, at a rate
set by the share of tokens replaced, and its softmax sharpens with the steps. Here the score is that effect itself: the
fall of the target's probability when the token is replaced, averaged over replacements of the others (its Banzhaf
value, with random tokens in place of absent ones). It has a unit, a standard error and no stop rule.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.authoring import (
    VOCABULARY,
    InputError,
    Positions,
    Run,
    Schema,
    Source,
    Subject,
    Texts,
    Usable,
    at_most,
    load,
    probe,
    progress_bar,
)
from probes import papers
from probes.attribution import plots
from probes.attribution._checks import check_counts
from probes.attribution._draws import generator_for
from probes.attribution._finding import Continuation, find_targets
from probes.attribution._replacements import OwnSampler, Replacements, SamplerName, sampler_facts
from probes.attribution._target_ids import Against, Target
from probes.attribution._targets import ATTRIBUTION, Scores, Targets, attribution_columns
from probes.attribution._unigram import Counts
from probes.attribution.reagent._cases import cases_of, reader_of
from probes.attribution.reagent._recursion import Case
from probes.attribution.reagent.masked_lm import MaskedLM

__all__ = ["reagent_ls"]

_PAIRS_PER_TOKEN = 5

REAGENT_LS = Schema(
    probe="reagent_ls",
    paper=f"interp's own estimator of ReAGent's effects, after {papers.REAGENT}",
    rows="one per prompt, target and token read",
    columns=tuple(
        VOCABULARY["score"].with_(
            meaning="mean fall of the target's probability when the token is replaced", unit="probability"
        )
        if column.name == "score"
        else column
        for column in ATTRIBUTION
    ),
    summary_by=("method",),
    lines_by=("target_pos",),
    summary_of=("score", "score_se"),
)


@probe(REAGENT_LS, plot=plots.attribution, explore=plots.explore_attribution, example=at_most(8), costly=True)
def reagent_ls(
    subject: Source,
    texts: Texts,
    *,
    target: Target = "argmax",
    continuation: Continuation | None = None,
    target_pos: Positions = -1,
    against: Against = None,
    n_masks: int | None = None,
    sampler: SamplerName | MaskedLM | OwnSampler | Counts = "unigram",
    protect_bos: bool = True,
    usable: Usable = None,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Score every input token by the fall of the target's probability when the token is replaced.

    Each mask replaces every token with probability 1/2 and is paired with its complement, which uses the same
    replacement tokens: in their difference, everything that does not depend on the choice of tokens cancels. The scores
    are the least-squares fit of these differences.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        target: the token to explain: "argmax" (the model's own), a token as text, an id, or one (or a list) of these
            per prompt.
        continuation: instead of `target`, every token of a text, of one text per prompt, or of the model's own n
            greedy tokens.
        target_pos: the last position read, or several, also by a token's string (see `logit_lens`); the target is the
            token predicted after it.
        against: the token to contrast the target with, as in `attribute`: the score is then the mean fall of the
            target's probability minus that of the other token's, so the difference of their two scores.
        n_masks: per target, including complements; rounded up to pairs. Default: 10 for every token that may be
            replaced.
        sampler: see `probes.reagent`.
        protect_bos: never replace special tokens or a start-of-text token; their score is then 0.
        usable: see `probes.reagent`.
        seed: of all draws; those of a prompt depend neither on the batch nor on the other prompts.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, target and token read: `score` in probability, comparable between prompts, and its standard
        error `score_se` (HC3: over masks and replacement draws, valid also if effects do not add up).

    Raises:
        InputError: an argument is out of range, there are not more pairs of masks than tokens, or something that the
            sampler needs is missing.

    Cost: `n_masks` forward passes of one sequence per target, in large batches; only the last position is unembedded.
    Over a minute is told before it starts.

    Pitfall: replacements are drawn from a distribution: with another sampler the effect is another number.

    >>> frame = reagent_ls("reference", ["Once upon a time"])
    >>> frame.score.iloc[0], bool((frame.score_se.iloc[1:] > 0).all())
    (np.float64(0.0), True)
    """
    if n_masks is not None:
        check_counts(n_masks=n_masks)
    loaded = load(subject)
    parameters = {
        "target": target, "continuation": continuation, "target_pos": target_pos, "n_masks": n_masks,
        "protect_bos": protect_bos, **({} if against is None else {"against": against}),
        **sampler_facts(sampler, loaded, usable=usable),
    }  # fmt: skip
    run = Run(REAGENT_LS, loaded, texts, parameters=parameters, truncate=truncate, seed=seed)
    targets = find_targets(
        run.subject, run.tokens, target=target, continuation=continuation, target_pos=target_pos, against=against
    )
    scores = reagent_ls_scores(
        run.subject, targets, seed=seed, n_masks=n_masks, sampler=sampler, protect_bos=protect_bos, usable=usable
    )
    return run.frame([attribution_columns(targets, scores, method="reagent_ls")])


def reagent_ls_scores(
    subject: Subject,
    targets: Targets,
    *,
    seed: int = 0,
    n_masks: int | None = None,
    sampler: SamplerName | MaskedLM | OwnSampler | Counts = "unigram",
    protect_bos: bool = True,
    usable: Usable = None,
) -> Scores:
    """Score by `reagent_ls`, as a method of `attribute`."""
    prepared = cases_of(subject, targets, sampler, protect_bos=protect_bos, usable=usable)
    cases = prepared.all
    pairs = [_n_pairs(n_masks, int(case.free.sum())) for case in cases]
    read = reader_of(subject, targets)
    width = max(len(case.ids) for case in cases)
    step = max(1, 2 * subject.batch_tokens() // (2 * width * max(pairs)))  # two batches at once, not all sequences
    scores, errors = [], []
    cost = "; ".join(filter(None, [f"{2 * sum(pairs):,} passes", prepared.cost(2 * float(np.mean(pairs)))]))
    with progress_bar(len(cases), "target", f"reagent_ls ({cost})") as bar:
        for start in range(0, len(cases), step):
            chunk = range(start, min(start + step, len(cases)))
            drawn = [_pairs(cases[index], pairs[index], seed) for index in chunk]
            sequences = np.concatenate([np.pad(ids, ((0, 0), (0, width - ids.shape[1]))) for _, ids in drawn])
            which = np.repeat(list(chunk), [2 * pairs[index] for index in chunk])
            probs = np.split(read(sequences, which)[0], np.cumsum([2 * pairs[index] for index in chunk])[:-1])
            for index, (masks, _), prob in zip(chunk, drawn, probs, strict=True):
                free = cases[index].free
                score, error = np.zeros(len(free)), np.zeros(len(free))
                # p(complement) - p(mask) is the mask's fall in probability minus its complement's.
                score[free], error[free] = least_squares(np.where(masks, 1.0, -1.0)[:, free], prob[1::2] - prob[::2])
                scores.append(score)
                errors.append(error)
            bar.update(len(chunk))
    return Scores(scores, errors)


def least_squares(design: np.ndarray, response: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients [m] of response [n] on design [n, m] and standard errors robust to unequal variance (HC3).

    >>> weight, error = least_squares(np.array([[1.0], [-1.0], [1.0]]), np.array([2.0, -2.0, 2.0]))
    >>> weight.round(6).tolist(), error.round(6).tolist()
    ([2.0], [0.0])
    """
    if not design.shape[1]:
        return np.zeros(0), np.zeros(0)
    inverse = np.linalg.pinv(design)
    weights = inverse @ response
    leverage = np.einsum("nm,mn->n", design, inverse)
    residual = (response - design @ weights) / np.maximum(1 - leverage, 1e-9)
    return weights, np.sqrt(np.square(inverse) @ np.square(residual))


def _n_pairs(n_masks: int | None, n_free: int) -> int:
    if n_masks is None:
        return max(1, _PAIRS_PER_TOKEN * n_free)
    check_counts(n_masks=n_masks)
    pairs = -(-n_masks // 2)
    if pairs <= n_free:
        raise InputError(
            f"n_masks={n_masks} makes {pairs} pairs, too few to estimate {n_free} scores and their errors; give at "
            f"least {2 * n_free + 2}."
        )
    return pairs


def _pairs(case: Case, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw masks bool [n, pos] and the sequences of each, followed by its complement's, [2 n, pos]."""
    generator = generator_for(seed, case.ids, "least squares")
    uniforms = generator.random((n, 2, len(case.ids)))
    masks = (uniforms[:, 0] < 0.5) & case.free
    if isinstance(case.sampler, Replacements):
        tokens = case.sampler.draw(uniforms[:, 1])
    else:
        tokens = np.array([case.sampler(case.ids.copy(), generator) for _ in range(n)])
    both = np.stack([masks, ~masks & case.free], axis=1)
    return masks, np.where(both, tokens[:, None], case.ids).reshape(2 * n, -1)
