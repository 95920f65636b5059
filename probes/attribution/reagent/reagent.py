"""ReAGent (Zhao & Shan, arXiv 2402.00794): which tokens must stay for the model to keep its prediction?

In copies of the prompt, random tokens are replaced again and again; the score of a replaced token rises with the fall
of the target's probability. A copy stops once its best tokens alone bring the target back among the likeliest. No
gradient is needed, so any model will do.

Read the scores with care. They sum to 1 and sharpen with every step, so the step at which a copy stopped decides how
sharp they are: only their order within a prompt is meaningful, and not even that if the copy stopped at once.
`reagent_ls` estimates the same effects in probabilities, with standard errors.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, Unpack, overload

import pandas as pd

from interp.authoring import (
    Positions,
    Run,
    Source,
    Subject,
    Texts,
    Usable,
    at_most,
    checked,
    load,
    probe,
    shows_parameters_of,
)
from probes.attribution import plots
from probes.attribution._finding import Continuation, find_targets
from probes.attribution._replacements import OwnSampler, SamplerName, sampler_facts
from probes.attribution._target_ids import Target
from probes.attribution._targets import Scores, Targets, attribution_columns
from probes.attribution._unigram import Counts
from probes.attribution.reagent._frames import (
    REAGENT,
    REAGENT_PROBES,
    REDUCED_FROM,
    Implementation,
    probe_columns,
    reduce_reagent,
    scores_of,
    summarise_reagent,
)
from probes.attribution.reagent._run import explain
from probes.attribution.reagent._settings import (
    ReagentArguments,
    ReagentOptions,
    ReagentSettings,
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
@checked
def reagent(
    subject: Source,
    texts: Texts,
    *,
    target: Target = "argmax",
    continuation: Continuation | None = None,
    target_pos: Positions = -1,
    replace_ratio: float = 0.3,
    keep: int = 5,
    tolerance: int = 3,
    max_steps: int = 3000,
    n_probes: int = 16,
    sampler: SamplerName | MaskedLM | OwnSampler | Counts = "unigram",
    implementation: Implementation = "paper",
    protect_bos: bool = True,
    usable: Usable = None,
    seed: int = 0,
    truncate: bool = False,
    return_probes: bool = False,
) -> pd.DataFrame | TwoFrames:
    """Score every input token by ReAGent's recursion.

    The defaults are those of inseq, which are the paper's if it gives any. All three implementations share the
    recursion: S starts uniform in (0, 1); a step replaces each token with probability `replace_ratio`, takes the
    fall D of the target's probability, adds logit(1/2 + D/2) to the score of replaced tokens and subtracts it from
    the others'; a probe stops once the target is among the `tolerance` likeliest with all but its `keep` best tokens
    replaced. A prompt's score is the mean softmax of the probes that stopped. In every implementation updates are
    float64 sums from float32 probabilities, and changes are clamped just below 1 in size.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        target: the token to explain: "argmax" (the model's own), a token as text, an id, or one (or a list) of these
            per prompt.
        continuation: instead of `target`, every token of a text, of one text per prompt, or of the model's own n
            greedy tokens.
        target_pos: the last position read, or several, also by a token's string (see `logit_lens`); the target is the
            token predicted after it.
        replace_ratio: probability that a step replaces a token.
        keep: number of tokens kept in the stop test. If a prompt has no more than that, its probes stop in the first
            step and the scores are noise; a warning is given.
        tolerance: a probe stops only if the target is among this many likeliest tokens.
        max_steps: number of steps after which a probe is given up.
        n_probes: independent copies of every prompt.
        sampler: the source of replacements. "unigram": tokens by frequency, in the reference model's training text if
            the subject has its tokenizer, else by the model's own mean next-token distribution over shipped texts
            (never by the given texts); counts [d_vocab]: tokens by these; "uniform": any but special tokens; "pos":
            uniform among tokens with the same nltk tag; "self": the model's own prediction there; a `MaskedLM`; or a
            function (ids [pos], numpy generator) -> ids [pos].
        implementation: the score if none of a prompt's probes stopped. "paper": the mean over all of them; "inseq": the
            same with a warning; "original": NaN. All other differences between them are arguments here.
        protect_bos: never replace special tokens or a start-of-text token, which every model depends on; their score is
            then 0. The published implementations do replace them. An ordinary token at position 0 may be replaced:
            another token there leaves the attention sink where it is (SmolLM2: a residual of norm 23,000 there, as
            before).
        usable: the frame of `token_health`: only tokens that it calls usable replace others. Where a sampler proposes
            none of them at a position, the token stays.
        seed: of all draws; those of a prompt depend neither on the batch nor on the other prompts.
        truncate: cut texts longer than the context instead of refusing them.
        return_probes: also return the frame of `reagent_probes` of the same run.

    Returns:
        One row per prompt, target and token read. `score` sums to 1 per target; `score_se` is its standard error over
        probes; `converged` and `stop_step` show whether it is reliable. With `return_probes`, this frame and that of
        `reagent_probes`.

    Raises:
        InputError: an argument is out of range, or something that the sampler needs is missing.

    Cost: two forward passes per probe and step, and one per prompt; only the last position is unembedded.

    Pitfall: scores that stopped at different steps are not comparable, and those of a prompt that stopped at once are
    noise; `reagent_ls` has standard errors.

    >>> frame = reagent("reference", ["Once upon a time there was a little"], n_probes=2, max_steps=2)
    >>> round(float(frame.score.sum()), 6), frame.score.iloc[0]
    (1.0, np.float64(0.0))
    """
    settings = ReagentSettings(
        replace_ratio=replace_ratio, keep=keep, tolerance=tolerance, max_steps=max_steps, n_probes=n_probes,
        sampler=sampler, implementation=implementation, protect_bos=protect_bos, usable=usable, seed=seed,
    )  # fmt: skip
    loaded = load(subject)
    asked = {"target": target, "continuation": continuation, "target_pos": target_pos}
    parameters = asked | settings.parameters() | sampler_facts(sampler, loaded, usable=usable)
    run = Run(REAGENT, loaded, texts, parameters=parameters, truncate=truncate, seed=seed)
    targets = find_targets(run.subject, run.tokens, target=target, continuation=continuation, target_pos=target_pos)
    cases, outcomes = explain(run.subject, targets, settings)
    scores = run.frame([attribution_columns(targets, scores_of(outcomes, targets, implementation), method="reagent")])
    if not return_probes:
        return scores
    other = Run(REAGENT_PROBES, run.subject, run.tokens, parameters=run.parameters, seed=seed)
    return scores, other.frame([probe_columns(targets, cases, outcomes)])


# Not a decorator: it would hide the overloads, as the implementation may return two frames.
probe(
    REAGENT,
    plot=plots.attribution,
    explore=plots.explore_attribution,
    summarise=summarise_reagent,
    example=at_most(4),
    costly=True,
    reduce=reduce_reagent,
    reduce_from=REDUCED_FROM,
)(reagent)


@probe(REAGENT_PROBES, plot=plots.reagent_probes, example=at_most(4), costly=True)
@shows_parameters_of(reagent, but=["return_probes"])
def reagent_probes(subject: Source, texts: Texts, **arguments: Unpack[ReagentArguments]) -> pd.DataFrame:
    """List the probes of `reagent`: when each stopped, the entropy of its scores, the target's kept probability.

    Errors and cost are those of `reagent`, which returns both frames of one run with `return_probes=True`.

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
        usable: see `reagent`.
        seed: see `reagent`.
        truncate: see `reagent`.

    Returns:
        One row per prompt, target and probe; entropy in nats.

    Cost: that of `reagent`.

    Pitfall: a probe that stopped at step 0 has learned nothing about the tokens.

    >>> frame = reagent_probes("reference", ["Once upon a time"], n_probes=2, max_steps=2, keep=1)
    >>> frame.probe.tolist()
    [0, 1]
    """
    return reagent(subject, texts, return_probes=True, **arguments)[1]


@shows_parameters_of(ReagentSettings)
def reagent_scores(subject: Subject, targets: Targets, *, seed: int = 0, **options: Unpack[ReagentOptions]) -> Scores:
    """Score by `reagent`, as a method of `attribute`."""
    settings = ReagentSettings(seed=seed, **options)
    _, outcomes = explain(subject, targets, settings)
    return scores_of(outcomes, targets, settings.implementation)
