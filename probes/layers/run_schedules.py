"""What would a model predict with its blocks in another order, after Lad, Gurnee & Tegmark (arXiv 2406.19384)?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from interp.authoring import (
    ChosenPositions,
    Column,
    InputError,
    Positions,
    Run,
    Schema,
    Source,
    Subject,
    Texts,
    columns,
    load,
    positions_of,
    probe,
    select_positions,
)
from interp.model.schedules import Schedule, check_schedules, plan
from probes import papers
from probes.layers import plots
from probes.layers._against_intact import AT, METRICS, SUMMED, by_prompt, metrics, states_per_layer, summarise

SCHEDULES = Schema(
    probe="run_schedules",
    paper=papers.STAGES_OF_INFERENCE,
    rows="one per prompt, position and schedule",
    columns=columns(*AT, Column("schedule", "str", "name of the order in which the blocks ran"), *METRICS),
    summary_by=("schedule",),
    summary_of=("top1_agrees", "kl", "loss_change"),
)


def _summarise_schedules(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    return summarise(frame, SCHEDULES.summary_by, **options)


def _reduce(table: pa.Table) -> pd.DataFrame:
    return by_prompt(table.to_pandas(), SCHEDULES.summary_by)


def _orders(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    """Return schedules with the middle blocks (all but the first two and last two) in other orders than their own."""
    blocks = range(subject.n_layers)
    head, middle, tail = blocks[:2], blocks[2:-2], blocks[-2:]
    orders = {"left out": (), "reversed": middle[::-1], "run twice": (*middle, *middle)}
    return {"schedules": {f"middle {name}": (*head, *order, *tail) for name, order in orders.items()}}


@probe(
    SCHEDULES,
    plot=plots.run_schedules,
    summarise=_summarise_schedules,
    reduce=_reduce,
    reduce_from=SUMMED,
    example=_orders,
)
def run_schedules(
    subject: Source,
    texts: Texts,
    schedules: Mapping[str, Schedule],
    *,
    positions: Positions = None,
    out: str | Path | None = None,
    truncate: bool = False,
) -> pd.DataFrame:
    """Run the blocks in any order and compare with the intact model; metrics as in `layer_robustness`.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        schedules: name -> order of block numbers; blocks may be left out and repeated. `interp.model.schedules.plan`
            shows the block runs they need.
        positions: see `layer_robustness`.
        out: see `layer_robustness`.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, position and schedule.

    Raises:
        InputError: there are no schedules, or one names a block that the model does not have.

    Cost: one run of each block of a schedule behind what it shares with others, and an unembedding for each schedule.

    Pitfall: most orders leave the distribution the model was trained on; a large KL says that, not which block did
    what.

    >>> frame = run_schedules("reference", "prompts", {"reversed": range(7, -1, -1), "intact": range(8)}, positions=-1)
    >>> bool(frame.query("schedule == 'intact'").top1_agrees.all())
    True
    """
    if not isinstance(schedules, Mapping) or not schedules:
        raise InputError("schedules is not a dict with at least one name -> order of blocks; pass {'mine': (0, 2, 1)}.")
    subject = load(subject)
    check_schedules(schedules.values(), subject.n_layers)
    orders = {str(name): tuple(map(int, order)) for name, order in schedules.items()}
    parameters = {"schedules": orders, "positions": positions}
    run = Run(SCHEDULES, subject, texts, parameters=parameters, truncate=truncate, out=out)
    asked = positions_of(run.subject, run.tokens, positions)
    return run.frame(_schedule_rows(run, orders, asked))


def _schedule_rows(
    run: Run, orders: Mapping[str, Schedule], asked: ChosenPositions | None
) -> Iterator[dict[str, np.ndarray]]:
    made = plan(orders)
    by_variant = {"schedule": np.array(list(orders), dtype=object)}
    for batch in run.batches(states_per_layer(run.subject, len(orders))):
        row, pos = select_positions(batch, asked)
        yield metrics(run, batch, row, pos, made, lambda tape: {}, by_variant)
