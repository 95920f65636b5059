"""Faithfulness of attributions to the model: remove the tokens ranked highest, and measure the effect.

Comprehensiveness (DeYoung et al., arXiv 1911.03429): the fall of the target's probability when the best tokens are
removed. Sufficiency: its fall when only they are kept. AOPC (Samek et al.): comprehensiveness averaged over every
number of tokens; NAOPC (Edin et al., arXiv 2408.08137): the same, relative to the lowest and highest value of any
order. Soft sufficiency and comprehensiveness (Zhao & Aletras 2023; ReAGent) drop single elements of embeddings, each
with a probability given by the score.

A value means nothing alone: each row also has the value of the same scores shuffled among the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from interp.authoring import InputError, Run, Source, Subject, Usable, load, probe, progress_bar
from probes.attribution import plots
from probes.attribution._checks import check_counts
from probes.attribution._replacements import sampler_facts
from probes.attribution._unigram import Counts
from probes.attribution.attribute import attribute
from probes.attribution.faithfulness._attributions import Attribution, attributions, digest_of
from probes.attribution.faithfulness._chance import warn_of_chance
from probes.attribution.faithfulness._cost import say_cost_of
from probes.attribution.faithfulness._frames import FAITHFULNESS, summarise_faithfulness
from probes.attribution.faithfulness._metrics import METRICS, Measured, Measurement, Metric, n_ties
from probes.attribution.faithfulness._removal import Replacement
from probes.attribution.groups._naming import Groups

__all__ = ["faithfulness"]

Normaliser: TypeAlias = Literal["min_max", "none"]
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def _example(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    methods = ("normxlogit", "input_x_gradient", "random")
    return {"frame": attribute(subject, texts.head(6), methods=methods, truncate=True)}


@probe(FAITHFULNESS, plot=plots.faithfulness, summarise=summarise_faithfulness, example=_example, costly=True)
def faithfulness(
    subject: Source,
    frame: pd.DataFrame,
    *,
    metrics: Sequence[Metric] = ("soft_ns", "soft_nc", "sufficiency", "comprehensiveness", "aopc"),
    replacement: Replacement | Counts = "unigram",
    usable: Usable = None,
    fractions: Sequence[float] = FRACTIONS,
    normalise: Normaliser = "min_max",
    unit: Groups = "token",
    absolute: bool = False,
    log_odds: bool = False,
    protect_last: bool = False,
    n_random: int = 5,
    n_draws: int = 16,
    n_samples: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how faithful attributions are to the attributed model.

    Each set of tokens is run once per target for all methods, orders and metrics, and all sets of a target share large
    batches. Position 0 and special tokens are never removed: models let their attention rest there, and a prompt whose
    embeddings are all zero or all the mean has no sink or nothing but sinks (see `probes.attribution.baselines`).

    Equal scores rank in no order, least of all in that of the text: a metric is its mean over all orders of the tied
    tokens, exact for ties of up to ten tokens (and for any that leave at most 252 sets of the first k tokens), else
    over the orders of the `n_random` shuffles. So equal scores for all tokens have no advantage over shuffled ones.

    Args:
        subject: the attributed model; anything `interp.load` takes.
        frame: of `attribute` or of any attribution method, or several joined with `interp.concat`.
        metrics: "sufficiency" and "comprehensiveness" (a row per fraction), "aopc" (removing the best first, and the
            worst first), "naopc" (the same relative to the limits of all orders, exact up to 10 tokens, else from a
            beam search), "soft_ns" and "soft_nc". The last two come with "soft_ns_rank" and "soft_nc_rank", the same of
            scores replaced by their ranks, because the soft metrics reward sharp scores in any order.
        replacement: the meaning of removing a token for the hard metrics. "unigram": a token drawn by frequency
            replaces it (see `probes.reagent`); counts [d_vocab]: one drawn by these; "mask_embedding": its embedding
            becomes the vocabulary's mean; "zero_embedding": its embedding becomes zero; "delete": it is deleted and
            later tokens move up.
        usable: the frame of `token_health`: only tokens that it calls usable replace others, by "unigram" and counts.
        fractions: of the tokens; the nearest number of tokens (halves rounded up), at least one, is removed or kept.
        normalise: the map from scores to the soft metrics' probabilities: "min_max" (equal scores become 0.5), or
            "none" if scores are within 0..1 already.
        unit: what is removed together, and has the sum of its tokens' scores: "token", or anything that
            `group_attribution` takes as `groups`: "word", "sentence", "turn" (without the chat template's own words),
            or spans. A word with a protected token is kept whole; of other groups the other tokens go.
        absolute: rank by absolute score.
        log_odds: measure log-odds (nats) instead of probabilities, which change little if the intact one is tiny. Of a
            contrast (`against=`) it is always the log-odds of the target against the other token: the difference of
            their logits, which is what contrastive scores explain.
        protect_last: never remove the last token read; "delete" never does, since the prediction would move.
        n_random: number of shuffles for `value_random` of the hard metrics.
        n_draws: number of random masks for the soft metrics, the same for every method.
        n_samples: for "unigram" and counts, number of draws to average over, the same for every set; `value_se` is the
            standard error over them. By sufficiency the order of methods does not depend on 8 draws or more: Kendall's
            tau between orders with other draws is 1 (reference model; .93 at 4 draws). By comprehensiveness tau is
            .84, .90, .93 and 1 at 4, 8, 16 and 32 draws for six methods on 6 prompts of 10 tokens, but .64, .72, .69
            and .63 for five on 12 prompts of 16: there three of them are tied (.298 each, with a standard error of
            .002 at 32 draws), and draws do not order what is tied. So compare `value_se`
            (`benchmarks/bench_faithfulness_draws.py`).
        seed: of shuffles, masks and draws; those of a prompt depend neither on other prompts nor on their order.

    Returns:
        One row per prompt, method, target and metric (and fraction). Soft metrics use squared Hellinger distances D:
        soft_ns = max(0, 1 - D(kept by score) / D(all zero)), soft_nc = D(dropped by score) / D(all zero), with the mean
        D over draws; missing if the prompt does not matter. They compare whole next-token distributions, and of a
        contrast the distribution over its two tokens alone: where a prompt of zeros happens to prefer the same token as
        much, their values are large, by shuffled scores too. Rows with `control="permuted"` have one half of the
        shuffles as `value` and the other half as `value_random`.

    Raises:
        InputError: an argument is out of range, or the frame is of another model, lacks positions, or has scores that
            are not finite.
        UnknownName: there is no such metric, replacement, normaliser or unit.

    Cost: a pass over the prompt for each different set of tokens that an order, a fraction or a draw asks for, about
    2 n sets of n tokens for each method and shuffle with "aopc"; what these texts begin with alike is read once where a
    processor runs the model and tokens are replaced or deleted, half of them. Over a minute is told before it starts.

    Pitfall: removing tokens makes texts that the model never saw, so a high value may measure surprise; read every
    value beside that of shuffled scores.

    >>> from probes.attribution.reagent.reagent import reagent
    >>> attribution = reagent("reference", ["Once upon a time there"], n_probes=2, max_steps=1, keep=2)
    >>> scores = faithfulness("reference", attribution, metrics=["comprehensiveness"], fractions=[0.5])
    >>> scores[["metric", "fraction", "control"]].values.tolist()
    [['comprehensiveness', 0.5, 'none'], ['comprehensiveness', 0.5, 'permuted']]
    """
    _check(metrics, fractions)
    check_counts(n_samples=n_samples)
    if min(n_random, n_draws) < 2:
        raise InputError(
            f"n_random={n_random}, n_draws={n_draws}; give at least 2 of each: shuffles are compared with shuffles."
        )
    loaded = load(subject)
    chosen = list(dict.fromkeys(metrics))
    settings: dict[str, Any] = {
        "metrics": chosen, **_replacing(replacement, usable, loaded), "fractions": list(fractions),
        "normalise": normalise, "unit": unit, "absolute": absolute, "log_odds": log_odds, "protect_last": protect_last,
        "n_random": n_random, "n_draws": n_draws, "n_samples": n_samples,
    }  # fmt: skip
    deleting = isinstance(replacement, str) and replacement == "delete"
    given = attributions(loaded, frame, unit=unit, absolute=absolute, protect_last=protect_last or deleting)
    settings |= {"runs": sorted(frame["run_id"].unique()), "scores_sha256": digest_of(frame)}
    run = Run(FAITHFULNESS, loaded, None, parameters=settings, seed=seed)
    measurement = Measurement(
        subject=run.subject, attributions=given, metrics=chosen, replacement=replacement, usable=usable,
        fractions=fractions, normalise=normalise, log_odds=log_odds, n_random=n_random, n_draws=n_draws,
        n_samples=n_samples, seed=seed,
    )  # fmt: skip
    intact = measurement.intact  # run once without edits first: verification must see the unedited model
    say_cost_of(run, measurement)
    measured = []
    with progress_bar(len(given), "target", FAITHFULNESS.probe) as bar:
        for index in range(len(given)):
            measured.append(list(measurement.measure(index)))
            bar.update()
    warn_of_chance(measured)
    return run.frame(_columns(*of_target) for of_target in zip(given, intact, measured, strict=True))


