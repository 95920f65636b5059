"""Steer a language model by the neurons of a concept: dose and response, beside controls (Häon et al., 2025).

Neurons that promote a concept's words are set to alpha. The effect is measured on words of the concept that did not
choose the neurons, and the cost on the rest of the next-token distribution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    CONCEPT,
    Batch,
    Column,
    InputError,
    Run,
    Schema,
    Source,
    Subject,
    Texts,
    TooLong,
    columns,
    probe,
    require_two_tokens,
    say_cost,
    whole_numbers,
)
from probes import papers
from probes.neurons import plots
from probes.neurons._continuations import texts_under
from probes.neurons._controls import Control, conditions, need_moments
from probes.neurons._dose_response import summarise_steering
from probes.neurons._doses import AlphaUnit, Mode, Positions, check_doses, moments
from probes.neurons._effect import Effect, EffectRows, effect_of
from probes.neurons.concept_neurons import concept_neurons
from probes.neurons.neuron_set import NeuronSet

CONTROLS: tuple[Control, ...] = ("random", "norm_matched", "sign_flip", "direction", "random_direction", "mean")

STEER = Schema(
    probe="steer",
    paper=papers.TOKEN_BASIS,
    rows="one per prompt, alpha and control, and per layer where read through the lens",
    columns=columns(
        "model",
        "run_id",
        "prompt_id",
        Column("concept", "str", "name of the neurons' concept"),
        "control",
        Column("alpha", "float", "the value that neurons are set to, or that is added or multiplied, in `alpha_unit`s"),
        Column("mode", "str", "override: set to alpha; add: plus alpha; scale: times alpha"),
        Column("n_neurons", "int", "neurons steered", low=0),
        Column("layer_group", "str", "where the neurons are: early or late half of the blocks, or both (full)"),
        "layer",
        Column(
            "delta_log_prob", "float", "change of log P(any held-out word of the concept), mean over tokens", "nats"
        ),
        Column(
            "delta_logit_predicted",
            "float",
            "change of the held-out words' mean logit by the direct path, to first order",
            missing=True,
        ),
        Column("delta_logit", "float", "change of the held-out words' mean logit"),
        Column("kl", "float", "KL(unsteered || steered), the cost, mean over tokens", "nats", low=0.0),
        Column("loss_ratio", "float", "perplexity of the prompt, steered over unsteered", low=0.0, missing=True),
        Column("concept_frequency", "float", "held-out words among generated tokens", "0..1", 0.0, 1.0, missing=True),
        Column("unsteered_frequency", "float", "the same without steering", "0..1", 0.0, 1.0, missing=True),
        Column("text", "str", "the steered continuation", missing=True),
        Column("unsteered_text", "str", "the unsteered one, from the same random numbers", missing=True),
    ),
)


def _example(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    neurons = concept_neurons(subject, CONCEPT, n=20, concept="time")
    return {"neurons": neurons, "alphas": (1.0, 2.0, 4.0)}


@probe(STEER, plot=plots.steer, explore=plots.explore_steering, summarise=summarise_steering, example=_example)
def steer(
    subject: Source,
    texts: Texts,
    neurons: NeuronSet,
    *,
    alphas: Sequence[float],
    mode: Mode = "override",
    alpha_unit: AlphaUnit = "raw",
    positions: Positions = "all",
    skip_bos: bool = True,
    controls: Sequence[Control] = CONTROLS,
    through: Literal["output", "lens"] = "output",
    generate: int = 0,
    temperature: float = 1.0,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Steer with a set of neurons, and measure dose and response beside controls.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes; give neutral ones of at least two tokens each.
        neurons: of this model, from `concept_neurons` or `NeuronSet.of`.
        alphas: doses.
        mode: "override" sets neurons to alpha, as the paper does; "add" adds it; "scale" multiplies.
        alpha_unit: "raw", or "sd": multiples of each neuron's standard deviation over the tokens of `texts`.
        positions: where neurons are edited: "all"; "last": each prompt's last token, and generated tokens; "generated":
            generated tokens only.
        skip_bos: leave position 0, an attention sink, unchanged.
        controls: see `probes.neurons._controls.Control`. "mean" has no alpha: it is run once and repeated at each. A
            warning names the blocks with one neuron, where "direction" is that neuron.
        through: "lens" also reads the residual at every layer after the first edited block through the model's own
            head, and compares it with the unsteered residual there.
        generate: number of tokens by which every prompt is continued under every condition.
        temperature: of the sampling.
        seed: of the random neurons, the random directions and the sampling.
        truncate: cut texts that are longer than the context, instead of refusing them.

    Returns:
        One row per prompt, alpha and control (and layer). Means are over the prompt's tokens without position 0, or
        over the last token for positions="last". `layer` n_layers is the model's output.

    Raises:
        InputError: neurons without held-out words, a text of one token, or an argument that cannot be used.
        ModelError: the architecture does not show its neurons.

    Cost: one clean forward pass, and per condition the blocks from the first edited one on and an unembedding. Alphas
    in standard deviations and the controls "norm_matched" and "mean" need another clean pass over all texts first.

    Pitfall: a dose that raises the concept's words also breaks the text: read KL and loss of other tokens beside it.

    >>> from probes import concept_neurons
    >>> neurons = concept_neurons("reference", ["time", "day", "moment", "hour", "night", "week"], n=5)
    >>> frame = steer("reference", ["Once upon a time there was a"], neurons, alphas=(0, 4), controls=("random",))
    >>> frame[["control", "alpha"]].values.tolist()
    [['none', 0.0], ['none', 4.0], ['random', 0.0], ['random', 4.0]]
    """
    check_doses(alphas, mode, alpha_unit)
    if temperature < 0:
        raise InputError(f"temperature={temperature}: give 0 or more.")
    parameters = {
        "neurons": {layer: of.tolist() for layer, of in neurons.by_layer.items()},
        "held_out": neurons.words.held_out,
        "alphas": [float(alpha) for alpha in alphas],
        "mode": mode,
        "alpha_unit": alpha_unit,
        "positions": positions,
        "skip_bos": skip_bos,
        "controls": controls,
        "through": through,
        "generate": generate,
        "temperature": temperature,
    }
    run = Run(STEER, subject, texts, parameters=parameters, truncate=truncate, seed=seed)
    (generate,) = whole_numbers(generate, "generate")
    _check(run, neurons, positions, generate)
    _say_cost(run, neurons, len(alphas), controls, len(_layers(run.subject, neurons, through)), positions)
    known = moments(run.subject, run.tokens, list(neurons.by_layer)) if need_moments(controls, alpha_unit) else {}
    doses, by_control = conditions(
        run.subject, neurons.by_layer, alphas, controls, known, mode=mode, alpha_unit=alpha_unit, seed=seed
    )
    which = np.concatenate(list(by_control.values()))  # dose of each condition
    layers = _layers(run.subject, neurons, through)
    concept = neurons.words.held_out_ids
    recorded = len(neurons.by_layer) * (1 + run.subject.d_mlp / run.subject.d_model)
    states = 1 + ceil((recorded + len(doses) * (1 + len(layers))) / run.subject.n_layers)
    parts = []
    # As many replayed doses run at a time as fit; generated texts run all together.
    for batch in run.batches(states, variants=len(doses) if generate else 1):
        rows = _rows(batch, positions, skip_bos)
        effect = effect_of(run.subject, batch.ids, doses, rows, concept, layers)
        written: Mapping[str, np.ndarray] = {}
        if generate:
            written = texts_under(
                run.subject,
                [ids[:length] for ids, length in zip(batch.ids, batch.lengths, strict=True)],
                doses,
                concept,
                positions=positions,
                skip_bos=skip_bos,
                max_new_tokens=generate,
                temperature=temperature,
                seed=seed,
            )
        parts.append(_columns(run, batch, rows, effect, written, which, layers))
    repeated: dict[str, Any] = {
        "control": np.repeat(np.array(list(by_control), dtype=object), len(alphas)),
        "alpha": np.tile(np.array(alphas, dtype=float), len(by_control)),
    }
    fixed: dict[str, Any] = {
        "concept": neurons.concept,
        "mode": mode,
        "n_neurons": len(neurons),
        "layer_group": _layer_group(run.subject, neurons),
    }
    return run.frame(
        part | fixed | {name: np.tile(value, len(part["kl"]) // len(which)) for name, value in repeated.items()}
        for part in parts
    )


def _say_cost(
    run: Run, neurons: NeuronSet, n_alphas: int, controls: Sequence[Control], n_layers: int, positions: Positions
) -> None:
    """Say what the replays will cost; each runs the blocks behind the first edited one."""
    n_doses = n_alphas * (1 + len(set(controls) - {"mean"})) + ("mean" in controls)
    behind = 1 - min(neurons.by_layer, default=0) / run.subject.n_layers
    n_read = len(run.tokens) if positions == "last" else sum(len(ids) - 1 for ids in run.tokens.ids)
    passes = 1 + bool({"mean", "norm_matched"}.intersection(controls)) + n_doses * behind
    say_cost(run, passes=passes, unembedded=(1 + n_doses) * n_layers * n_read)


def _check(run: Run, neurons: NeuronSet, positions: str, generate: int) -> None:
    if generate < 0:
        raise InputError(f"generate={generate}: give 0 or more tokens.")
    if positions == "generated" and not generate:
        raise InputError("positions='generated' edits no prompt; pass generate= too.")
    if not len(neurons.words.held_out_ids):
        raise InputError(
            f"no words of {neurons.concept!r} are held out, and measuring on those that chose the neurons would be "
            "circular; choose with held_out above 0."
        )
    require_two_tokens(run.tokens)  # position 0 is left out
    for number, ids in zip(run.tokens.table["prompt_id"], run.tokens.ids, strict=True):
        if generate and len(ids) == run.subject.n_ctx:
            raise TooLong(f"prompt {number} fills the context of {len(ids)} tokens; shorten it, or leave generate=0.")
    NeuronSet.of(run.subject, {layer: of.tolist() for layer, of in neurons.by_layer.items()}, neurons.words)


def _layers(subject: Subject, neurons: NeuronSet, through: str) -> list[int]:
    first = min(neurons.by_layer, default=subject.n_layers - 1)
    return list(range(first + 1, subject.n_layers + 1)) if through == "lens" else [subject.n_layers]


def _layer_group(subject: Subject, neurons: NeuronSet) -> str:
    late = {layer >= subject.n_layers / 2 for layer in neurons.by_layer}
    return {(): "none", (False,): "early", (True,): "late"}.get(tuple(late), "full")


def _rows(batch: Batch, positions: str, skip_bos: bool) -> EffectRows:
    place = torch.arange(batch.ids.shape[1]).expand(len(batch.ids), -1)
    ends = batch.lengths[:, None]
    edited = {"all": place < ends, "last": place == ends - 1, "generated": torch.zeros_like(place, dtype=torch.bool)}
    read = (place == ends - 1) if positions == "last" else (place > 0) & (place < ends)
    row, pos = read.nonzero(as_tuple=True)
    following = batch.ids[row, (pos + 1).clamp(max=batch.ids.shape[1] - 1)].where(pos + 1 < batch.lengths[row], -1)
    return EffectRows(edited[positions] & ((place > 0) | (not skip_bos)), row, pos, following)


def _columns(
    run: Run,
    batch: Batch,
    rows: EffectRows,
    effect: Effect,
    written: Mapping[str, np.ndarray],
    which: np.ndarray,
    layers: Sequence[int],
) -> dict[str, np.ndarray]:
    """Return the columns of a batch, prompt by prompt, layer by layer, condition by condition."""
    n = len(batch.ids)

    def per_prompt(values: Tensor) -> np.ndarray:
        """Average [places, doses, rows] over each prompt's rows without NaN, and flatten."""
        known = ~values.isnan()
        sums, counts = (
            torch.zeros(*values.shape[:2], n, dtype=torch.float64).index_add_(2, rows.row, one.double())
            for one in (values.nan_to_num(), known)
        )
        means: np.ndarray = (sums / counts).permute(2, 0, 1).numpy()[:, :, which].ravel()
        return means

    def per_text(name: str, absent: Any) -> np.ndarray:
        """Flatten [prompts, doses], which stand at the model's output only."""
        table = np.full((n, len(layers), len(which)), absent, dtype=object if absent is None else float)
        if name in written:
            table[:, -1] = written[name][:, which]
        return table.ravel()

    shape = (n, len(layers), len(which))
    prompts = run.prompt_ids(batch)
    return {
        "prompt_id": np.broadcast_to(prompts[:, None, None], shape).ravel(),
        "layer": np.broadcast_to(np.array(layers)[None, :, None], shape).ravel(),
        "delta_log_prob": per_prompt(effect.log_prob),
        "delta_logit_predicted": per_prompt(effect.predicted),
        "delta_logit": per_prompt(effect.logit),
        "kl": per_prompt(effect.kl),
        "loss_ratio": np.exp(per_prompt(effect.loss)),
        "concept_frequency": per_text("concept_frequency", np.nan),
        "unsteered_frequency": per_text("unsteered_frequency", np.nan),
        "text": per_text("text", None),
        "unsteered_text": per_text("unsteered_text", None),
    }
