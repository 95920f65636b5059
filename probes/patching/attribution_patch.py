"""Attribution patching: the effect of every patch to first order, from one backward pass, and how wrong that is.

After Nanda (2023) and Syed et al. (2023); along the path between both runs it is the integrated gradient of Hanna et
al. (2024, EAP-IG). The method is fast because it is an estimate, so some places, drawn at random, are patched exactly
in the same call: the frame says how the estimate ranks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from interp.authoring import (
    VOCABULARY,
    Column,
    InputError,
    Layers,
    Positions,
    Run,
    Schema,
    Source,
    Subject,
    Texts,
    columns,
    probe,
    progress_bar,
    say_cost,
)
from interp.stats import bootstrap_over_prompts
from probes import papers
from probes.patching import plots
from probes.patching._asking import MOST_BESIDE, Mode, Settings, batches_of, begin, n_patches_of
from probes.patching._batch import columns_of, patched_values, variants_of
from probes.patching._frames import PLACE, compared
from probes.patching._gradients import Method, estimates_of, of_variants
from probes.patching._layout import Asked
from probes.patching._metric import Metric
from probes.patching._pairs import Corruption, Tokened
from probes.patching._sites import SiteNames
from probes.patching._variants import Variant

ATTRIBUTION_PATCH = Schema(
    probe="attribution_patch",
    paper=papers.ATTRIBUTION_PATCHING,
    rows="one per prompt, site, layer, head, position, method and control",
    columns=columns(
        *PLACE,
        VOCABULARY["method"].with_(meaning="'gradient': at the run that is patched; 'path': its mean to the other run"),
        Column("estimate", "float", "the effect to first order: change times gradient", "see metric"),
        Column("effect", "float", "the effect of patching there, as in `patch`; missing where not run", missing=True),
        Column("value_clean", "float", "the metric of the clean run", "see metric"),
        Column("value_corrupt", "float", "the metric of the corrupt run", "see metric"),
        VOCABULARY["control"].with_(meaning="'none', or 'random': a random gradient as long at every position"),
    ),
    summary_by=("method", "control"),
    summary_of=("spearman", "error"),
)
_STATES = 24  # residuals per layer that a backward pass keeps


def summarise_estimates(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Compare estimates with exact effects, over the places of each prompt that were patched and changed.

    Args:
        frame: of `attribution_patch`.
        options: of `interp.stats.bootstrap_over_prompts`.

    Returns:
        One row per method and control, means over prompts with 95 % bootstrap intervals: `spearman`, the rank
        correlation of estimate and effect; `error`, the sum of absolute errors over the sum of absolute effects, which
        is 1 for an estimate of 0; and `n_places`, the places of a prompt.

    Raises:
        InputError: no effect was measured, see `exact=`.
    """
    keys = ["model", "run_id", "method", "control"]
    rows = []
    for key, one in compared(frame).groupby([*keys, "prompt_id"]):
        size = one["effect"].abs().sum()
        error = (one["estimate"] - one["effect"]).abs().sum() / size if size else np.nan
        ranked = min(one["estimate"].nunique(), one["effect"].nunique()) > 1
        correlation = one["estimate"].corr(one["effect"], method="spearman") if ranked else np.nan
        rows.append((*key, correlation, error, len(one)))
    table = pd.DataFrame(rows, columns=[*keys, "prompt_id", "spearman", "error", "n_places"])
    summary = bootstrap_over_prompts(table, keys, ["spearman", "error"], **options)
    summary["n_places"] = table.groupby(keys)["n_places"].mean().to_numpy()
    summary.attrs["note"] = "rank correlation and error per prompt, then means; 95 % bootstrap over prompts"
    return summary


