"""Comparison of modified runs with the intact model, one row per token and run: KL, loss, entropy and rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from interp.authoring import Batch, Column, Run, Subject, next_tokens, rows_of_block
from interp.model.readout import Readout
from interp.model.schedules import Plan
from interp.model.tape import Tape
from interp.stats import bootstrap_over_prompts, means_by_prompt, ratio_over_prompts

AT = ("model", "run_id", "prompt_id", "pos", "token_id", "token")
METRICS = (
    Column("kl", "float", "KL(intact || modified)", "nats", low=0.0),
    Column("loss_intact", "float", "cross-entropy of the actual next token, intact", "nats", low=0.0, missing=True),
    Column("loss", "float", "the same, modified", "nats", low=0.0, missing=True),
    Column("loss_change", "float", "loss - loss_intact: positive is worse", "nats", missing=True),
    Column("top1_agrees", "bool", "whether the most probable token is still the intact model's"),
    Column("entropy_intact", "float", "entropy of the next-token distribution, intact", "nats", low=0.0),
    Column("entropy", "float", "the same, modified", "nats", low=0.0),
    Column("target_rank_intact", "id", "rank of the actual next token, intact; 0 is the argmax", low=0, missing=True),
    Column("target_rank", "id", "the same, modified", low=0, missing=True),
)

SUMMED = ("top1_agrees", "kl", "loss_change", "target_rank_intact", "target_rank")
"""The columns that the summary is made of."""

_VALUES = ("top1_agrees", "kl", "kl_median", "loss_change", "correct_intact", "correct")


def summarise(frame: pd.DataFrame, by: Sequence[str], **options: Any) -> pd.DataFrame:
    """Average what each group of modified runs retains, without position 0.

    Args:
        frame: of a probe of this family that compares with the intact model.
        by: columns that define the groups.
        options: of `interp.stats.bootstrap_over_prompts`.

    Returns:
        Means over prompts of means over a prompt's positions, with 95 % bootstrap intervals: `top1_agrees` (share of
        top-1 predictions retained), `kl`, `kl_median` (of a prompt's positions), `loss_change`, `correct_intact` and
        `correct` (share of actual next tokens predicted), and `correct_retained`, the ratio of these two: the accuracy
        that is left, 1 where none is lost. The paper's "72 to 95 % retained" can be read as `top1_agrees` or as
        `correct_retained`, and its code computes neither.
    """
    keys = ["model", "run_id", *by]
    prompts = frame if "kl_median" in frame.columns else by_prompt(frame, by)
    summary = bootstrap_over_prompts(prompts, keys, _VALUES, **options)
    retained = ratio_over_prompts(prompts, keys, "correct", "correct_intact", "correct_retained", **options)
    summary = summary.merge(retained, on=keys, validate="one_to_one")
    summary.attrs["note"] = "means per prompt, then over prompts; position 0 left out; 95 % bootstrap over prompts"
    return summary


def by_prompt(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Average each prompt's positions in every group, without position 0; `summarise` needs no more."""
    keys = ["model", "run_id", *by]
    kept = frame[frame["pos"] > 0].assign(
        correct_intact=lambda rows: rows["target_rank_intact"] == 0, correct=lambda rows: rows["target_rank"] == 0
    )
    means = means_by_prompt(kept, keys, [value for value in _VALUES if value != "kl_median"])
    return means.assign(kl_median=kept.groupby([*keys, "prompt_id"], observed=True)["kl"].median()).reset_index()


def metrics(
    run: Run,
    batch: Batch,
    row: Tensor,
    pos: Tensor,
    made: Plan,
    starts: Any,
    by_variant: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return the columns of a batch, for every chosen token and every run of the plan."""
    following = next_tokens(batch, row, pos)
    read = run.subject.reader(targets=following.clamp(min=0))
    at_once = run.subject.block_tokens(batch.ids.shape[1])

    def program(tape: Tape) -> Readout:
        reference = tape.last[row, pos]
        # Keep and read only the chosen positions of each run.
        states = tape.execute(made, starts(tape), keep=lambda residual: residual[row, pos], tokens_at_once=at_once)
        return read(tape, [reference, *states], reference)

    readout = run.subject.run(batch.ids, program)
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


def states_per_layer(subject: Subject, n_runs: int, *, donors: bool = False) -> float:
    """Return how many residuals per layer are held at once: the tape, the donors' contributions, and the runs."""
    return 1 + donors + n_runs / subject.n_layers
