"""Which blocks can a model lose, and which can change places, after Lad, Gurnee & Tegmark (arXiv 2406.19384)?

Blocks are deleted, swapped with their neighbour, repeated, or silenced in part; what the model then says is compared
with what it says intact, at the same position. Beside it stands a control: the block's contribution is replaced by the
one it made on another prompt, which tells a block that can go from one that does nothing specific to the prompt.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp import plots
from interp.errors import InputError
from interp.frames import Column, Schema, columns, rows_of_block
from interp.loading import Source, load
from interp.readout import Readout
from interp.registry import probe
from interp.run import Run
from interp.schedules import Plan, Root, Schedule, check_schedules, plan
from interp.stats import bootstrap_over_prompts
from interp.subject import Subject
from interp.tape import Tape
from interp.tokens import Batch, Texts, check_positions, next_tokens, select_positions
from probes._interventions import (
    CONTROL,
    Variant,
    donors,
    plan_of,
    sites_to_silence,
    starts_of,
    variants,
    written_by_blocks,
)

PAPER = "Lad, Gurnee & Tegmark (2024), The Remarkable Robustness of LLMs: Stages of Inference?, arXiv 2406.19384"

_AT = ("model", "run_id", "prompt_id", "pos", "token_id", "token")
_METRICS = (
    Column("kl", "float", "KL(intact || otherwise)", "nats", low=0.0),
    Column("loss_intact", "float", "cross-entropy of the actual next token, intact", "nats", low=0.0, missing=True),
    Column("loss", "float", "the same, otherwise", "nats", low=0.0, missing=True),
    Column("loss_change", "float", "loss - loss_intact: positive is worse", "nats", missing=True),
    Column("top1_agrees", "bool", "whether the most probable token is still the intact model's"),
    Column("entropy_intact", "float", "entropy of the next-token distribution, intact", "nats", low=0.0),
    Column("entropy", "float", "the same, otherwise", "nats", low=0.0),
    Column("target_rank_intact", "id", "rank of the actual next token, intact; 0 is the argmax", low=0, missing=True),
    Column("target_rank", "id", "the same, otherwise", low=0, missing=True),
)

ROBUSTNESS = Schema(
    probe="layer_robustness",
    paper=PAPER,
    rows="one per prompt, position, intervention (or control) and block",
    columns=columns(
        *_AT,
        Column("intervention", "str", "what was done: delete, swap, ...; resample is the control"),
        Column("layer", "int", "the block it was done to, 0..L-1; the first of them where there are several", low=0),
        *_METRICS,
        "control",
    ),
    summary_by=("intervention", "control", "layer"),
    summary_of=("top1_agrees", "kl", "loss_change"),
)

SCHEDULES = Schema(
    probe="run_schedules",
    paper=PAPER,
    rows="one per prompt, position and schedule",
    columns=columns(*_AT, Column("schedule", "str", "name of the order in which the blocks ran"), *_METRICS),
    summary_by=("schedule",),
    summary_of=("top1_agrees", "kl", "loss_change"),
)


def summarise(frame: pd.DataFrame, by: Sequence[str], **options: Any) -> pd.DataFrame:
    """What was retained, per group; position 0 is left out.

    Args:
        frame: of a probe in this module.
        by: columns that define the groups.
        options: of `interp.stats.bootstrap_over_prompts`.

    Returns:
        Means over prompts of means over a prompt's positions, with 95 % bootstrap intervals: `top1_agrees` (share of
        top-1 predictions retained), `kl`, `kl_median` (of a prompt's positions), `loss_change`, `correct_intact` and
        `correct` (share of actual next tokens predicted), and `correct_retained`, the ratio of these two.
    """
    keys = ["model", "run_id", *by]
    kept = frame[frame["pos"] > 0].assign(
        correct_intact=lambda rows: rows["target_rank_intact"] == 0, correct=lambda rows: rows["target_rank"] == 0
    )
    kept["kl_median"] = kept.groupby([*keys, "prompt_id"])["kl"].transform("median")
    values = ["top1_agrees", "kl", "kl_median", "loss_change", "correct_intact", "correct"]
    summary = bootstrap_over_prompts(kept, keys, values, **options)
    summary["correct_retained"] = summary["correct"] / summary["correct_intact"]
    summary.attrs["note"] = "means per prompt, then over prompts; position 0 left out; 95 % bootstrap over prompts"
    return summary


def _summarise_robustness(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    return summarise(frame, ROBUSTNESS.summary_by, **options)


def _summarise_schedules(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    return summarise(frame, SCHEDULES.summary_by, **options)


@probe(ROBUSTNESS, plot=plots.robustness, summarise=_summarise_robustness)
def layer_robustness(
    subject: Source,
    texts: Texts,
    *,
    interventions: Sequence[str] = ("delete", "swap"),
    positions: int | Sequence[int] | None = None,
    controls: Sequence[str] = (CONTROL,),
    seed: int = 0,
    out: str | Path | None = None,
    bos: bool | None = None,
    truncate: bool = False,
) -> pd.DataFrame:
    """Delete, swap, repeat or silence each block in turn, and compare with the intact model.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        interventions: the paper's "delete" (block i does nothing) and "swap" (blocks i and i + 1 change places), and
            ours: "repeat" (block i runs twice), "delete_attn", "delete_mlp" (block i without one of its parts),
            "delete_run(k)" (blocks i to i + k - 1 do nothing).
        positions: compare only at this one or these of every prompt, negative ones from its end; None takes all.
        controls: ("resampled",) adds rows in which block i adds to the residual what it added on another prompt, at the
            same position; that prompt is drawn by `seed` among those at least as long, and where the longest
            prompt has no such donor its positions beyond are left out. () adds none.
        seed: of the control's donors.
        out: a folder where rows are kept as Parquet as they are made; the same call goes on where it was interrupted,
            and returns all rows.
        bos: see `probes.logit_lens`.
        truncate: see `probes.logit_lens`.

    Returns:
        One row per prompt, position, intervention and block: divergence from the intact model, losses of the actual
        next token (missing at a prompt's last position), entropies, ranks, and whether the argmax is the same.

    Raises:
        InputError: an intervention, control, position or text that cannot be used.
        ModelError: the model's replay is not exact, or its blocks do not show their parts ("delete_attn",
            "delete_mlp").

    Cost for L blocks, deletions and swaps: about L² block runs in 2 (L - 1) calls, as variants that begin alike share
    their beginning and all climb the model together, and 2L - 1 unembeddings of the chosen positions; the control adds
    L²/2 block runs, a forward pass and L unembeddings.

    >>> texts = ["Once upon a time there was a", "The cat sat on the mat"]
    >>> frame = layer_robustness("reference", texts, positions=-1)
    >>> frame.groupby(["intervention", "control"]).layer.nunique().to_dict()
    {('delete', 'none'): 8, ('resample', 'resampled'): 8, ('swap', 'none'): 7}
    """
    parameters = {"interventions": list(interventions), "positions": positions, "controls": list(controls)}
    run = Run(
        ROBUSTNESS, subject, texts, parameters=parameters, bos=bos, truncate=truncate, seed=seed, out=_folder(out)
    )
    if set(controls) - {CONTROL}:
        raise InputError(f"controls={tuple(controls)!r}: the control here is {CONTROL!r}; () leaves it out.")
    resampled = bool(controls) and len(run.tokens) > 1
    if controls and not resampled:
        warnings.warn("no control: it needs a second text to take a block's output from.", stacklevel=2)
    chosen = variants(interventions, run.subject.n_layers, resampled=resampled)
    if not chosen:
        raise InputError("nothing to do: name at least one intervention, such as 'delete'.")
    check_positions(positions, min(map(len, run.tokens.ids)))
    return run.frame(_robustness_rows(run, chosen, positions, seed if resampled else None))


def _orders(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    """The middle blocks, all but the first two and last two, in other orders than their own."""
    blocks = range(subject.n_layers)
    head, middle, tail = blocks[:2], blocks[2:-2], blocks[-2:]
    orders = {"left out": (), "reversed": middle[::-1], "run twice": (*middle, *middle)}
    return {"schedules": {f"middle {name}": (*head, *order, *tail) for name, order in orders.items()}}


@probe(SCHEDULES, summarise=_summarise_schedules, example=_orders)
def run_schedules(
    subject: Source,
    texts: Texts,
    schedules: Mapping[str, Schedule],
    *,
    positions: int | Sequence[int] | None = None,
    out: str | Path | None = None,
    bos: bool | None = None,
    truncate: bool = False,
) -> pd.DataFrame:
    """Run the blocks in any orders and compare with the intact model; metrics as in `layer_robustness`.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        schedules: name -> order of block numbers; blocks may be left out and repeated. `interp.schedules.plan` of them
            tells what will run.
        positions: see `layer_robustness`.
        out: see `layer_robustness`.
        bos: see `probes.logit_lens`.
        truncate: see `probes.logit_lens`.

    Returns:
        One row per prompt, position and schedule.

    Raises:
        InputError: no schedules, or one that names a block that is not there.

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
    run = Run(SCHEDULES, subject, texts, parameters=parameters, bos=bos, truncate=truncate, out=_folder(out))
    check_positions(positions, min(map(len, run.tokens.ids)))
    return run.frame(_schedule_rows(run, orders, positions))


def _robustness_rows(
    run: Run, chosen: Sequence[Variant], positions: int | Sequence[int] | None, seed: int | None
) -> Iterator[dict[str, np.ndarray]]:
    made, silenced = plan_of(chosen), sites_to_silence(run.subject, chosen)
    lengths = [len(ids) for ids in run.tokens.ids]
    donor = None if seed is None else donors(lengths, seed)
    by_variant = {
        "intervention": np.array([one.intervention for one in chosen], dtype=object),
        "layer": np.array([one.layer for one in chosen]),
        "control": np.array([one.control for one in chosen], dtype=object),
    }
    for batch in run.batches(_states_per_layer(run.subject, len(chosen))):
        row, pos = select_positions(batch, positions)
        written = [] if donor is None else _written_on_donors(run, batch, donor)

        def starts(tape: Tape, written: Sequence[Tensor] = written) -> dict[Root, Tensor]:
            return starts_of(tape, chosen, silenced, written)

        rows = _metrics(run, batch, row, pos, made, starts, by_variant)
        if donor is not None:
            reach = torch.tensor([lengths[index] for index in donor[batch.prompts.numpy()]])[row]
            beyond = np.repeat((pos >= reach).numpy(), len(chosen)) & (rows["control"] == CONTROL)
            rows = {name: values[~beyond] for name, values in rows.items()}
        yield rows


def _schedule_rows(
    run: Run, orders: Mapping[str, Schedule], positions: int | Sequence[int] | None
) -> Iterator[dict[str, np.ndarray]]:
    made = plan(orders)
    by_variant = {"schedule": np.array(list(orders), dtype=object)}
    for batch in run.batches(_states_per_layer(run.subject, len(orders))):
        row, pos = select_positions(batch, positions)
        yield _metrics(run, batch, row, pos, made, lambda tape: {}, by_variant)


def _metrics(
    run: Run,
    batch: Batch,
    row: Tensor,
    pos: Tensor,
    made: Plan,
    starts: Any,
    by_variant: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Columns of a batch: every chosen token by every run of the plan."""
    following = next_tokens(batch, row, pos)
    read = run.subject.reader(targets=following.clamp(min=0))

    def program(tape: Tape) -> Readout:
        reference = tape.last[row, pos]
        # Of each run only the chosen rows are kept and read.
        states = [residual[row, pos] for residual in tape.execute(made, starts(tape))]
        return read(tape, [reference, *states], reference)

    readout = run.subject.run(batch.ids, program)
    assert readout.log_prob is not None and readout.rank is not None
    assert readout.entropy is not None and readout.kl is not None
    missing = (following < 0).numpy()
    loss = np.where(missing, np.nan, -readout.log_prob[..., 0].T.numpy().astype(float))  # [row, 1 + run]
    rank = np.where(missing, -1, readout.rank[..., 0].T.numpy())
    entropy = readout.entropy.T.numpy()
    full = {
        "kl": readout.kl[1:].T.numpy(),
        "loss_intact": loss[:, :1],
        "loss": loss[:, 1:],
        "loss_change": loss[:, 1:] - loss[:, :1],
        "top1_agrees": (readout.top_id[1:, :, 0] == readout.reference_top1).T.numpy(),
        "entropy_intact": entropy[:, :1],
        "entropy": entropy[:, 1:],
        "target_rank_intact": rank[:, :1],
        "target_rank": rank[:, 1:],
    }
    return rows_of_block(
        (len(row), len(made.runs), 1),
        by_row=run.token_columns(batch, row, pos),
        by_place=by_variant,
        full={name: values[..., None] for name, values in full.items()},
    )


def _written_on_donors(run: Run, batch: Batch, donor: np.ndarray) -> list[Tensor]:
    """What each block wrote on each prompt's donor, [batch, pos, d_model] each; nothing of use beyond a donor's end."""
    ids = torch.zeros_like(batch.ids)
    for place, index in enumerate(donor[batch.prompts.numpy()]):
        given = run.tokens.ids[index][: ids.shape[1]]
        ids[place, : len(given)] = given
    return run.subject.run(ids, written_by_blocks)


def _states_per_layer(subject: Subject, n_runs: int) -> int:
    """Residuals held at once, in units of the model's layers: the tape, what donors wrote, and the runs."""
    return 2 + -(-2 * n_runs // subject.n_layers)


def _folder(out: str | Path | None) -> Path | None:
    return None if out is None else Path(out)
