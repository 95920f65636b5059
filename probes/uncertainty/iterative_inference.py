"""Iterative inference (Brothers et al., arXiv 2412.05768): do the layers show that an answer is wrong?

Every layer's residual at the end of a prompt is read as a next-token distribution. The losses of the generated and of
the true token by layer are the trajectory. Scores of uncertainty are computed from the generated token's trajectory and
judged by how well they tell wrong answers from right ones. The paper's detector is the last layer's loss of the
generated token, that is, the model's confidence; the trajectory adds the difference in AUC between the other scores and
this one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    Batch,
    Column,
    InputError,
    Run,
    Schema,
    Source,
    Texts,
    columns,
    load,
    probe,
    rows_of_block,
    select_positions,
    warn,
)
from interp.model.tape import Tape
from probes import papers
from probes.uncertainty import plots
from probes.uncertainty._answers import known_answers, said, told_by_first_token
from probes.uncertainty._detection import compare_scores, uncertainty_scores

TRAJECTORY = Schema(
    probe="iterative_inference",
    paper=papers.ITERATIVE_INFERENCE,
    rows="one per prompt and layer, at the prompt's last token",
    columns=columns(
        "model",
        "run_id",
        "prompt_id",
        "pos",
        "token_id",
        "token",
        "layer",
        Column("true_id", "int", "the first token of the expected continuation after the prompt", low=0),
        Column("true", "str", "`true_id` as text"),
        Column("generated_id", "int", "the model's most probable token", low=0),
        Column("generated", "str", "`generated_id` as text"),
        Column("correct", "bool", "whether `generated_id` is `true_id`"),
        Column("loss_true", "float", "residual cross-entropy of the true token here", "nats", low=0.0),
        Column("loss_generated", "float", "residual cross-entropy of the generated token here", "nats", low=0.0),
        Column("entropy", "float", "entropy of the distribution here", "nats", low=0.0),
        Column("margin", "float", "log-probability of the most probable token - the second's", "nats", low=0.0),
        Column("kl_to_final", "float", "KL(the model's output || the distribution here)", "nats", low=0.0),
        Column("agrees_final", "bool", "whether the generated token is the most probable here"),
    ),
    summary_by=("layer",),
    summary_of=("loss_true", "loss_generated"),
)


def summarise(frame: pd.DataFrame, by: str = "score", **options: Any) -> pd.DataFrame:
    """Compare scores of uncertainty by AUC, or list them by prompt.

    Args:
        frame: of `iterative_inference`.
        by: "score": for each score its AUC for telling wrong from right answers, its gain over the AUC of the model's
            own confidence, both with intervals from one bootstrap over prompts, and the upper end of the AUC with
            answers shuffled among prompts. "prompt": the scores themselves, one row per prompt.
        options: for "score", `n_resamples` (1000), `level` (0.95), `seed` (0); for both, the thresholds of convergence
            `kl_below` (0.1 nats) and `loss_below` (0.69 nats, a probability of one half).
    """
    thresholds = {name: options.pop(name) for name in ("kl_below", "loss_below") if name in options}
    scores = uncertainty_scores(frame, **thresholds)
    if by == "prompt" and not options:
        return scores
    if by != "score":
        raise InputError(f"cannot sum trajectories up by {by!r} with {options}; choose 'score' or 'prompt'.")
    return compare_scores(scores, **options)


@probe(TRAJECTORY, plot=plots.iterative_inference, summarise=summarise)
def iterative_inference(subject: Source, texts: Texts, *, truncate: bool = False) -> pd.DataFrame:
    """Read the last token's residual at every layer, for prompts whose right continuation is known.

    Args:
        subject: anything `interp.load` takes.
        texts: the name of a shipped dataset, or a frame, with columns `text` and `expected`; prompts without an
            expected continuation are left out. An answer is right if the model's most probable token is the first
            token of the expected text after the prompt. Where that token does not tell the answer (it is only a space,
            it begins another prompt's answer too, or the tokenizer joins it with the end of the prompt), the prompt
            is left out, with a warning and a line in the provenance.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt and layer 0..L: losses of the true and of the generated token, entropy, margin, and
        divergence from the model's output. `.interp.summary()` compares uncertainty scores.

    Raises:
        InputError: there are no expected continuations, or none can be told by its first token.

    Cost: one forward pass and L + 1 unembeddings per prompt.

    Pitfall: an answer is told by its first token only, and the scores judge the model's own errors: with few wrong
    answers the AUC is a guess.

    >>> prompts = pd.DataFrame({"text": ["Once upon a", "He opened the"], "expected": [" time", " door"]})
    >>> frame = iterative_inference("reference", prompts)
    >>> int(frame.layer.max()), bool((frame[frame.correct].loss_true == frame[frame.correct].loss_generated).all())
    (8, True)
    """
    loaded = load(subject)
    known = known_answers(texts)
    answered, true, left_out = told_by_first_token(known, loaded)
    run = Run(TRAJECTORY, loaded, answered, parameters={}, truncate=truncate or None)
    if run.tokens.n_cut.any():
        raise InputError("a prompt is longer than the context, and a cut prompt has another continuation; shorten it.")
    frame = run.frame([_trajectories(run, batch, true[batch.prompts]) for batch in run.batches(2)])
    if left_out:
        frame.interp.runs[run.run_id]["left_out"] = said(left_out, len(known))
        warn(f"{said(left_out, len(known))}.")
    return frame


def _trajectories(run: Run, batch: Batch, true: Tensor) -> dict[str, np.ndarray]:
    row, pos = select_positions(batch, -1)
    subject = run.subject
    argmax, n_states = subject.reader(entropy=False, kl=False), subject.n_layers + 1

    def program(tape: Tape) -> tuple[Any, Tensor]:
        at = row.to(tape.last.device), pos.to(tape.last.device)
        states = [tape.residual(layer)[at] for layer in range(n_states)]
        generated = argmax(tape, states[-1:], states[-1]).reference_top1
        targets = torch.stack([true, generated], dim=1)
        return subject.read_out(tape, states, states[-1], targets=targets, k=2), generated

    readout, generated = subject.run(batch.ids, program)
    losses = -readout.log_prob.clamp(max=0.0)
    full = {
        "loss_true": losses[..., 0],
        "loss_generated": losses[..., 1],
        "entropy": readout.entropy,
        "margin": (readout.top_log_prob[..., 0] - readout.top_log_prob[..., 1]).clamp(min=0.0),
        "kl_to_final": readout.kl,
        "agrees_final": readout.top_id[..., 0] == generated,
    }
    by_prompt = {"true_id": true, "generated_id": generated, "correct": true == generated}
    return rows_of_block(
        (len(row), n_states, 1),
        by_row=run.token_columns(batch, row, pos) | {name: value.numpy() for name, value in by_prompt.items()},
        by_place={"layer": np.arange(n_states)},
        full={name: value.numpy().T[:, :, None] for name, value in full.items()},
    )