def _example(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
    return {"clean": texts.head(2), "corrupt": None, "corruption": "noise", "positions": (-2, -1), "exact": 0.5}


@probe(ATTRIBUTION_PATCH, plot=plots.estimates, summarise=summarise_estimates, example=_example, jointly=True)
def attribution_patch(
    subject: Source,
    clean: Texts,
    corrupt: Texts | None,
    *,
    sites: SiteNames = ("resid_pre", "attn_out", "mlp_out"),
    positions: Positions = None,
    layers: Layers = None,
    heads: Layers = None,
    metric: Metric = "logit_diff",
    mode: Mode = "denoise",
    target: Tokened = None,
    against: Tokened = None,
    corruption: Corruption = "prompt",
    noise: float = 3.0,
    noised: Positions = None,
    draws: int = 1,
    methods: Sequence[Method] = ("gradient", "path"),
    steps: int = 5,
    exact: float = 0.2,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Estimate the effect of every patch from one backward pass, and patch some exactly to say how wrong that is.

    Args:
        subject: see `patch`.
        clean: see `patch`.
        corrupt: see `patch`.
        sites: see `patch`.
        positions: see `patch`.
        layers: see `patch`.
        heads: see `patch`.
        metric: see `patch`.
        mode: see `patch`.
        target: see `patch`.
        against: see `patch`.
        corruption: see `patch`.
        noise: see `patch`.
        noised: see `patch`.
        draws: see `patch`.
        methods: "gradient", the gradient in the run that is patched; "path", its mean along the straight line from that
            run's embeddings to the other's (EAP-IG), at the midpoints of `steps` parts.
        steps: parts of the path, each a forward and a backward pass.
        exact: the share of places that are patched too, drawn at random; 0 for none, 1 for all.
        seed: of noise, draws, places to patch and the control.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, site, layer, head, position, method and control. `effect` is missing where nothing was
        patched. `.interp.summary()` has the rank correlation of both, and the error.

    Raises:
        InputError: as `patch`, or `steps` or `exact` are out of range.
        UnknownName, ModelError: as `patch`.

    Cost: three forward passes, a forward and a backward pass for the gradient and for each step of the path, and the
    share `exact` of the block runs of `patch`.

    Pitfall: where attention or a norm saturates, the gradient sees nothing of what a patch does: the estimate is worst
    for the residual stream of early layers, so read the summary before the ranking.

    >>> girl, boy = "The little girl was very happy. She", "The little boy was very happy. He"
    >>> frame = attribution_patch("reference", girl, boy, sites="mlp_out", positions=-1, exact=1.0)
    >>> summary = frame.interp.summary().query("control == 'none'").set_index("method")
    >>> bool((summary.spearman > 0.5).all())
    True
    """
    if steps < 1:
        raise InputError(f"steps={steps}: give 1 or more.")
    if not 0 <= exact <= 1:
        raise InputError(f"exact={exact}: give a share of the places, from 0 to 1.")
    named = list(dict.fromkeys(methods))
    if not named:
        raise InputError("methods is empty; name at least one of 'gradient' and 'path'.")
    settings = Settings(
        sites, positions, layers, heads, metric, mode, target, against, corruption, noise, noised, draws, seed, truncate
    )
    more = {"methods": named, "steps": steps, "exact": exact}
    run, asked = begin(ATTRIBUTION_PATCH, subject, clean, corrupt, settings, more=more)
    return run.frame(_rows(run, asked, named, steps, exact))


def _rows(run: Run, asked: Asked, methods: list[Method], steps: int, exact: float) -> Iterator[dict[str, np.ndarray]]:
    n_patches, n_points = n_patches_of(run, asked), sum(1 if one == "gradient" else steps for one in methods)
    passes = (3 + 3 * n_points + exact * n_patches / 2) * asked.corrupt.draws
    say_cost(run, passes=passes, unembedded=len(run.tokens) * exact * n_patches)
    states = max(_STATES, min(n_patches, MOST_BESIDE) / run.subject.n_layers)
    with progress_bar(n_patches * len(run.tokens), "place", "attribution_patch") as bar:
        for rows, sides in batches_of(run, asked, states_per_layer=states):
            listed = variants_of(asked, rows, sides.source)
            variants = [variant for _, variant in listed]
            found = estimates_of(run.subject, asked.with_controls("none", "random"), rows, sides, methods, steps)
            drawn = [index for index, one in enumerate(variants) if _share_of(one, asked.seed) < exact]
            bar.update((len(variants) - len(drawn)) * len(rows.batch.ids))
            some, chosen = patched_values(
                run.subject, asked, rows, sides, [variants[index] for index in drawn], bar.update
            )
            values = some.new_full((2 + len(variants), some.shape[1]), np.nan)
            values[:2] = some[:2]
            values[[2 + index for index in drawn]] = some[2:]
            for (method, control), of in found.items():
                estimate = of_variants(of, variants, rows, asked.corrupt.draws)
                columns = columns_of(run, asked, rows, sides.reach, listed, values, chosen, estimate=estimate)
                n = len(columns["pos"])
                yield {
                    **columns,
                    "method": np.full(n, method, dtype=object),
                    "control": np.full(n, control, dtype=object),
                }


def _share_of(variant: Variant, seed: int) -> float:
    """Return a number in 0..1 that is random, but always the same for a place and a seed."""
    return crc32(f"{variant.key} {variant.head} {variant.slot} {seed}".encode()) / 2**32
