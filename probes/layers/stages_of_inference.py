"""Begin and end of four stages of inference by depth, after Lad, Gurnee & Tegmark (arXiv 2406.19384).

The stages are detokenization, feature engineering, prediction ensembling and residual sharpening. The frame holds
statistics of attention, of the lens, of MLPs and of neurons' weights by block; the summary decides for each stage
whether they show it, and in which blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    Batch,
    Column,
    InputError,
    ModelError,
    Run,
    Schema,
    Source,
    Subject,
    Texts,
    columns,
    options,
    probe,
    require_two_tokens,
    say_cost,
    select_positions,
    warn,
)
from interp.model.readout import Readout
from interp.model.sites import Site, SiteName, observing, recording
from interp.model.tape import Tape
from probes import papers
from probes.layers import plots
from probes.layers._stage_criteria import by_layer, stages_shown
from probes.layers._stage_statistics import CrossMoments, locality, uniform
from probes.neurons.neuron_kinds import TokenDirections, kinds

T = TypeVar("T")
_STATES = 2  # held per layer: the recorded residual, and the rows selected from it

STATISTICS = {
    "prev5_entry": ("block", "0..1", "mean attention entry one to five tokens back"),
    "prev5_mass": ("block", "0..1", "attention to the previous five tokens together, without the first token"),
    "first_mass": ("block", "0..1", "attention to the first token"),
    "entropy": ("residual", "nats", "entropy of the logit lens"),
    "kl_to_final": ("residual", "nats", "KL(model output || logit lens)"),
    "agrees_final": ("residual", "0..1", "share of positions where the lens' argmax is the model's own"),
    "mlp_norm": ("block", "norm", "norm of the MLP's output"),
    "mlp_ratio": ("block", "ratio", "the same over the norm of the residual entering the block"),
    "n_prediction": ("block", "count", "prediction neurons, see `neuron_kinds`"),
    "n_suppression": ("block", "count", "suppression neurons"),
    "share_prediction": ("block", "0..1", "share of the block's neurons that are prediction neurons"),
    "share_suppression": ("block", "0..1", "share of the block's neurons that are suppression neurons"),
    "cka_next": ("residual", "0..1", "linear CKA of the residual with that of the next layer, over all prompts"),
}
"""Name -> `at` ("block" or "residual", counted by `layer`), unit, meaning."""

STAGES = Schema(
    probe="stages_of_inference",
    paper=papers.STAGES_OF_INFERENCE,
    rows="one per prompt, layer and statistic; statistics of the model or of all prompts together have no prompt",
    columns=columns(
        "model",
        "run_id",
        Column("prompt_id", "id", "the prompt; missing if a statistic is not of one prompt", low=0, missing=True),
        Column("layer", "int", "`at` block: 0..L-1; `at` residual: 0 enters the first block, L leaves the last"),
        Column("at", "str", "'block' or 'residual': the things that `layer` counts"),
        Column("statistic", "str", "; ".join(f"{name}: {meaning}" for name, (_, _, meaning) in STATISTICS.items())),
        Column("value", "float", "the statistic, mean over positions from 1 on", "see unit", missing=True),
        Column("unit", "str", "unit of the value"),
        Column("control", "str", "'none', or 'uniform': equal attention to all visible tokens"),
    ),
)


def summarise_stages(frame: pd.DataFrame, by: str = "stage", **options: object) -> pd.DataFrame:
    """Decide where each stage begins and ends, or average by layer.

    Args:
        frame: of `stages_of_inference`.
        by: "stage": one row per model and stage with its first and last block, whether the evidence shows it, and the
            evidence in a sentence; the criteria, their least effects and Holm's correction over all blocks and stages
            are in `probes.layers._stage_criteria`. "layer": means per statistic and layer, with 95 % bootstrap
            intervals over prompts for statistics of prompts.
        options: of `interp.stats.paired_bootstrap` for "stage", of `interp.stats.bootstrap_over_prompts` for "layer".

    Raises:
        InputError: `by` is another word.
    """
    if by not in ("stage", "layer"):
        raise InputError(f"cannot sum stages up by {by!r}; choose 'stage' or 'layer'.")
    return by_layer(frame, **options) if by == "layer" else stages_shown(frame, **options)


@probe(STAGES, plot=plots.stages, summarise=summarise_stages, costly=True)
def stages_of_inference(subject: Source, texts: Texts, *, truncate: bool = False) -> pd.DataFrame:
    """Measure statistics by depth for the stages of inference; `.interp.summary()` says where each begins and ends.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes, of two tokens or more each.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, layer and statistic, long form. Position 0 is left out throughout: as a query, as a residual
        and, in "prev5_mass", as a key. Neuron counts (of the model) and CKA (of all prompts together) have no
        `prompt_id`. Attention has control rows "uniform": a head that attends equally to all visible tokens. If an
        architecture does not show its attention, or has no neurons (a mixture of experts), those statistics are absent,
        and a warning says so. In gated MLPs the sign of an activation is not fixed: see `neuron_kinds`.

    Raises:
        InputError: a text cannot be used, or has a single token.
        ModelError: the model's replay is not exact.

    CKA of fewer positions than d_model, or a few more, is biased towards 1: give it thousands.

    Cost: one forward pass with visible attention and L + 1 unembeddings per position, streamed; (2 L + 1) d_model²
    float64 multiplications per position and memory for as many numbers for CKA; the cost of `neuron_kinds`.

    Pitfall: the criteria are the papers' own, read off larger models: a stage that does not show is not shown to be
    absent.

    >>> frame = stages_of_inference("reference", ["Once upon a time there was a cat", "The cat sat on the mat"])
    >>> frame.query("statistic == 'agrees_final' and layer == 8").value.tolist()
    [1.0, 1.0]
    >>> frame.interp.summary()[["stage", "name", "shown"]].shape
    (4, 3)
    """
    run = Run(STAGES, subject, texts, parameters={}, truncate=truncate)
    require_two_tokens(run.tokens)  # position 0 is left out
    first = run.tokens.ids[0][None, :16]
    run.subject.run(first, lambda tape: tape.last)  # refuse a model that cannot be studied at all
    subject, n_read = run.subject, sum(len(ids) - 1 for ids in run.tokens.ids)
    neurons = subject.n_layers * (subject.d_mlp or 0)
    products = neurons * subject.d_model * subject.d_vocab
    say_cost(run, passes=1, unembedded=(subject.n_layers + 1) * n_read, products=products)
    patterns = _attempt(lambda: _visible(run.subject, "pattern", first), "attention statistics")
    mlps = _attempt(lambda: _visible(run.subject, "mlp_out", first), "norms of MLP outputs")
    parts = _attempt(lambda: _neuron_counts(run.subject), "neuron counts")
    moments = CrossMoments(run.subject.n_layers + 1, run.subject.d_model)
    with options.reserving(moments.n_bytes):
        for batch in run.batches(_STATES):
            parts += _per_prompt(run, batch, patterns, mlps, moments)
    return run.frame([*parts, _rows("cka_next", moments.cka_next()[:, None])])


def _attempt(make: Callable[[], list[T]], what: str) -> list[T]:
    """Return the result of `make`; if the model refuses, warn the probe's caller and return an empty list."""
    try:
        return make()
    except ModelError as error:
        warn(f"no {what}: {error}")
        return []


