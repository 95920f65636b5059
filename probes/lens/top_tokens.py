"""The k most probable next tokens at every layer: the logit lens, read as words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from interp.authoring import (
    Column,
    InputError,
    Layers,
    Positions,
    Run,
    Schema,
    Source,
    Texts,
    Usable,
    columns,
    load,
    positions_of,
    probe,
    rows_of_block,
    select_positions,
    usable_facts,
    usable_tokens,
    whole_numbers,
)
from probes import papers
from probes.lens import explore, plots
from probes.lens._places import AT, STATES, place_columns, places_of, read_places, say_cost_of

TOP_TOKENS = Schema(
    probe="top_tokens",
    paper=papers.LOGIT_LENS,
    rows="one per prompt, position, layer and k",
    columns=columns(
        *AT,
        Column("k", "int", "rank of the predicted token, 0 is the most probable", low=0),
        Column("pred_id", "int", "the predicted token", low=0),
        Column("pred", "str", "`pred_id` as text"),
        Column("log_prob", "float", "its log-probability", "nats", high=0.0),
        Column("prob", "float", "its probability", "0..1", low=0.0, high=1.0),
    ),
    summary_by=("layer", "sublayer", "k"),
    summary_of=("prob",),
)


@probe(TOP_TOKENS, plot=plots.top_tokens, explore=explore.top_tokens)
def top_tokens(
    subject: Source,
    texts: Texts,
    *,
    k: int = 5,
    positions: Positions = None,
    layers: Layers = None,
    sublayers: bool = False,
    final_norm: bool = True,
    usable: Usable = None,
    truncate: bool = False,
) -> pd.DataFrame:
    """List the k most probable next tokens at every layer; arguments and errors as in `logit_lens`.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        k: number of tokens, from 1 to the size of the vocabulary.
        positions: see `logit_lens`.
        layers: see `logit_lens`.
        sublayers: see `logit_lens`.
        final_norm: see `logit_lens`.
        usable: the frame of `token_health`: only tokens that it calls usable are listed, with the probabilities that
            they have among all.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, position, layer and k (from 0, most probable first).

    Cost: one forward pass and L + 1 unembeddings per position, as for `logit_lens`.

    Pitfall: the words of early layers are often those nearest to the mean residual, the same for every prompt.

    >>> frame = top_tokens("reference", ["Once upon a time"], k=3, positions=-1, layers=[8])
    >>> frame.k.tolist(), bool((frame.prob.diff().dropna() <= 0).all())
    ([0, 1, 2], True)
    """
    parameters = {"k": k, "positions": positions, "layers": layers, "sublayers": sublayers, "final_norm": final_norm}
    loaded = load(subject)
    run = Run(TOP_TOKENS, loaded, texts, parameters=parameters | usable_facts(usable, loaded), truncate=truncate)
    (k,) = whole_numbers(k, "k")
    allowed = usable_tokens(usable, run.subject)
    most = run.subject.d_vocab if allowed is None else int(allowed.sum())
    if not 1 <= k <= most:
        what = "the size of the vocabulary" if allowed is None else "the number of usable tokens"
        raise InputError(f"k={k} is not between 1 and {most}, {what}.")
    listed = None if allowed is None else torch.from_numpy(allowed)
    places = places_of(run.subject, layers, sublayers)
    asked = positions_of(run.subject, run.tokens, positions)
    say_cost_of(run, places, asked)
    parts = []
    for batch in run.batches(STATES * (1 + sublayers)):
        row, pos = select_positions(batch, asked)
        readout = read_places(
            run.subject, batch, row, pos, places, final_norm=final_norm, entropy=False, kl=False, k=k, listed=listed
        )
        log_prob = readout.top_log_prob.transpose(0, 1).numpy().astype(float)
        parts.append(
            rows_of_block(
                log_prob.shape,
                by_row=run.token_columns(batch, row, pos),
                by_place=place_columns(places),
                full={
                    "k": np.arange(k),
                    "pred_id": readout.top_id.transpose(0, 1).numpy(),
                    "log_prob": log_prob,
                    "prob": np.exp(log_prob),
                },
            )
        )
    return run.frame(parts)
