"""ReAGent (Zhao & Shan, arXiv 2402.00794): which tokens must stay for the model to say what it says?

Copies of the prompt have tokens replaced at random again and again; a token's score rises where the target's
probability falls with it. A copy stops once its best tokens alone bring the target back among the likeliest. As
replacements need no gradient, any model will do.

Scores are read with care. They sum to 1 and sharpen with every step, so that when a copy stopped decides how sharp they
are: only their order within a prompt means anything, and of a copy that stopped at once not even that. `reagent_ls`
estimates the same effects in probabilities, with standard errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, Unpack, overload

import pandas as pd

from interp.authoring import Run, Source, Subject, Texts, at_most, load, probe
from probes.attribution import plots
from probes.attribution._replacements import OwnSampler, SamplerName, unigram_source
from probes.attribution._targets import Continuation, Scores, Target, Targets, attribution_columns, find_targets
from probes.attribution.reagent._frames import (
    REAGENT,
    REAGENT_PROBES,
    Implementation,
    probe_columns,
    scores_of,
    summarise_reagent,
)
from probes.attribution.reagent._run import explain
from probes.attribution.reagent._settings import (
    ReagentArguments,
    ReagentOptions,
    ReagentSettings,
    shows_parameters_of,
)
from probes.attribution.reagent.masked_lm import MaskedLM

__all__ = ["MaskedLM", "reagent", "reagent_probes"]

TwoFrames: TypeAlias = tuple[pd.DataFrame, pd.DataFrame]


@overload
def reagent(
    subject: Source, texts: Texts, *, return_probes: Literal[True], **arguments: Unpack[ReagentArguments]
) -> TwoFrames: ...
@overload
def reagent(
    subject: Source, texts: Texts, *, return_probes: Literal[False] = False, **arguments: Unpack[ReagentArguments]
) -> pd.DataFrame: ...
def reagent(
    subject: Source,
    texts: Texts,
    *,
    target: Target = "argmax",
    continuation: Continuation | None = None,
    target_pos: int | Sequence[int] = -1,
    replace_ratio: float = 0.3,
    keep: int = 5,
    tolerance: int = 3,
    max_steps: int = 3000,
    n_probes: int = 16,
    sampler: SamplerName | MaskedLM | OwnSampler = "unigram",
    implementation: Implementation = "paper",
    protect_bos: bool = True,
    seed: int = 0,
    truncate: bool = False,
    return_probes: bool = False,
) -> pd.DataFrame | TwoFrames:
    """Score every token read by ReAGent's recursion.

    The defaults are those of inseq, which are the paper's where it gives any. All three implementations share the
    recursion: S starts uniform in (0, 1); a step replaces each token with probability `replace_ratio`, takes the
    change D of the target's probability, adds logit(1/2 + D/2) to the score of replaced tokens and subtracts it from
    the others'; a probe stops once the target is among the `tolerance` likeliest with all but its `keep` best tokens
    replaced. A prompt's score is the mean softmax of the probes that stopped. Updates are float64 of float32
    probabilities, and a change is clamped just short of 1, in every implementation.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        target: "argmax", a token as text, an id, or one of these per prompt; see `probes.attribution._targets.Target`.
        continuation: tokens to explain one after another instead.
        target_pos: the last position read, or several; negative ones count from a prompt's end.
        replace_ratio: probability that a step replaces a token.
        keep: tokens left in the stop test. Where a prompt has no more than that its probes stop in their first step and
            the scores are noise; a warning says so.
        tolerance: the target must be among so many likeliest for a probe to stop.
        max_steps: give a probe up after so many.
        n_probes: independent copies of every prompt.
        sampler: what replaces a token. "unigram": by how often tokens occur, in the reference model's training text
            where the tokenizer is that model's, else in the given texts; "uniform": any but special tokens; "pos":
            uniform among tokens that nltk tags alike; "self": what the model itself would say there; a `MaskedLM`; or
            a function (ids [pos], numpy generator) -> ids [pos].
        implementation: what is done where none of a prompt's probes stopped. "paper": the mean over all of them;
            "inseq": the same with a warning; "original": NaN. They differ in nothing else that is not an argument here.
        protect_bos: never replace a start-of-text token at position 0, whose loss shakes every model; the published
            implementations do replace it. Its score is then 0.
        seed: of all draws; a prompt's do not depend on the batch, nor on other prompts but by their counts of tokens.
        truncate: cut texts that are longer than the context, instead of refusing them.
        return_probes: also return the frame of `reagent_probes`, of this same run.

    Returns:
        One row per prompt, target and token read. `score` sums to 1 per target; `score_se` is its standard error over
        probes; `converged` and `stop_step` say whether to believe it. With `return_probes`, that and the frame of
        `reagent_probes`.

    Raises:
        InputError: an argument out of range, or a sampler without what it needs.

    Cost: two forward passes per probe and step, and one per prompt; only the last position is unembedded.

    >>> frame = reagent("reference", ["Once upon a time there was a little"], n_probes=2, max_steps=2)
    >>> round(float(frame.score.sum()), 6), frame.score.iloc[0]
    (1.0, np.float64(0.0))
    """
    settings = ReagentSettings(
        replace_ratio=replace_ratio, keep=keep, tolerance=tolerance, max_steps=max_steps, n_probes=n_probes,
        sampler=sampler, implementation=implementation, protect_bos=protect_bos, seed=seed,
    )  # fmt: skip
    loaded = load(subject)
    parameters = {"target": target, "continuation": continuation, "target_pos": target_pos} | settings.parameters()
    if sampler == "unigram":
        parameters["unigram"] = unigram_source(loaded)
    run = Run(REAGENT, loaded, texts, parameters=parameters, truncate=truncate, seed=seed)
    targets = find_targets(run.subject, run.tokens, target=target, continuation=continuation, target_pos=target_pos)
    cases, outcomes = explain(run.subject, targets, settings)
    scores = run.frame([attribution_columns(targets, scores_of(outcomes, targets, implementation), method="reagent")])
    if not return_probes:
        return scores
    other = Run(REAGENT_PROBES, run.subject, run.tokens, parameters=run.parameters, seed=seed)
    return scores, other.frame([probe_columns(targets, cases, outcomes)])


# Marked here, for a decorator would see the implementation without its overloads: it may return two frames.
probe(REAGENT, plot=plots.attribution, summarise=summarise_reagent, example=at_most(4))(reagent)


@probe(REAGENT_PROBES, example=at_most(4))
@shows_parameters_of(reagent, but=["return_probes"])
def reagent_probes(subject: Source, texts: Texts, **arguments: Unpack[ReagentArguments]) -> pd.DataFrame:
    """Every probe of `reagent`: whether and when it stopped, how sharp its scores are, what its best tokens keep.

    Errors and cost are those of `reagent`, which with `return_probes=True` returns both frames of one run.

    Args:
        subject: see `reagent`.
        texts: see `reagent`.
        target: see `reagent`.
        continuation: see `reagent`.
        target_pos: see `reagent`.
        replace_ratio: see `reagent`.
        keep: see `reagent`.
        tolerance: see `reagent`.
        max_steps: see `reagent`.
        n_probes: see `reagent`.
        sampler: see `reagent`.
        implementation: see `reagent`.
        protect_bos: see `reagent`.
        seed: see `reagent`.
        truncate: see `reagent`.

    Returns:
        One row per prompt, target and probe; entropy in nats.

    >>> frame = reagent_probes("reference", ["Once upon a time"], n_probes=2, max_steps=2, keep=1)
    >>> frame.probe.tolist()
    [0, 1]
    """
    return reagent(subject, texts, return_probes=True, **arguments)[1]


@shows_parameters_of(ReagentSettings)
def reagent_scores(subject: Subject, targets: Targets, *, seed: int = 0, **options: Unpack[ReagentOptions]) -> Scores:
    """`reagent` as a method of `attribute`."""
    settings = ReagentSettings(seed=seed, **options)
    _, outcomes = explain(subject, targets, settings)
    return scores_of(outcomes, targets, settings.implementation)
