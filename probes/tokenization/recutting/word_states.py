"""Find the layer where a word that was split is the word again (detokenisation, after Kaplan et al. 2024).

The state at a word's end, its token split in two, is held against the state of the word itself and against those of
other words, the control: states of a layer are all alike, so a high cosine alone says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import (
    VOCABULARY,
    Column,
    InputError,
    Layers,
    Run,
    Schema,
    Source,
    Subject,
    columns,
    layers_of,
    load,
    probe,
    with_concept,
)
from interp.model.tape import Tape
from interp.tokenization import Pieces, lattice_of, recut
from interp.tokenization.recutting import FIXED, SAME_BYTES
from probes import papers
from probes.tokenization._prompts import Prompt, read_prompts
from probes.tokenization.recutting import plots
from probes.tokenization.recutting._variants import check_schemes, draws, keys_of

PLACE = "{word}"

WORD_STATES = Schema(
    probe="word_states",
    paper=papers.INNER_LEXICON,
    rows="one per word, scheme, variant and layer",
    columns=columns(
        *("model", "run_id"),
        VOCABULARY["prompt_id"].with_(meaning="index of the word in the list"),
        Column("word", "str", "the word"),
        Column("scheme", "str", "how its tokens were cut"),
        Column("variant", "int", "number of the draw", low=0),
        Column("n_tokens", "int", "tokens of the word as it was cut", low=1),
        Column("n_tokens_canonical", "int", "tokens of the word as the tokenizer writes it", low=1),
        "layer",
        Column("cosine", "float", "of the state at its end with that of the word itself", low=-1.0, high=1.0),
        Column("cosine_between", "float", "control: with those of the other words, mean", low=-1.0, high=1.0),
        Column("auroc", "float", "share of other words that are farther than itself, ties half", "0..1", 0.0, 1.0),
    ),
    summary_by=("scheme", "layer"),
    summary_of=("cosine", "cosine_between", "auroc"),
)


@dataclass(frozen=True)
class _Cut:
    word: int
    scheme: str
    number: int
    ids: tuple[int, ...]
    n_tokens: int


@probe(WORD_STATES, plot=plots.word_states, example=with_concept(), jointly=True)
def word_states(
    subject: Source,
    words: Sequence[str],
    *,
    prompt: str = PLACE,
    schemes: Sequence[str] = ("split_one", "bytes"),
    n_variants: int = 4,
    layers: Layers = None,
    seed: int = 0,
    bos: bool | None = None,
) -> pd.DataFrame:
    """Compare the state at the end of a split word with the word's own state and with other words', at every layer.

    Args:
        subject: anything `interp.load` takes, with a tokenizer.
        words: two or more, each of which can be cut otherwise.
        prompt: the text whose end a word is, with `{word}` in its place; "The {word}" asks for words inside a text.
        schemes: how to cut a word's tokens, see `retokenisation`; without those that change the text.
        n_variants: draws of each scheme; "bytes" has one.
        layers: the layer or layers to compare, 0..L, negative ones from the last; None and "all" compare all.
        seed: of the draws.
        bos: see `Subject.tokens`.

    Returns:
        One row per word, scheme, variant and layer. The summary's `auroc` says at which layer a word is a word again:
        0.5 is chance, at 1 every split word is nearest to itself.

    Raises:
        InputError: there are fewer than two words, one is given twice or cannot be cut, or the prompt does not end with
            its place.

    Cost: a forward pass of the prompt for each word and each of its variants.

    Pitfall: states of one layer are alike whatever the word: read the cosine beside that with other words.

    >>> frame = word_states("reference", ["happy", "little", "garden"], prompt="The {word}", schemes=("split_one",))
    >>> frame.interp.summary()["auroc"].round(2).tolist()
    [0.38, 0.54, 0.5, 0.58, 0.38, 0.54, 0.54, 0.54, 0.54]
    """
    given, chosen = _checked(words, prompt), check_schemes(schemes, 1.0, tuple(SAME_BYTES))
    if n_variants < 1:
        raise InputError(f"n_variants={n_variants}: give at least 1.")
    subject = load(subject)
    at = layers_of(layers, subject.n_layers, subject.name)
    texts = [prompt.replace(PLACE, word) for word in given]
    tokens = subject.tokens(texts, bos=bos, truncate=None)
    parameters = {"prompt": prompt, "schemes": chosen, "n_variants": n_variants, "layers": layers}
    run = Run(WORD_STATES, subject, tokens, parameters=parameters, seed=seed)
    pieces = Pieces(lattice_of(subject))
    prompts = read_prompts(tokens, pieces.lattice, texts)
    cuts, n_own = _cuts(pieces, prompts, given, prompt, keys_of(prompts, seed), chosen, n_variants)
    own = _unit(_ends(subject, [torch.tensor(one.before + one.ids) for one in prompts], at))
    here = _unit(_ends(subject, [torch.tensor(one.ids) for one in cuts], at))
    word = np.array([one.word for one in cuts])
    similar = np.clip(np.einsum("cld,wld->clw", here, own), -1, 1)  # [cut, layer, word]
    mine = np.take_along_axis(similar, word[:, None, None], axis=2)[..., 0]
    others = np.arange(len(given)) != word[:, None, None]
    n_others = len(given) - 1
    farther = ((similar < mine[..., None]) + 0.5 * (similar == mine[..., None])) * others
    parts = [
        {
            "prompt_id": np.full(len(at), one.word),
            "word": given[one.word],
            "scheme": one.scheme,
            "variant": one.number,
            "n_tokens": one.n_tokens,
            "n_tokens_canonical": n_own[one.word],
            "layer": np.array(at),
            "cosine": mine[row],
            "cosine_between": (similar[row] * others[row]).sum(-1) / n_others,
            "auroc": farther[row].sum(-1) / n_others,
        }
        for row, one in enumerate(cuts)
    ]
    return run.frame(parts)


def _checked(words: Sequence[str], prompt: str) -> list[str]:
    given = [words] if isinstance(words, str) else list(words)
    if len(given) < 2:
        raise InputError(f"words={given!r}: give two or more; other words are the control.")
    for word in given:
        if not word.strip():
            raise InputError(f"word {word!r} is empty; leave it out.")
        if given.count(word) > 1:
            raise InputError(f"word {word!r} is given twice; leave one out.")
    if prompt.count(PLACE) != 1 or not prompt.endswith(PLACE):
        raise InputError(f"prompt={prompt!r}: give a text that ends with {PLACE}, where the word goes.")
    return given


def _cuts(
    pieces: Pieces,
    prompts: Sequence[Prompt],
    words: Sequence[str],
    template: str,
    keys: Sequence[int],
    schemes: Sequence[str],
    n_variants: int,
) -> tuple[list[_Cut], list[int]]:
    """Return every cut of every word, and the tokens of each word as it is."""
    found, n_own = [], []
    lengths = pieces.lattice.vocabulary.lengths
    for number, (one, word, key) in enumerate(zip(prompts, words, keys, strict=True)):
        stops = np.cumsum(lengths[list(one.ids)])
        start = int(np.searchsorted(stops, stops[-1] - len(word.encode()), side="right"))
        before, own = one.before + one.ids[:start], one.ids[start:]
        if not any(map(pieces.splits, own)):
            raise InputError(f"word {word!r} has no token that two others spell, so it has no other cut; leave it out.")
        n_own.append(len(own))
        for scheme in schemes:
            for draw in range(1 if scheme in FIXED else n_variants):
                ids = recut(pieces, own, scheme, draws(key, scheme, draw), p=1.0).ids
                found.append(_Cut(number, scheme, draw, before + ids, len(ids)))
    return found, n_own


def _ends(subject: Subject, prompts: Sequence[Tensor], layers: Sequence[int]) -> np.ndarray:
    """Return the state at the last position of each prompt, float64 [prompt, layer, d_model]."""
    found: list[np.ndarray] = [np.empty(0)] * len(prompts)
    for batch in subject.tokens([one.tolist() for one in prompts]).batches(subject.batch_tokens()):
        row, last = torch.arange(len(batch.lengths)), batch.lengths - 1

        def program(tape: Tape, row: Tensor = row, last: Tensor = last) -> list[Tensor]:
            at = row.to(tape.last.device), last.to(tape.last.device)
            return [tape.residual(layer)[at].double().cpu() for layer in layers]

        states = torch.stack(subject.run(batch.ids, program), dim=1).numpy()
        for index, state in zip(batch.prompts.tolist(), states, strict=True):
            found[index] = state
    return np.stack(found)


def _unit(states: np.ndarray) -> np.ndarray:
    unit: np.ndarray = states / np.maximum(np.linalg.norm(states, axis=-1, keepdims=True), 1e-30)
    return unit