def _replacing(replacement: Replacement | Counts, usable: Usable, subject: Subject) -> dict[str, Any]:
    """Return the provenance of what replaces tokens."""
    if usable is not None and isinstance(replacement, str) and replacement != "unigram":
        raise InputError(f"replacement={replacement!r} draws no tokens; leave usable= out.")
    return sampler_facts(replacement, subject, "replacement", usable)


def _columns(attribution: Attribution, intact: np.ndarray, rows: list[Measured]) -> dict[str, Any]:
    shared: dict[str, Any] = {
        "prompt_id": attribution.prompt_id,
        "target_pos": attribution.target_pos,
        "target_id": attribution.passage.target_id,
        "against_id": -1 if attribution.passage.against_id is None else attribution.passage.against_id,
        "prob_intact": intact[0],
        "is_argmax": intact[1] == 0,
        "logit_diff_intact": intact[2],
        "n_units": len(attribution.passage.members),
    }
    texts = ("metric", "control")
    numbers = ("fraction", "value", "value_se", "value_random", "unclipped")
    return (
        shared
        | {name: np.array([getattr(row, name) for row in rows], dtype=object) for name in texts}
        | {name: np.array([getattr(row, name) for row in rows], dtype=float) for name in numbers}
        | {
            "method": np.array([row.scored.method for row in rows], dtype=object),
            "n_ties": np.array([n_ties(row.scored.scores) for row in rows]),
        }
    )


def _check(metrics: Sequence[str], fractions: Sequence[float]) -> None:
    if not metrics:
        raise InputError(f"metrics={metrics!r}; give a list of one or more of {list(METRICS)}.")
    if not len(fractions) or not all(0 < fraction <= 1 for fraction in fractions):
        raise InputError(f"fractions={list(fractions)}; give shares of the tokens above 0 and up to 1.")
