"""Several attribution methods in one call and one frame: which input token mattered?"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from interp.authoring import (
    InputError,
    Positions,
    Run,
    Schema,
    Source,
    Subject,
    Texts,
    UnknownName,
    answering,
    at_most,
    load,
    probe,
    progress_bar,
    say_cost,
    summarise_by_prompt,
    warn_of_end,
)
from probes.attribution import baselines, plots
from probes.attribution._finding import Continuation, find_targets
from probes.attribution._replacements import sampler_facts
from probes.attribution._target_ids import Against, Target
from probes.attribution._targets import ATTRIBUTION, Method, attribution_columns, target_key
from probes.attribution.normxlogit import normxlogit_scores
from probes.attribution.reagent.reagent import reagent_scores
from probes.attribution.reagent.reagent_ls import reagent_ls_scores

METHODS: dict[str, Method] = {
    "normxlogit": normxlogit_scores,
    "norm": baselines.norm,
    "logit": baselines.logit,
    "input_x_gradient": baselines.input_x_gradient,
    "integrated_gradients": baselines.integrated_gradients,
    "gradient_norm": baselines.gradient_norm,
    "occlusion": baselines.occlusion,
    "rollout": baselines.rollout,
    "reagent": reagent_scores,
    "reagent_ls": reagent_ls_scores,
    "random": baselines.random,
}
"""The methods by name; `(subject, targets, *, seed, **options) -> Scores`."""

_ALONE = {
    "norm": "its score does not look at the target",
    "rollout": "its score does not look at the target",
    "reagent": "it stops by the target's rank, which no second token enters; take 'reagent_ls'",
}
"""The methods that cannot contrast a target with another token, and why."""

Methods: TypeAlias = str | Sequence[str] | Mapping[str, Mapping[str, Any]]
"""Names of methods, or a mapping from a method's name to its options."""

ATTRIBUTE = Schema(
    probe="attribute",
    paper="of each method; see probes.attribution.attribute.METHODS",
    rows="one per prompt, method, target and position read",
    columns=ATTRIBUTION,
    summary_by=("method",),
    lines_by=("target_pos",),
)

_PROMPT = ("model", "run_id", "prompt_id")
_SHARES = ("top_share", "last_share", "negative_share", "effective_tokens")


def summarise_attribution(frame: pd.DataFrame, by: str = "method", **options: Any) -> pd.DataFrame:
    """Sum up the scores per method or per pair of methods; position 0 is left out.

    Args:
        frame: of `attribute`.
        by: "method": the distribution of each method's absolute scores over the tokens of a target, as means over
            prompts with 95 % bootstrap intervals: `top_share` is the share of the largest token, `last_share` of the
            last position read, `negative_share` of negative scores; `effective_tokens` is the exponential of the
            shares' entropy. "agreement": the Spearman correlation of every two methods' scores over the tokens of a
            target, with the same means and intervals.
        options: of `interp.stats.bootstrap_over_prompts`.
    """
    if by not in ("method", "agreement"):
        raise InputError(f"cannot sum attributions up by {by!r}; choose 'method' or 'agreement'.")
    keys = [*_PROMPT, *target_key(frame)]
    reduced = "top_share" in frame.columns
    later = frame if reduced else frame[frame["pos"] > 0]
    if later.empty:
        raise InputError("there is nothing to sum up: summaries leave position 0 out.")
    if by == "method":
        per_target = later if reduced else _shares(later, [*keys, "method"])
        schema = replace(ATTRIBUTE, summary_of=_SHARES)
    else:
        per_target = _agreement(later, keys)
        schema = replace(ATTRIBUTE, summary_by=("method", "other"), summary_of=("spearman",))
    return summarise_by_prompt(schema, per_target, **options)


def _reduce(table: pa.Table) -> pd.DataFrame:
    later = table.filter(pc.field("pos") > 0).to_pandas()
    return _shares(later, [*_PROMPT, *target_key(later), "method"])


