"""Attributions made by inseq, as frames of `attribute`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import InputError, Run, Source, Subject, load
from probes.attribution._targets import Scores, Targets, as_tokens, attribution_columns
from probes.attribution.attribute import ATTRIBUTE


def from_inseq(subject: Source, output: Any, *, method: str | None = None) -> pd.DataFrame:
    """Convert the output of inseq's `model.attribute(...)` for a decoder-only model.

    inseq need not be installed: only the attributes of the output are read. An output that was saved with
    `output.save(path)` and loaded again works too. Sequences are numbered as prompts in their order, and every
    attributed token is a target.

    Args:
        subject: the attributed model; anything `interp.load` takes.
        output: a `FeatureAttributionOutput` with one score per token: if it has one per dimension, call its
            `aggregate()` first.
        method: name in the frame; by default "inseq " followed by inseq's name.

    Returns:
        A frame like that of `attribute`: it can be plotted, summed up and joined (`interp.concat`) with others.

    Raises:
        InputError: the attribution is of an encoder-decoder, is not aggregated, lacks scores, or has tokens that the
            model does not have.
    """
    sequences = getattr(output, "sequence_attributions", None)
    if not sequences:
        raise InputError(f"a {type(output).__name__} is not an inseq attribution: it has no sequence_attributions.")
    name = method or f"inseq {output.info.get('attribution_method', 'attribution')}"
    subject = load(subject)
    ids = [_ids(subject, sequence.target, index) for index, sequence in enumerate(sequences)]
    prompt, pos, scores = [], [], []
    for index, sequence in enumerate(sequences):
        matrix, first = _matrix(sequence, index)
        for column in range(matrix.shape[1]):
            prompt.append(index)
            pos.append(first + column - 1)
            scores.append(matrix[: first + column, column].double().cpu().numpy())
    if not all(np.isfinite(one).all() for one in scores):
        raise InputError("the score of a token that was read is missing or infinite in this inseq attribution.")
    target_ids = [int(ids[index][last + 1]) for index, last in zip(prompt, pos, strict=True)]
    targets = Targets(as_tokens(ids, None), torch.tensor(prompt), torch.tensor(pos), torch.tensor(target_ids))
    columns = attribution_columns(targets, Scores(scores), method=name)
    digest = hashlib.sha256(columns["token_id"].tobytes() + columns["score"].tobytes()).hexdigest()
    return Run(ATTRIBUTE, subject, None, parameters={"method": name, "sha256": digest}).frame([columns])


def _ids(subject: Subject, tokens: Sequence[Any], index: int) -> Tensor:
    """Return the token ids of a sequence [pos], after checking that ids and tokens match the subject's."""
    ids = [int(token.id) for token in tokens]
    if not all(0 <= one < subject.d_vocab for one in ids):
        raise InputError(
            f"sequence {index} has token id {max(ids)}, but {subject.name!r} has {subject.d_vocab} tokens."
        )
    if subject.tokenizer is not None:
        for token, own in zip(tokens, subject.tokenizer.convert_ids_to_tokens(ids), strict=True):
            if token.token != own:
                raise InputError(
                    f"token {token.id} is {token.token!r} in inseq's model but {own!r} in {subject.name!r}."
                )
    return torch.tensor(ids)


def _matrix(sequence: Any, index: int) -> tuple[Tensor, int]:
    """Return the scores [token, attributed token] of one sequence and the position of the first attributed token."""
    if sequence.source_attributions is not None:
        raise InputError(f"sequence {index} attributes to a source text; give a decoder-only model's attribution.")
    matrix, first = sequence.target_attributions, int(sequence.attr_pos_start)
    if matrix is None or matrix.ndim != 2:
        shape = None if matrix is None else list(matrix.shape)
        raise InputError(f"the scores of sequence {index} have shape {shape}; call the output's aggregate() first.")
    if first < 1:
        raise InputError(f"sequence {index} attributes its first token, but the model reads no token before it.")
    return matrix, first
