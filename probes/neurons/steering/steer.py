"""Steer a language model by neurons or a direction: dose and response, beside controls (Häon et al., 2025).

Neurons that promote a concept's words are set to alpha, or the direction of a contrast is added alpha times. The effect
is measured on words of the concept that did not choose either, and the cost on the rest of the next-token distribution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Literal

import numpy as np
import pandas as pd

from interp.authoring import (
    CONCEPT,
    Column,
    InputError,
    Run,
    Schema,
    Source,
    Subject,
    Texts,
    columns,
    probe,
    whole_numbers,
)
from probes import papers
from probes.neurons.concept_neurons import concept_neurons
from probes.neurons.steering import plots
from probes.neurons.steering._continuations import texts_under
from probes.neurons.steering._controls import OF_NEURONS, Control
from probes.neurons.steering._dose_response import summarise_steering
from probes.neurons.steering._doses import AlphaUnit, Mode, Positions, check_doses
from probes.neurons.steering._effect import effect_of
from probes.neurons.steering._frame import columns_of, rows_of
from probes.neurons.steering._steered import (
    check_steered,
    conditions_of,
    controls_for,
    identity,
    layer_group,
    layers_to_read,
    recorded,
    say_cost_of,
)
from probes.neurons.steering.direction import Direction
from probes.neurons.steering.neuron_set import NeuronSet

CONTROLS = OF_NEURONS

STEER = Schema(
    probe="steer",
    paper=papers.TOKEN_BASIS,
    rows="one per prompt, alpha and control, and per layer where read through the lens",
    columns=columns(
        "model",
        "run_id",
        "prompt_id",
        Column("concept", "str", "name of what the neurons or the direction stand for"),
        "control",
        Column("alpha", "float", "the value that neurons are set to, or that is added or multiplied, in `alpha_unit`s"),
        Column("mode", "str", "override: set to alpha; add: plus alpha; scale: times alpha"),
        Column("n_neurons", "int", "neurons steered; 0 for a direction", low=0),
        Column("layer_group", "str", "where it is steered: early or late half of the blocks, or both (full)"),
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
    neurons: NeuronSet | Direction,
    *,
    alphas: Sequence[float],
    mode: Mode | None = None,
    alpha_unit: AlphaUnit = "raw",
    positions: Positions = "all",
    skip_bos: bool = True,
    controls: Sequence[Control] | None = None,
    through: Literal["output", "lens"] = "output",
    generate: int = 0,
    temperature: float = 1.0,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Steer with a set of neurons or along a direction, and measure dose and response beside controls.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes; give neutral ones of at least two tokens each.
        neurons: of this model, from `concept_neurons` or `NeuronSet.of`; or a direction of it in the residual stream,
            from `contrast_direction` or `Direction.of`.
        alphas: doses.
        mode: "override" sets neurons to alpha, as the paper does; "add" adds it; "scale" multiplies. A direction is
            such a neuron: its activation is the coordinate along it, 1 for the vector itself. None is "override" for
            neurons, and "add" for a direction, as is usual.
        alpha_unit: "raw", or "sd": multiples of each neuron's, or the coordinate's, standard deviation over the tokens
            of `texts`.
        positions: where it is edited: "all"; "last": each prompt's last token, and generated tokens; "generated":
            generated tokens only.
        skip_bos: leave position 0, an attention sink, unchanged.
        controls: see `probes.neurons.steering._controls.Control`; None takes all that fit. "mean" has no alpha: it is
            run once and repeated at each. A warning names the blocks with one neuron, where "direction" is that neuron.
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
        InputError: no held-out words, a text of one token, or an argument that cannot be used.
        ModelError: the architecture does not show its neurons, or the direction is of another model.

    Cost: one clean forward pass, and per condition the blocks from the first edited one on and an unembedding. Alphas
    in standard deviations and the controls "norm_matched" and "mean" need another clean pass over all texts first.

    Pitfall: a dose that raises the concept's words also breaks the text: read KL and loss of other tokens beside it.

    >>> from probes import concept_neurons
    >>> neurons = concept_neurons("reference", ["time", "day", "moment", "hour", "night", "week"], n=5)
    >>> frame = steer("reference", ["Once upon a time there was a"], neurons, alphas=(0, 4), controls=("random",))
    >>> frame[["control", "alpha"]].values.tolist()
    [['none', 0.0], ['none', 4.0], ['random', 0.0], ['random', 4.0]]
    """
    mode = mode or ("add" if isinstance(neurons, Direction) else "override")
    controls = controls_for(neurons, controls)
    check_doses(alphas, mode, alpha_unit)
    if temperature < 0:
        raise InputError(f"temperature={temperature}: give 0 or more.")
    parameters = {
        **identity(neurons),
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
    check_steered(run, neurons, positions, generate)
    assert neurons.words is not None  # `check_steered` refuses it
    layers = layers_to_read(run.subject, neurons, through)
    say_cost_of(run, neurons, len(alphas), controls, len(layers), positions)
    doses, by_control = conditions_of(run, neurons, alphas, controls, mode=mode, alpha_unit=alpha_unit, seed=seed)
    which = np.concatenate(list(by_control.values()))  # dose of each condition
    concept = neurons.words.held_out_ids
    states = 1 + ceil((recorded(run, neurons) + len(doses) * (1 + len(layers))) / run.subject.n_layers)
    parts = []
    # As many replayed doses run at a time as fit; generated texts run all together.
    for batch in run.batches(states, variants=len(doses) if generate else 1):
        rows = rows_of(batch, positions, skip_bos)
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
        parts.append(columns_of(run, batch, rows, effect, written, which, layers))
    repeated: dict[str, Any] = {
        "control": np.repeat(np.array(list(by_control), dtype=object), len(alphas)),
        "alpha": np.tile(np.array(alphas, dtype=float), len(by_control)),
    }
    fixed: dict[str, Any] = {
        "concept": neurons.concept,
        "mode": mode,
        "n_neurons": 0 if isinstance(neurons, Direction) else len(neurons),
        "layer_group": layer_group(run.subject, neurons),
    }
    return run.frame(
        part | fixed | {name: np.tile(value, len(part["kl"]) // len(which)) for name, value in repeated.items()}
        for part in parts
    )
