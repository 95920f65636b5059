"""Which blocks can a model lose, and which can change places, after Lad, Gurnee & Tegmark (arXiv 2406.19384)?

Blocks are deleted, swapped with their neighbour, repeated, or silenced in part; the output is compared with the intact
model's at the same position. The control replaces the block's contribution by its contribution on another prompt: this
distinguishes a block that the model can lose from one that adds nothing specific to the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from interp.authoring import (
    Batch,
    ChosenPositions,
    Column,
    InputError,
    Positions,
    Run,
    Schema,
    Source,
    Texts,
    columns,
    donor_prompts,
    positions_of,
    probe,
    say_cost,
    select_positions,
    warn,
)
from interp.model.schedules import Root
from interp.model.tape import Tape
from probes import papers
from probes.layers import plots
from probes.layers._against_intact import AT, METRICS, SUMMED, by_prompt, metrics, states_per_layer, summarise
from probes.layers._variants import (
    CONTROL,
    Variant,
    plan_of,
    sites_to_silence,
    starts_of,
    variants,
    written_by_blocks,
)

ROBUSTNESS = Schema(
    probe="layer_robustness",
    paper=papers.STAGES_OF_INFERENCE,
    rows="one per prompt, position, intervention (or control) and block",
    columns=columns(
        *AT,
        Column("intervention", "str", "delete, swap, ...; resample is the control"),
        Column("layer", "int", "the block changed, 0..L-1; the first one if there are several", low=0),
        *METRICS,
        "control",
    ),
    summary_by=("intervention", "control", "layer"),
    summary_of=("top1_agrees", "kl", "loss_change"),
)


def _summarise_robustness(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    return summarise(frame, ROBUSTNESS.summary_by, **options)


def _reduce(table: pa.Table) -> pd.DataFrame:
    return by_prompt(table.to_pandas(), ROBUSTNESS.summary_by)


@probe(ROBUSTNESS, plot=plots.robustness, summarise=_summarise_robustness, reduce=_reduce, reduce_from=SUMMED)
def layer_robustness(
    subject: Source,
    texts: Texts,
    *,
    interventions: Sequence[str] = ("delete", "swap"),
    positions: Positions = None,
    controls: Sequence[str] = (CONTROL,),
    seed: int = 0,
    out: str | Path | None = None,
    truncate: bool = False,
) -> pd.DataFrame:
    """Delete, swap, repeat or silence each block in turn, and compare with the intact model.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        interventions: the paper's "delete" (block i does nothing) and "swap" (blocks i and i + 1 change places), and
            ours: "repeat" (block i runs twice), "delete_attn", "delete_mlp" (block i without one of its parts),
            "delete_run(k)" (blocks i to i + k - 1 do nothing).
        positions: the position or positions to compare in every prompt, see `logit_lens`; None takes all. At
            a prompt's last position, which has no next token, losses and ranks are missing.
        controls: ("resampled",) adds rows in which block i's contribution is its contribution on another prompt, the
            donor, at the same position. The donor is drawn among the other prompts at least as long, by the contents of
            both and the seed, so that neither the order of prompts nor another one in the set changes it, unless that
            becomes the donor. If the longest prompt has none as long, its positions beyond the donor's end are left
            out. () adds none.
        seed: of the draw of donors.
        out: a folder to save rows as Parquet as they are computed; after an interruption the same call continues, and
            returns all rows.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, position, intervention and block: divergence from the intact model, losses of the actual
        next token (missing at a prompt's last position), entropies, ranks, and whether the argmax is the same.

    Raises:
        InputError: an intervention, control, position or text cannot be used.
        ModelError: the model's replay is not exact, or its blocks do not show their parts ("delete_attn",
            "delete_mlp").

    Cost for L blocks, deletions and swaps: about L² block runs in 2 (L - 1) calls, as variants share the blocks they
    begin with and pass through each block as one batch, and 2L - 1 unembeddings of the chosen positions; the control
    adds L²/2 block runs, a forward pass and L unembeddings.

    Pitfall: a block without which the top token stays may still matter for rarer tokens: look at the KL too, and at
    "resample", which tells a block that can go from one that says nothing of the prompt.

    >>> texts = ["Once upon a time there was a", "The cat sat on the mat"]
    >>> frame = layer_robustness("reference", texts, positions=-1)
    >>> frame.groupby(["intervention", "control"]).layer.nunique().to_dict()
    {('delete', 'none'): 8, ('resample', 'resampled'): 8, ('swap', 'none'): 7}
    """
    parameters = {"interventions": list(interventions), "positions": positions, "controls": list(controls)}
    run = Run(ROBUSTNESS, subject, texts, parameters=parameters, truncate=truncate, seed=seed, out=out)
    if set(controls) - {CONTROL}:
        raise InputError(f"controls={tuple(controls)!r}: the control here is {CONTROL!r}; () leaves it out.")
    resampled = bool(controls) and len(run.tokens) > 1
    if controls and not resampled:
        warn("no control: it needs a second text as a donor; pass at least two.")
    chosen = variants(interventions, run.subject.n_layers, resampled=resampled)
    if not chosen:
        raise InputError("nothing to do: name at least one intervention, such as 'delete'.")
    asked = positions_of(run.subject, run.tokens, positions)
    n_tokens = sum(map(len, run.tokens.ids))
    n_read = n_tokens if asked is None else len(asked)
    # A variant shares the blocks before its own with the intact model: half of them, on average.
    say_cost(run, passes=1 + resampled + len(chosen) / 2, unembedded=(1 + len(chosen)) * n_read)
    return run.frame(_robustness_rows(run, chosen, asked, seed if resampled else None))


def _robustness_rows(
    run: Run, chosen: Sequence[Variant], asked: ChosenPositions | None, seed: int | None
) -> Iterator[dict[str, np.ndarray]]:
    made, silenced = plan_of(chosen), sites_to_silence(run.subject, chosen)
    lengths = [len(ids) for ids in run.tokens.ids]
    donor = None if seed is None else donor_prompts(run.tokens.ids, seed)
    by_variant = {
        "intervention": np.array([one.intervention for one in chosen], dtype=object),
        "layer": np.array([one.layer for one in chosen]),
        "control": np.array([one.control for one in chosen], dtype=object),
    }
    for batch in run.batches(states_per_layer(run.subject, len(chosen), donors=donor is not None)):
        row, pos = select_positions(batch, asked)
        written = [] if donor is None else _written_on_donors(run, batch, donor)

        def starts(tape: Tape, written: Sequence[Tensor] = written) -> dict[Root, Callable[[], Tensor]]:
            return starts_of(tape, chosen, silenced, written)

        rows = metrics(run, batch, row, pos, made, starts, by_variant)
        if donor is not None:
            reach = torch.tensor([lengths[index] for index in donor[batch.prompts.numpy()]])[row]
            beyond = np.repeat((pos >= reach).numpy(), len(chosen)) & (rows["control"] == CONTROL)
            rows = {name: values[~beyond] for name, values in rows.items()}
        yield rows


def _written_on_donors(run: Run, batch: Batch, donor: np.ndarray) -> list[Tensor]:
    """Return each block's contribution on each prompt's donor, [batch, pos, d_model]; not valid beyond its end."""
    ids = torch.zeros_like(batch.ids)
    for place, index in enumerate(donor[batch.prompts.numpy()]):
        given = run.tokens.ids[index][: ids.shape[1]]
        ids[place, : len(given)] = given
    return run.subject.run(ids, written_by_blocks)