def _visible(subject: Subject, name: SiteName, ids: Tensor) -> list[Site]:
    """Return the site in every block, after a short pass has shown that values pass through it."""
    sites = [subject.site(name, layer) for layer in range(subject.n_layers)]
    with subject.showing_patterns(), recording(sites):
        subject.run(ids, lambda tape: tape.last)
    return sites


def _neuron_counts(subject: Subject) -> list[dict[str, np.ndarray]]:
    value_vectors = [subject.value_vectors(layer) for layer in range(subject.n_layers)]
    directions = TokenDirections.of(subject)
    found = [kinds(directions.moments(vectors)) for vectors in value_vectors]
    parts = []
    for kind in ("prediction", "suppression"):
        flagged = [one == kind for one in found]
        parts.append(_rows(f"n_{kind}", np.array([[one.sum()] for one in flagged])))
        parts.append(_rows(f"share_{kind}", np.array([[one.mean()] for one in flagged])))
    return parts


def _per_prompt(
    run: Run, batch: Batch, patterns: Sequence[Site], mlps: Sequence[Site], total: CrossMoments
) -> list[dict[str, np.ndarray]]:
    """Return a batch's rows, and add to the moments for CKA; one pass reduces each attention pattern at once."""
    row, pos = select_positions(batch, None)
    row, pos = row[pos > 0], pos[pos > 0]
    read = run.subject.reader()

    def program(tape: Tape) -> tuple[Readout, list[Tensor], Tensor]:
        states = [tape.residual(layer)[row, pos] for layer in range(tape.n_layers + 1)]
        lengths = torch.stack([state.double().norm(dim=1) for state in states[:-1]]).cpu()
        return read(tape, states, states[-1]), states, lengths

    # Stored by layer, so that the last pass counts if a backend runs the model more than once.
    looked: dict[int, dict[str, Tensor]] = {}
    written: dict[int, Tensor] = {}

    def look(layer: int, pattern: Tensor) -> None:
        looked[layer] = {name: value.cpu() for name, value in locality(pattern, batch.lengths).items()}

    def measure(layer: int, out: Tensor) -> None:
        written[layer] = out.view(*batch.ids.shape, -1)[row, pos].double().norm(dim=1).cpu()

    with ExitStack() as hooks:
        if patterns:
            hooks.enter_context(run.subject.showing_patterns())
        for sites, function in ((patterns, look), (mlps, measure)):
            for layer, site in enumerate(sites):
                hooks.enter_context(observing(site, partial(function, layer)))
        readout, states, lengths = run.subject.run(batch.ids, program)
    total.add(states)
    by_position = {
        "entropy": readout.entropy,
        "kl_to_final": readout.kl,
        "agrees_final": readout.top_id[..., 0] == readout.reference_top1,
    }
    if mlps:
        norms = torch.stack([written[layer] for layer in range(len(mlps))])
        by_position |= {"mlp_norm": norms, "mlp_ratio": norms / lengths}
    prompts = run.prompt_ids(batch)
    rows = [_rows(name, _mean_by_prompt(values, row, batch), prompts) for name, values in by_position.items()]
    if patterns:
        chance = locality(uniform(batch.ids.shape[1]).expand(len(prompts), -1, -1, -1), batch.lengths)
        for name, values in chance.items():
            found = torch.stack([looked[layer][name] for layer in range(len(patterns))])
            rows.append(_rows(name, found.numpy(), prompts))
            rows.append(_rows(name, values.expand(len(patterns), -1).numpy(), prompts, control="uniform"))
    return rows


def _mean_by_prompt(values: Tensor, row: Tensor, batch: Batch) -> np.ndarray:
    """Average values [layers, n] over the chosen positions of each prompt: [layers, batch]."""
    totals = torch.zeros(len(values), len(batch.ids), dtype=torch.float64).index_add_(1, row, values.double())
    return (totals / torch.bincount(row, minlength=len(batch.ids))).numpy()


def _rows(
    statistic: str, values: np.ndarray | Tensor, prompts: np.ndarray | None = None, control: str = "none"
) -> dict[str, Any]:
    """Return the columns of a statistic [layers, prompts]; without prompts, [layers, 1]."""
    at, unit, _ = STATISTICS[statistic]
    n_layers, n_prompts = values.shape
    return {
        "prompt_id": np.tile(np.array([-1]) if prompts is None else prompts, n_layers),
        "layer": np.repeat(np.arange(n_layers), n_prompts),
        "value": np.asarray(values, dtype=float).ravel(),
        "at": at,
        "statistic": statistic,
        "unit": unit,
        "control": control,
    }