def _shares(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    size = frame["score"].abs()
    share = size / size.groupby([frame[key] for key in keys], dropna=False).transform("sum")
    rows = frame[keys].assign(
        top_share=share,
        last_share=share.where(frame["pos"] == frame["target_pos"], 0.0),
        negative_share=share.where(frame["score"] < 0, 0.0),
        effective_tokens=-share * np.log(share.where(share > 0, 1.0)),
    )
    parts = {"top_share": "max", "last_share": "sum", "negative_share": "sum", "effective_tokens": "sum"}
    found = rows.groupby(keys, as_index=False, dropna=False).agg(parts)
    return found.assign(effective_tokens=np.exp(found["effective_tokens"]))


def _agreement(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    methods = frame["method"].unique().tolist()
    if len(methods) < 2:
        raise InputError(f"agreement needs at least 2 methods; the frame has only {methods}.")
    rows = []
    for key, target in frame.groupby(keys, dropna=False):
        scores = target.pivot(index="pos", columns="method", values="score")
        correlation = scores.corr(method="spearman")
        rows += [
            (*key, left, right, correlation.at[left, right])
            for left, right in combinations(methods, 2)
            if {left, right} <= set(scores.columns)
        ]
    return pd.DataFrame(rows, columns=[*keys, "method", "other", "spearman"])


def _as_an_option(name: str) -> str | None:
    """Answer an argument that is an option of a method."""
    owner = next((method for method, score in METHODS.items() if name in inspect.signature(score).parameters), None)
    return owner and f"it is an option of a method: methods={{{owner!r}: {{{name!r}: …}}}}"


@probe(
    ATTRIBUTE,
    plot=plots.attribution,
    explore=plots.explore_attribution,
    summarise=summarise_attribution,
    example=at_most(8),
    reduce=_reduce,
    reduce_from=("target_pos", "target_id", "against_id", "score"),
    costly=True,
)
@answering(_as_an_option)
def attribute(
    subject: Source,
    texts: Texts,
    *,
    methods: Methods = ("normxlogit", "integrated_gradients", "occlusion", "random"),
    target: Target = "argmax",
    continuation: Continuation | None = None,
    target_pos: Positions = -1,
    against: Against = None,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Score how much each token matters for the model's next token, by several methods.

    Scores are in each method's own unit: compare their order within a prompt and target, or measure them with
    `faithfulness`. `random` is the control: scores that do not use the model. `group_attribution` adds them up over
    words, sentences, chat turns or spans.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        methods: names in `METHODS`, or a mapping from a method's name to its options, such as
            `{"integrated_gradients": {"n_steps": 100}, "random": {}}`.
        target: the token to explain: "argmax" (the model's own), a token as text, an id, or one (or a list) of these
            per prompt.
        continuation: instead of `target`, every token of a text, of one text per prompt, or of the model's own n
            greedy tokens.
        target_pos: the last position read, or several, also by a token's string (see `logit_lens`); the target is the
            token predicted after it.
        against: the token to contrast the target with: why " Paris" and not " London"? A token as text, an id,
            "runner_up" (the model's likeliest but the target), one of these per prompt, or for each prompt a list with
            one for each of its targets. Gradients, integrated gradients and occlusion score the difference of both
            tokens' logits (with `of="prob"`, of their probabilities), normxlogit and logit that difference read at each
            position, reagent_ls the difference of probabilities: each token's score is that for the target minus that
            for the other (for gradient_norm, the norm of the difference of gradients).
        seed: of the methods that draw random numbers.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, method, target and position 0..target_pos.

    Raises:
        InputError: a text, target, position or option cannot be used.
        UnknownName: there is no such method or option.
        ModelError: a method needs something that the architecture does not expose, such as attention patterns.

    Cost: that of the methods, plus at most one forward pass (n for `continuation=n`) to find the targets. Of a prompt
    of n tokens, normxlogit, norm, logit and rollout take one pass, the other gradients one and a backward pass,
    integrated gradients `n_steps` + 1 of both, occlusion n passes, reagent_ls 10 n, and reagent up to
    2 `n_probes` `max_steps`. Over a minute is told before it starts.

    Pitfall: scores of two methods have two units, and one method finding a cause in a planted model does not make it
    right on yours; rank within a prompt, and measure with `faithfulness`.

    >>> why = attribute("reference", "Once upon a time", target=",", against=" there", methods="occlusion")
    >>> why.target.iloc[0], why.against.iloc[0]
    (',', ' there')
    >>> frame = attribute("reference", "The cat sat on the", methods=("occlusion", "norm", "random"))
    >>> frame.method.unique().tolist(), frame.control.unique().tolist(), len(frame)
    (['occlusion', 'norm', 'random'], ['none', 'random'], 18)
    """
    chosen = _chosen_methods(methods)
    if against is not None and (alone := [name for name in chosen if name in _ALONE]):
        raise InputError(f"method {alone[0]!r} has no contrast: {_ALONE[alone[0]]}; leave it out, or against=.")
    loaded = load(subject)
    parameters = {
        "methods": _named(chosen, loaded),
        "target": target,
        "continuation": continuation,
        "target_pos": target_pos,
        **({} if against is None else {"against": against}),
    }
    run = Run(ATTRIBUTE, loaded, texts, parameters=parameters, truncate=truncate, seed=seed)
    targets = find_targets(
        run.subject, run.tokens, target=target, continuation=continuation, target_pos=target_pos, against=against
    )
    if continuation is None:
        warn_of_end(run.subject, run.tokens)
    _say_cost_of(run, chosen, (targets.pos + 1).tolist())
    parts = []
    with progress_bar(len(chosen), "method") as bar:
        for name, options in chosen.items():
            bar.set_description(f"attribute: {name} of {len(targets)} targets")
            scores = METHODS[name](run.subject, targets, seed=seed, **options)
            control = "random" if name == "random" else "none"
            parts.append(attribution_columns(targets, replace(scores, extra={}), method=name, control=control))
            bar.update()
    return run.frame(parts)


def _say_cost_of(run: Run, chosen: Mapping[str, Mapping[str, Any]], lengths: Sequence[int]) -> None:
    """Say what methods cost for targets after so many tokens; ReAGent's say it themselves, as they draw."""
    path = 1 + chosen.get("integrated_gradients", {}).get("n_steps", baselines.N_STEPS)
    each = {"integrated_gradients": 2 * path, "input_x_gradient": 2, "gradient_norm": 2, "random": 0}
    each |= {"reagent": 0, "reagent_ls": 0}
    fixed = sum(each.get(name, 1) for name in chosen if name != "occlusion")
    texts = [fixed + ("occlusion" in chosen) * (1 + n) for n in lengths]
    read = sum(n * length for n, length in zip(texts, lengths, strict=True))
    say_cost(run, passes=read / sum(lengths), n_tokens=sum(lengths), unembedded=sum(texts))


def _chosen_methods(methods: Methods) -> dict[str, dict[str, Any]]:
    """Return the options by method, after checking that each method takes them."""
    if isinstance(methods, str):
        methods = (methods,)
    named = dict(methods) if isinstance(methods, Mapping) else {name: {} for name in methods}
    if not named:
        raise InputError("methods is empty; name at least one.")
    for name, options in named.items():
        if name not in METHODS:
            raise UnknownName("method", name, METHODS)
        known = [
            one for one in inspect.signature(METHODS[name]).parameters if one not in ("subject", "targets", "seed")
        ]
        for option in options:
            if option not in known:
                raise UnknownName(f"option of {name!r}", option, known)
    return {name: dict(options) for name, options in named.items()}


def _named(chosen: Mapping[str, Mapping[str, Any]], subject: Subject) -> dict[str, dict[str, Any]]:
    """Return all options of each method as they are in force, defaults too, for provenance."""
    found = {}
    for name, given in chosen.items():
        parameters = inspect.signature(METHODS[name]).parameters.values()
        known = {one.name: one.default for one in parameters if one.name not in ("subject", "targets", "seed")}
        found[name] = known | dict(given)
        if "sampler" in known:
            facts = sampler_facts(found[name]["sampler"], subject, usable=found[name].pop("usable"))
            found[name] |= {key: fact for key, fact in facts.items() if fact is not None}  # ids from before it stay
    return found
