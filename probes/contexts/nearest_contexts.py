"""Nearest contexts (LatentLens): the occurrence of a word, in a sentence, whose state is most like a state.

The logit lens reads every state as a next token. Here a state is compared with states of the same layer in other texts,
so that it is named by what such states stand for. A neighbour says something only beside two controls: a random state
of the bank ("shuffled": what the frequency of tokens gives), and another occurrence of the neighbour's own token
("same_token": what the token gives without its context).
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from interp.authoring import (
    VOCABULARY,
    Column,
    InputError,
    Layers,
    Positions,
    Run,
    Schema,
    Source,
    Subject,
    Texts,
    columns,
    layers_of,
    load,
    probe,
)
from probes import papers
from probes.contexts import explore, plots
from probes.contexts._asked import Vectors, asked_of
from probes.contexts._rows import Search, rows_of_texts, rows_of_vectors
from probes.contexts.state_bank import StateBank

NEAREST = Schema(
    probe="nearest_contexts",
    paper=papers.LATENT_LENS,
    rows="one per prompt, position, layer, neighbour and control",
    columns=columns(
        "model",
        "run_id",
        VOCABULARY["prompt_id"].with_(meaning="number of the prompt, or of the vector asked"),
        VOCABULARY["pos"].with_(kind="id", missing=True, meaning="position in the prompt; missing for vectors asked"),
        VOCABULARY["token_id"].with_(kind="id", missing=True),
        VOCABULARY["token"].with_(missing=True),
        Column("vector", "str", "name or number of the vector asked; missing for texts", missing=True),
        "layer",
        Column("rank_neighbour", "int", "place of the neighbour, 0 is the nearest", low=0),
        Column("bank_layer", "int", "layer of the neighbour's state", low=0),
        Column("neighbour_id", "int", "the token of the neighbour", low=0),
        Column("neighbour", "str", "`neighbour_id` as text"),
        Column("neighbour_next_id", "id", "the token that follows the neighbour", low=0, missing=True),
        Column("neighbour_next", "str", "`neighbour_next_id` as text", missing=True),
        Column("context", "str", "the text around the neighbour, itself in brackets"),
        Column("cosine", "float", "cosine of the two states", low=-1.001, high=1.001),
        Column("z", "float", "standard deviations above the cosine of random states of the bank's layer"),
        Column(
            "same_token", "float", "1 if the neighbour is the token at this position, else 0; missing for vectors",
            "0..1", low=0.0, high=1.0, missing=True,
        ),
        Column(
            "same_next", "float", "1 if the same token follows both, else 0; missing at an end of a text", "0..1",
            low=0.0, high=1.0, missing=True,
        ),
        Column("lens_id", "int", "the logit lens' most probable next token from this state", low=0),
        Column("lens", "str", "`lens_id` as text"),
        Column(
            "lens_own", "float", "1 if that is the token at this position, else 0; missing for vectors",
            "0..1", low=0.0, high=1.0, missing=True,
        ),
        Column(
            "lens_next", "float", "1 if it is the token that follows, else 0; missing at the end", "0..1",
            low=0.0, high=1.0, missing=True,
        ),
        "control",
    ),
    summary_by=("layer", "control"),
    summary_of=("same_token", "same_next", "cosine", "z", "lens_own", "lens_next"),
)  # fmt: skip


def _example(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    layers = sorted({1, subject.n_layers // 2, subject.n_layers})
    return {"bank": StateBank.of(subject, texts, layers=layers, skip=1, truncate=True), "texts": texts.head(4)}


@probe(NEAREST, plot=plots.nearest_contexts, explore=explore.nearest_contexts, example=_example)
def nearest_contexts(
    subject: Source,
    texts: Texts | None = None,
    *,
    bank: StateBank,
    states: Vectors | None = None,
    layers: Layers = None,
    positions: Positions = None,
    k: int = 5,
    across_layers: bool = False,
    centre: bool = True,
    as_directions: bool = False,
    seed: int = 0,
    truncate: bool = False,
) -> pd.DataFrame:
    """Find, for every state of texts or any vector, the contexts of a bank whose states are most like it.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes. A text that is in the bank finds itself.
        bank: of the same model, see `StateBank.of`.
        states: vectors to ask in place of texts. An array [n, d_model] is asked at each of the layers, one of
            [layers, n, d_model], as `subject.record` returns, gives every layer its own; a `Direction` is asked at its
            layers; a `NeuronSet` as what its neurons in the blocks before a layer write together; what
            `sentence_states` returns at its layer. A dictionary names vectors [d_model], directions and neuron sets.
        layers: to read; None and "all" take those of the bank.
        positions: to read, see `logit_lens`; None reads all, first positions too.
        k: neighbours of each state.
        across_layers: search all layers of the bank for each state, and rank by `z`: cosines of different layers are
            not comparable. False searches the state's own layer.
        centre: take the bank's mean state of a layer off all states of it; False compares raw states, as published.
            Without it, any two states of a middle layer have a cosine of about one half.
        as_directions: take arrays of `states` as directions (neurons' value vectors, features of a dictionary), which
            have no mean to take off: only the bank's states are centred. A `Direction` and a `NeuronSet` always are.
        seed: of the controls.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        For every state `k` neighbours, and for each of them its controls: "shuffled", a random state of the bank, and
        "same_token", a random occurrence of the neighbour's token, another one where the bank has one. `cosine` and `z`
        of a control are its own. `lens_own` and `lens_next` say what the logit lens makes of the same state. A vector
        of `states` has its number in `prompt_id` and its name in `vector`; it stands at no token, so that `pos`,
        `token`, `same_token`, `same_next`, `lens_own` and `lens_next` are missing: compare its `cosine` and `z`.

    Raises:
        InputError: the bank lacks a layer, texts and states are given, or neither, or an argument is out of range.
        ModelError: the bank, or what is in `states`, is of another model.

    Cost: one forward pass and an unembedding per state; then a product of every state with all of the bank's layer.

    Pitfall: a neighbour is the nearest of the bank, however far it is. Compare `cosine` and `same_next` with those
    of the control "same_token", which the token gives without its context; a token that the bank lacks has no likeness.

    >>> from probes import StateBank
    >>> bank = StateBank.of("reference", ["The cat sat on the mat, and the dog sat on the floor."], layers=[0, 4])
    >>> frame = nearest_contexts("reference", ["There was a big dog"], bank=bank, positions=-1, k=1)
    >>> frame[frame.control == "none"][["layer", "neighbour"]].values.tolist()
    [[0, ' dog'], [4, ' dog']]
    >>> twice_a_state = 2 * bank.at(4).states(slice(4, 5))
    >>> nearest_contexts("reference", states=twice_a_state, bank=bank, layers=4, k=1, centre=False).neighbour.iat[0]
    ' mat'
    """
    if (texts is None) == (states is None):
        given = "neither texts nor states" if texts is None else "texts and states"
        raise InputError(f"nearest_contexts was given {given}; give the one or the other.")
    subject = load(subject)
    every = layers is None or isinstance(layers, str)
    chosen = list(bank.layers) if every else layers_of(layers, subject.n_layers, subject.name)
    parameters = {
        "bank": bank.digest, "layers": chosen, "positions": positions, "k": k, "across_layers": across_layers,
        "centre": centre,
    }  # fmt: skip
    bank.check(subject)
    bank.check_k(k)
    for layer in chosen:
        subject.check_layer(layer, subject.n_layers) if across_layers else bank.at(layer)
    search = Search(bank, k, across_layers, centre, seed)
    if states is None:
        run = Run(NEAREST, subject, texts, parameters=parameters, truncate=truncate, seed=seed)
        return run.frame(rows_of_texts(run, search, chosen, positions))
    if positions is not None:
        raise InputError(f"positions={positions!r}: vectors stand at no position; leave it out, or give texts.")
    asked = asked_of(subject, states, chosen, as_directions=as_directions)
    run = Run(NEAREST, subject, None, parameters=parameters | {"states": asked.digest}, seed=seed)
    return run.frame([rows_of_vectors(run, search, asked)])
