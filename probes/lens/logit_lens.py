"""The logit lens (nostalgebraist, 2020): what would the model say if it stopped here?

The residual at every layer is read through the model's own final norm and unembedding. Norm statistics are computed
at every layer; the last layer is the model's own output, which is checked, not assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from torch import Tensor

from interp.authoring import (
    Column,
    InputError,
    Layers,
    Positions,
    Run,
    Schema,
    Source,
    Texts,
    columns,
    means_per_prompt,
    next_tokens,
    positions_of,
    probe,
    rows_of_block,
    select_positions,
    summarise_by_prompt,
    warn,
    warn_of_end,
)
from interp.model.readout import Readout
from interp.stats import repeats_in_a_row
from probes import papers
from probes.lens import explore, plots
from probes.lens._arrivals import arrivals, mean_arrivals
from probes.lens._jacobian import JacobianLens
from probes.lens._maps import TunedLens
from probes.lens._places import (
    AT,
    STATES,
    Place,
    lenses_of,
    place_columns,
    places_of,
    read_places,
    say_cost_of,
    translated_places,
)
from probes.lens._targets import Targets, chosen_targets

LENS = Schema(
    probe="logit_lens",
    paper=papers.LOGIT_LENS,
    rows="one per prompt, position, layer and target",
    columns=columns(
        *AT,
        Column(
            "lens", "str", "'logit'; 'tuned' or 'jacobian': through a map of its layer, trained or the mean derivative"
        ),
        "target_id",
        "target",
        "log_prob",
        "rank",
        "entropy",
        Column("kl_to_final", "float", "KL(the model's output || the distribution here)", "nats", low=0.0),
        Column("top1_id", "int", "the most probable next token here", low=0),
        Column("top1", "str", "`top1_id` as text"),
        Column("top1_prob", "float", "probability of `top1_id`", "0..1", low=0.0, high=1.0),
        Column("agrees_final", "bool", "whether `top1_id` is the model's own most probable token"),
    ),
    summary_by=("layer", "sublayer", "lens"),
    summary_of=("log_prob", "rank", "entropy", "kl_to_final", "agrees_final"),
    shown="kl_to_final",
)


def summarise_lens(frame: pd.DataFrame, by: str = "layer", kl_below: float = 0.1, **options: Any) -> pd.DataFrame:
    """Summarise a lens frame by layer, by position or by run.

    The layers in which an answer arises are the first of the layers read from which on, up to the last, a criterion
    holds; missing if it does not hold at the last:
    `target_layer`, the target has rank 0; `convergence_layer`, the argmax is the model's own; `kl_layer`, the
    divergence of the model's output from the distribution there is below `kl_below`.

    Args:
        frame: of `logit_lens`.
        by: "layer": means over prompts with 95 % bootstrap intervals, without position 0; one row per layer and, if
            several targets were scored, target. "position": the layers in which an answer arises, one row per prompt,
            position and target. "run": their means over prompts with 95 % bootstrap intervals, each over the places
            where it is not missing, and the share of places where the target arrives (`target_arrives`), without
            position 0.
        kl_below: nats.
        options: of `interp.stats.bootstrap_over_prompts`.

    Raises:
        InputError: `by` is none of these, or `kl_below` is not above 0.

    >>> frame = logit_lens("reference", "The little girl was very", targets=" happy", positions=-1)
    >>> frame.interp.summary(by="position")[["target", "target_layer", "convergence_layer", "kl_layer"]].values.tolist()
    [[' happy', 3, 3, 7]]
    """
    if by == "position":
        return arrivals(frame, kl_below)
    if by == "run":
        return mean_arrivals(frame, kl_below, _several_targets(frame), **options)
    if by != "layer":
        raise InputError(f"cannot sum a lens up by {by!r}; choose 'layer', 'position' or 'run'.")
    summary = summarise_by_prompt(_BY_TARGET if _several_targets(frame) else LENS, frame, **options)
    depth = summary["sublayer"].map({"pre": 0, "mid": 1, "final": 0})
    return summary.iloc[
        np.lexsort((depth, summary["layer"], summary["lens"], summary["run_id"], summary["model"]))
    ].reset_index(drop=True)


def _several_targets(frame: pd.DataFrame) -> bool:
    return bool(frame.duplicated(["run_id", "prompt_id", "pos", "layer", "sublayer", "lens"]).any())


_SUMMED_FROM = (*LENS.summary_of, "target_id", "target")
_BY_TARGET = replace(LENS, summary_by=(*LENS.summary_by, "target_id", "target"))


def _means(table: pa.Table) -> pd.DataFrame:
    # The targets of a place are next to each other.
    several = repeats_in_a_row(table, ["layer", "sublayer", "lens", "pos", "prompt_id"])
    return means_per_prompt(_BY_TARGET if several else LENS, table)


@probe(
    LENS,
    plot=plots.lens,
    explore=explore.lens,
    summarise=summarise_lens,
    reduce=_means,
    reduce_from=(*LENS.summary_of, "target_id", "target"),
)
def logit_lens(
    subject: Source,
    texts: Texts,
    *,
    targets: Targets = "next",
    positions: Positions = None,
    layers: Layers = None,
    sublayers: bool = False,
    final_norm: bool = True,
    lens: TunedLens | JacobianLens | str | Sequence[TunedLens | JacobianLens | str] | None = None,
    truncate: bool = False,
) -> pd.DataFrame:
    """Read every layer's residual as a next-token distribution.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes; one that ends in a space of the next word's token is warned of once.
        targets: what to score at every position: "next" (the actual next token; missing at a prompt's last position,
            with a warning if no other is read),
            "argmax" (the model's own most probable token), a token as text, an id, or a list of tokens and ids, which
            are scored in every prompt. A list of lists gives each prompt its own: `[[" Paris"], [" Rome"]]`. (What was
            surely meant so is refused: as many as there are prompts, one of them twice; a column's name.)
        positions: the position or positions to read in every prompt, negative ones from its end; a token's string such
            as `" Paris"` reads every place where it stands; None and "all" read all.
        layers: the layer or layers to read, 0..L, negative ones from the last; None and "all" read all.
        sublayers: also read the residual between attention and MLP of every block (rows with `sublayer` "mid").
        final_norm: False skips the final norm, as LLM-Microscope's lens does; layer L is then not the model's output.
        lens: a lens of `tuned_lens` or `jacobian_lens`, one of each, a file of one, or "reference", the shipped model's
            tuned lens. The frame then holds it beside the logit lens, always with layer 0. That layer has read only the
            token itself: what a lens of it knows comes from the maps, not from the layers. (A published Jacobian lens
            has no layer 0.)
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, position, layer (and target): log-probability and rank of the target, entropy,
        KL(model output || here) and the most probable token. Nats; ranks from 0, ties do not count.

    Raises:
        InputError: a text, position, layer or target cannot be used.
        ModelError: the model's output cannot be reproduced from its residuals, or the lens is another model's.
        NumericalError: NaN in the logits.

    Cost: one forward pass and L + 1 unembeddings per position, streamed.

    Pitfall: early layers look wrong where they only use another basis: a rank that is high there does not mean that
    nothing is known. A tuned lens shows the difference.

    >>> frame = logit_lens("reference", ["Once upon a time there was a little"], positions=-1, targets="argmax")
    >>> frame.layer.tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8]
    >>> frame.kl_to_final.iloc[-1], bool(frame.agrees_final.iloc[-1])
    (np.float64(0.0), True)

    In which layer does each prompt's answer arise? See `summarise_lens`.

    >>> texts = ["Once upon a", "The little girl was very"]
    >>> frame = logit_lens("reference", texts, targets=[[" time"], [" happy"]], positions=-1)
    >>> frame.interp.summary(by="position")[["target", "target_layer", "kl_layer"]].values.tolist()
    [[' time', 2, 6], [' happy', 3, 7]]
    """
    lenses = lenses_of(lens)
    digests = [one.digest for one in lenses]
    parameters = {
        "targets": targets,
        "positions": positions,
        "layers": layers,
        "sublayers": sublayers,
        "final_norm": final_norm,
        **({"lens": digests[0] if len(digests) == 1 else digests} if digests else {}),
    }
    run = Run(LENS, subject, texts, parameters=parameters, truncate=truncate)
    chosen = chosen_targets(targets, run.subject, run.tokens.table)
    places = places_of(run.subject, layers, sublayers)
    for one in lenses:
        one.check(run.subject)
    places += translated_places(lenses, layers, run.subject)
    asked = positions_of(run.subject, run.tokens, positions)
    if asked is None or asked.reaches_an_end:
        warn_of_end(run.subject, run.tokens)
    say_cost_of(run, places, asked)
    parts = []
    for batch in run.batches(STATES * (1 + sublayers)):
        row, pos = select_positions(batch, asked)
        scored = next_tokens(batch, row, pos) if chosen is None else chosen
        if isinstance(scored, Tensor) and chosen is not None:
            scored = scored.expand(len(row), -1) if len(scored) == 1 else scored[batch.prompts[row]]
        given = scored.clamp(min=0) if isinstance(scored, Tensor) else scored
        readout = read_places(run.subject, batch, row, pos, places, lenses=lenses, final_norm=final_norm, targets=given)
        missing = scored < 0 if isinstance(scored, Tensor) else None
        parts.append(_lens_columns(run.token_columns(batch, row, pos), places, readout, missing))
    if chosen is None and all((part["target_id"] < 0).all() for part in parts):
        warn(
            "no token follows the positions that were read, so log_prob, rank and target are missing everywhere; pass "
            "targets='argmax' or a token to score.",
        )
    return run.frame(parts)


def _lens_columns(
    at: Mapping[str, np.ndarray], places: list[Place], readout: Readout, missing: Tensor | None
) -> dict[str, np.ndarray]:
    log_prob = readout.log_prob.transpose(0, 1).numpy().astype(float)  # [row, place, target]
    rank = readout.rank.transpose(0, 1).numpy()
    target_id = readout.target_ids.numpy()[:, None, :]
    if missing is not None:
        absent = missing.numpy()[:, None, :]
        log_prob, rank, target_id = (
            np.where(absent, np.nan, log_prob),
            np.where(absent, -1, rank),
            np.where(absent, -1, target_id),
        )
    per_place = {
        "entropy": readout.entropy,
        "kl_to_final": readout.kl,
        "top1_id": readout.top_id[..., 0],
        "top1_prob": readout.top_log_prob[..., 0].exp(),
        "agrees_final": readout.top_id[..., 0] == readout.reference_top1,
    }
    return rows_of_block(
        log_prob.shape,
        by_row=at,
        by_place=place_columns(places),
        full={"target_id": target_id, "log_prob": log_prob, "rank": rank}
        | {name: value.numpy().T[:, :, None] for name, value in per_place.items()},
    )
