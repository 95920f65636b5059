"""Activation patching: which activation of one run, put into another, brings its next token along?

The corrupt run of causal tracing (Meng et al. 2022) and of interchange interventions (Vig et al. 2020), with the two
controls that tell a cause from a change: the same place of an unrelated prompt, and a random change of equal norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import (
    Column,
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
from probes import papers
from probes.patching import plots
from probes.patching._asking import MOST_BESIDE, Control, Mode, Settings, batches_of, begin, n_patches_of
from probes.patching._batch import columns_of, patched_values, variants_of
from probes.patching._frames import GROUPS, PLACE, summarise
from probes.patching._layout import Asked
from probes.patching._metric import Metric
from probes.patching._pairs import Corruption, Tokened
from probes.patching._sites import SiteNames

PATCH = Schema(
    probe="patch",
    paper=papers.PATCHING,
    rows="one per prompt, site, layer, head, position and control",
    columns=columns(
        *PLACE,
        Column("value_clean", "float", "the metric of the clean run", "see metric"),
        Column("value_corrupt", "float", "the metric of the corrupt run", "see metric"),
        Column("value", "float", "the metric of the patched run", "see metric"),
        Column("effect", "float", "`value` without that of the run that is patched", "see metric"),
        Column("recovered", "float", "the effect as a share of the difference of both runs: 1 is all", missing=True),
        Column("control", "str", "'none'; 'other': an unrelated prompt's activation; 'random': a change as large"),
    ),
    summary_by=GROUPS,
    summary_of=("effect", "recovered"),
)


def summarise_patches(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Average effects over prompts for every place, with 95 % bootstrap intervals; positions count from the end."""
    return summarise(frame, PATCH.summary_of, **options)


def _example(subject: Subject, texts: pd.DataFrame) -> Mapping[str, Any]:
    return {"clean": texts.head(2), "corrupt": None, "corruption": "noise", "positions": (-3, -2, -1)}


@probe(PATCH, plot=plots.patches, summarise=summarise_patches, example=_example, jointly=True, costly=True)
def patch(
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
    controls: Sequence[Control] = ("other", "random"),
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Put one activation of a clean run into a corrupt one, or the other way round, and measure the next token.

    Args:
        subject: anything `interp.load` takes.
        clean: anything `Subject.tokens` takes.
        corrupt: a prompt of as many tokens for each clean one; for "resample" and "mean" the set, by default the clean
            prompts themselves (None); None for "noise".
        sites: one or several of "resid_pre" (enters a block), "resid_mid" (between attention and MLP), "resid_post"
            (leaves it), "attn_out", "mlp_out", "norm1" and "norm2" (what each of the two reads), "neurons_pre",
            "neurons", "router", and head by head "q", "k", "v", "scores", "pattern", "z" (what a head has mixed by its
            pattern) and "head_out" (what it adds: the same patches as of "z"); see `interp.model.sites`.
        positions: the positions to patch one by one, see `logit_lens`; None takes each in turn, "all"
            patches all of them together. That of "scores" and "pattern" is the query's: a whole row over keys is
            patched.
        layers: blocks, 0..L-1; None takes all.
        heads: for sites with heads, which of them to patch; None takes each in turn. Heads may share "k" and "v".
        metric: "logit_diff" (the target's logit minus that of `against`), "log_prob" (of the target, nats) or "kl"
            (minus KL(clean || here), nats), after the last token; each is larger the more clean the run is.
        mode: "denoise" puts clean activations into the corrupt run: is a place enough? "noise" puts corrupt ones into
            the clean run: is it needed?
        target: the token that the clean prompt asks for, as text or id, or one for each prompt; None takes the clean
            run's most probable one.
        against: the token that the corrupt prompt asks for; None takes the corrupt run's most probable one but the
            target.
        corruption: "prompt"; "noise" on the embeddings (causal tracing); "resample", a text of the set drawn for each
            prompt; "mean", activations averaged over the set position by position (`mode="noise"` only).
        noise: standard deviation of the noise, in those of the entries of the prompt's embeddings.
        noised: the positions with noise, such as those of the subject of a fact, see `logit_lens`; None takes all.
        draws: corrupt runs of each prompt to average over, for "noise" and "resample".
        controls: "other" puts there what another of the prompts has at the same place; "random" adds a random vector of
            the norm of the patch's own change (of "scores" and "pattern" among the keys that the query sees, with a
            sum of 0). () adds none.
        seed: of noise, draws and controls; each prompt's depend on its tokens, on no order or batch.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, site, layer, head, position and control. `recovered` is missing where clean and corrupt run
        have the same metric. "other" has no rows at positions behind the end of the prompt that it is taken from.

    Raises:
        InputError: a pair is of unequal length (the alignment is shown), or an argument cannot be used; "embed", which
            is of no block, is patched as "resid_pre" of block 0.
        UnknownName: there is no such site.
        ModelError: the architecture does not show a site, or its replay is not exact.

    Cost for n places in each of L blocks: two forward passes, one more for "other", and n L² / 2 block runs for the
    patches and as many for each control. A patched run begins behind its patch, and all ride in one batch.

    Pitfall: one place that recovers all need not be the only one, and none that does may mean that several do it
    together; compare both modes, and read `recovered` beside both controls.

    >>> girl, boy = "The little girl was very happy. She", "The little boy was very happy. He"
    >>> frame = patch("reference", girl, boy, positions=[2, -1], controls=("random",))
    >>> best = frame[frame.control == "none"].groupby(["site", "to_end"]).recovered.max().round(1)
    >>> float(best["resid_pre", 0]), float(best["resid_pre", 6])
    (1.0, 0.0)
    """
    settings = Settings(
        sites, positions, layers, heads, metric, mode, target, against, corruption, noise, noised, draws, seed, truncate
    )
    run, asked = begin(PATCH, subject, clean, corrupt, settings, controls=controls)
    return run.frame(_rows(run, asked))


def _rows(run: Run, asked: Asked) -> Iterator[dict[str, np.ndarray]]:
    n_patches = n_patches_of(run, asked)
    # A patched run goes through half of the blocks, on average.
    say_cost(run, passes=(3 + n_patches / 2) * asked.corrupt.draws, unembedded=len(run.tokens) * n_patches)
    with progress_bar(n_patches * len(run.tokens), "run", "patch") as bar:
        for rows, sides in batches_of(run, asked, states_per_layer=min(n_patches, MOST_BESIDE) / run.subject.n_layers):
            listed = variants_of(asked, rows, sides.source)
            variants = [variant for _, variant in listed]
            values, chosen = patched_values(run.subject, asked, rows, sides, variants, bar.update)
            yield columns_of(run, asked, rows, sides.reach, listed, values, chosen)
