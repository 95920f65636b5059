"""Read what MLP neurons write as tokens (Geva et al., 2021 and 2022; Häon et al., 2025).

The value vector of a neuron, its row of the MLP's output weights, is multiplied with the direction of every token; the
largest logits name the tokens that the neuron promotes when it is active. No text is read: this is about weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    Column,
    InputError,
    Layers,
    Run,
    Schema,
    Source,
    Subject,
    Usable,
    columns,
    layers_of,
    load,
    options,
    probe,
    progress_bar,
    say_cost,
    usable_facts,
    usable_tokens,
    whole_numbers,
)
from probes import papers
from probes.neurons import plots
from probes.neurons._token_basis import Basis, TokenBasis, token_basis

# Rows of logits at a time: enough for matrix products at full speed, few enough to stay near the processor.
_CHUNK_BYTES = 64 << 20

NEURON_TOKENS = Schema(
    probe="neuron_tokens",
    paper=papers.VALUE_VECTORS,
    rows="one per layer, neuron and k; for the control one per layer, random direction and k",
    columns=columns(
        "model",
        "run_id",
        Column("layer", "int", "block of the neuron", low=0),
        Column("neuron", "int", "MLP neuron within its block; of the control, the neuron whose norm it has", low=0),
        Column("k", "int", "place in the order of logits, 0 is the token promoted most", low=0),
        Column("token_id", "int", "the token promoted", low=0),
        "token",
        Column("logit", "float", "what an activation of 1 adds to the token's logit by the direct path"),
        Column("zscore", "float", "the same in standard deviations over the vocabulary, from its mean"),
        Column("basis", "str", "which directions stand for tokens"),
        "control",
    ),
)


def summarise_neurons(frame: pd.DataFrame) -> pd.DataFrame:
    """Summarise per layer and control the mean, median and 90th percentile of the neurons' top z-score.

    Neurons whose top z-score exceeds those of random directions read as something; the others are noise to this basis.
    """
    top = frame[frame["k"] == 0]
    by = ["model", "run_id", "basis", "layer", "control"]
    summary = top.groupby(by, observed=True)["zscore"].agg(
        n_neurons="size", zscore="mean", zscore_median="median", zscore_90=lambda values: values.quantile(0.9)
    )
    return summary.reset_index()


@probe(NEURON_TOKENS, plot=plots.neuron_tokens, summarise=summarise_neurons, costly=True)
def neuron_tokens(
    subject: Source,
    *,
    layers: Layers = None,
    k: int = 10,
    basis: Basis = "unembedding",
    centre: bool = True,
    usable: Usable = None,
    n_random: int = 64,
    seed: int = 0,
) -> pd.DataFrame:
    """Read every neuron's value vector as the k tokens that it promotes most.

    Args:
        subject: anything `interp.load` takes.
        layers: blocks to read, 0..L-1, negative ones from the last; None and "all" read all.
        k: tokens per neuron.
        basis: see `probes.neurons._token_basis.token_basis`.
        centre: give logits less their mean over the vocabulary, which no probability depends on. The order of tokens
            and the z-scores are the same either way.
        usable: the frame of `token_health`: only tokens that it calls usable are listed; means and z-scores stay those
            of the whole vocabulary.
        n_random: random directions per layer with the norms of randomly chosen neurons, rows with control "random".
        seed: of the random directions.

    Returns:
        One row per layer, neuron and k, and per layer, random direction and k.

    Raises:
        InputError: a layer, k or number that cannot be used.
        UnknownName: there is no such basis.
        ModelError: a mixture of experts, which has no neurons of its own to read.

    Cost: n_layers · d_mlp · d_model · d_vocab multiplications; logits are streamed and never kept. For SmolLM2-135M
    these are 2.6 TFLOP, 29 s of matrix products on one core, of 35 s in all; there is no way around them.

    Pitfall: a neuron's top tokens are its direct effect at the output alone; what later blocks make of it is not in the
    weights.

    >>> frame = neuron_tokens("reference", layers=7, k=3, n_random=0)
    >>> len(frame), frame.k.tolist()[:4]
    (3072, [0, 1, 2, 0])
    >>> bool((frame.groupby("neuron").logit.diff().dropna() <= 0).all())
    True
    """
    parameters = {"layers": layers, "k": k, "basis": basis, "centre": centre, "n_random": n_random}
    loaded = load(subject)
    run = Run(NEURON_TOKENS, loaded, None, parameters=parameters | usable_facts(usable, loaded), seed=seed)
    (k,) = whole_numbers(k, "k")
    allowed = usable_tokens(usable, run.subject)
    most = run.subject.d_vocab if allowed is None else int(allowed.sum())
    if not 1 <= k <= most:
        raise InputError(f"k={k} is not between 1 and the vocabulary's {most}{' usable ones' * (allowed is not None)}.")
    if n_random < 0:
        raise InputError(f"n_random is {n_random}; give 0 or more random directions.")
    chosen = chosen_layers(run.subject, layers)
    values = {layer: run.subject.value_vectors(layer) for layer in chosen}  # refuses a mixture of experts at once
    n_read = sum(map(len, values.values())) + n_random * len(values)
    say_cost(run, products=n_read * run.subject.W_U.numel())
    read = token_basis(run.subject, basis)
    parts = []
    with progress_bar(len(values), "block", NEURON_TOKENS.probe) as bar:
        for layer, vectors in values.items():
            parts.append(_rows(read, vectors, layer, np.arange(len(vectors)), "none", k, centre, allowed))
            if n_random:
                neurons, random = random_directions(vectors, n_random, seed + layer)
                parts.append(_rows(read, random, layer, neurons.numpy(), "random", k, centre, allowed))
            bar.update()
    return run.frame([part | {"basis": basis} for part in parts])


def chosen_layers(subject: Subject, layers: Layers) -> list[int]:
    """Return the chosen blocks, ascending, each once.

    Raises:
        InputError: there is no such block.
    """
    return layers_of(layers, subject.n_layers - 1, subject.name)


def random_directions(vectors: Tensor, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw isotropic directions [n, d_model] with the norms of n randomly drawn vectors, or of all if there are fewer.

    Returns:
        Which vectors were drawn, int64 [n], and the directions, float32.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(vectors), generator=generator)[:n]
    directions = torch.randn(len(drawn), vectors.shape[1], generator=generator).to(vectors.device)
    norms = vectors[drawn.to(vectors.device)].float().norm(dim=1, keepdim=True)
    return drawn, directions / directions.norm(dim=1, keepdim=True) * norms


def readings(read: TokenBasis, prepared: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield centred logits of prepared vectors in chunks [rows, d_vocab]; each reuses the last one's memory."""
    d_vocab = len(read.tokens)
    n_rows = max(1, min(len(prepared), min(options.available // 4, _CHUNK_BYTES) // (4 * d_vocab)))
    buffer = torch.empty(n_rows, d_vocab, device=prepared.device)
    for start in range(0, len(prepared), n_rows):
        rows = slice(start, min(start + n_rows, len(prepared)))
        yield rows, torch.mm(prepared[rows], read.tokens.T, out=buffer[: rows.stop - start])


def top_readings(read: TokenBasis, vectors: Tensor, k: int, allowed: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    """Return the k largest centred logits of vectors [n, d_model] and their tokens, [n, k] each, largest first.

    With `allowed`, bool [d_vocab], other tokens are left out.
    """
    left_out = None if allowed is None else torch.from_numpy(np.flatnonzero(~allowed)).to(read.tokens.device)
    tops = []
    for _, logits in readings(read, read.prepared(vectors)):
        tops.append((logits if left_out is None else logits.index_fill_(1, left_out, -torch.inf)).topk(k, dim=1))
    return torch.cat([top.values for top in tops]), torch.cat([top.indices for top in tops])


def _rows(
    read: TokenBasis,
    vectors: Tensor,
    layer: int,
    neurons: np.ndarray,
    control: str,
    k: int,
    centre: bool,
    allowed: np.ndarray | None,
) -> dict[str, Any]:
    logit, token_id = top_readings(read, vectors, k, allowed)
    prepared = read.prepared(vectors)
    zscore = logit / read.sd(prepared)[:, None]
    if not centre:
        logit = logit + (prepared @ read.mean)[:, None]
    return {
        "layer": layer,
        "neuron": np.repeat(neurons, k),
        "k": np.tile(np.arange(k), len(neurons)),
        "token_id": token_id.flatten().cpu().numpy(),
        "logit": logit.flatten().cpu().double().numpy(),
        "zscore": zscore.flatten().cpu().double().numpy(),
        "control": control,
    }
