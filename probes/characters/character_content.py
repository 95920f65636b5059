"""Probes for the letters in a token's vector (Kaushal and Mahowald, 2022).

A model never sees letters: a token is a number. A probe is trained to predict from a token's vector alone whether a
letter occurs in the token, and tested on tokens of lemmas it was not trained on. The same probe on vectors that cannot
know the letters shows what its score is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import (
    Column,
    InputError,
    Layers,
    Run,
    Schema,
    Source,
    Subject,
    UnknownName,
    Usable,
    columns,
    load,
    options,
    progress_bar,
    usable_facts,
    usable_tokens,
    whole_numbers,
)
from interp.authoring import probe as mark_probe
from interp.stats import auc
from probes import papers
from probes.characters import plots
from probes.characters._batched_mlp import Training
from probes.characters._fits import CONTROLS, Conditions, ProbeKind, draw_samples, macro_f1, score, work
from probes.characters._lemma_splits import SplitRule, group_words, split_groups
from probes.characters._letters import LetterCase, Task, questions
from probes.characters._summary import summarise_letters
from probes.characters._token_vectors import Where, layers_to_read, token_vectors
from probes.vocab._directions import suspects
from probes.vocab._words import Letters, alphabet
from probes.vocab.vocabulary import vocabulary

_UNITS = {"ridge": "split", "logistic": "fit", "mlp": "step"}  # of the progress bar

CHARACTERS = Schema(
    probe="character_content",
    paper=papers.CHARACTERS,
    rows="one per letter, place, probe, control and seed",
    columns=columns(
        "model",
        "run_id",
        Column("letter", "str", "the letter asked about, or for the task 'length' a number of letters"),
        Column("task", "str", "the question: contains, first, last, position, count or length"),
        Column("case", "str", "'oblivious': capitals count as their letter; 'sensitive': they do not"),
        Column("where", "str", "the vectors: embedding, unembedding, or residual of single-token prompts"),
        Column("layer", "id", "layer of the residual, 0..L; missing for weights", low=0, missing=True),
        Column("probe", "str", "mlp, logistic or ridge"),
        "control",
        "seed",
        Column("n_train", "int", "tokens the probe was fitted to", low=1),
        Column("n_test", "int", "tokens it was tested on; half have the letter, if the case rule allows", low=2),
        Column("n_positive", "int", "test tokens for which the answer is yes", low=1),
        Column("macro_f1", "float", "mean of the F1 of both answers; 1/3 constant, 1/2 coin", "0..1", low=0, high=1),
        Column("accuracy", "float", "share of tokens answered correctly", "0..1", low=0, high=1),
        Column("auroc", "float", "probability that a yes token scores above a no token", "0..1", low=0, high=1),
    ),
)


def _example(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    return {"seeds": 1, "controls": ("random", "length_only")}


@mark_probe(CHARACTERS, plot=plots.characters, summarise=summarise_letters, example=_example)
def character_content(
    subject: Source,
    *,
    letters: Letters = "ascii",
    where: Where = "embedding",
    layers: Layers = None,
    task: Task = "contains",
    index: int = 1,
    case: LetterCase = "oblivious",
    probe: ProbeKind = "ridge",
    seeds: int | Sequence[int] = 5,
    controls: Sequence[str] = CONTROLS,
    split: SplitRule = "strict",
    language: str | None = "en",
    min_tokens: int = 50,
    frequencies: Sequence[float] | None = None,
    drop_glitches: bool = False,
    usable: Usable = None,
    label_bug: bool = False,
    epochs: int = 5,
    lr: float = 3e-4,
    batch: int = 64,
) -> pd.DataFrame:
    """Train one probe per letter to predict from a token's vector whether the letter is in the token.

    Tokens are the alphabet's words of two letters or more, without a space before or behind. They are split 64 / 16 /
    20 % by lemma; a letter's training and test tokens are those that have it and as many that do not. "ridge" and
    "logistic" are linear. "mlp" is the paper's network with two hidden layers; it takes hundreds of times as long.

    The controls run on the same tokens and labels: "random" (Gaussian vectors of standard deviation 0.01, the paper's),
    "norm_matched" (Gaussian directions with every token's own norm), "permuted" (another token's vector),
    "shuffled_labels" (trained on permuted labels), "length_only" (the number of letters) and "frequency_only" (sixteen
    classes of frequency).

    Args:
        subject: anything `interp.load` takes.
        letters: "ascii"; a Unicode script such as "Cyrillic", whose letters are those in enough tokens; or a list.
        where: "embedding" (its rows) or "unembedding" (its columns).
        layers: read the residual of the prompt [start of text, token] at these layers 0..L instead,
            negative ones from the last, or at "all".
        task: "contains", "first", "last", "position" (the letter at `index`), "count" (more than once, among tokens
            that contain it) or "length" (at least so many letters).
        index: for the task "position", from 0; negative from the end.
        case: "oblivious": a capital counts as its letter; "sensitive": it does not.
        probe: "ridge", in closed form; "logistic"; or "mlp", the paper's.
        seeds: the number of seeds, or a list of them; each has its own split, controls and initial weights.
        controls: the controls to run, in this order.
        split: "strict" ignores case in lemmas; "paper" leaves words with capitals apart; "random" splits token by
            token, so that inflections leak.
        language: of the lemmas, a code such as "en"; None makes every word its own lemma.
        min_tokens: ask about a letter only if at least so many tokens have it and so many do not. The paper takes 250.
        frequencies: of every token of the vocabulary, for "frequency_only"; None takes the order of ids, which follows
            frequency in learned vocabularies.
        drop_glitches: leave out tokens that `token_health` suspects by their direction.
        usable: the frame of `token_health`: ask about the tokens that it calls usable only.
        label_bug: draw and label as the paper's code does: positives have the lower-case letter, and a token with only
            its capital is among the negatives with a positive's label.
        epochs: of the MLP.
        lr: of the MLP; the paper takes 1e-4 to 1e-3 by model, and 1e-3 lowers its scores on small models.
        batch: examples per step of the MLP.

    Returns:
        One row per letter, place, control and seed; shares in 0..1. `.interp.summary()` has means over letters with
        intervals over letters and seeds, and the gain over the best control.

    Raises:
        InputError: an argument cannot be used, or there are too few words or letters.
        ModelError: the model's weights are not available.

    Cost: no forward pass for weights; for `layers`, one pass over every token per chunk of layers. An MLP costs the
    training of 2 d² weights per letter, seed and control; ridge one Gram matrix per seed and control.

    Pitfall: tokens of one letter differ in length and frequency too; the gain over the best control is the result, not
    the score.

    >>> frame = character_content("reference", letters=["e", "s"], probe="ridge", seeds=1, controls=["permuted"])
    >>> frame.groupby("control").macro_f1.mean().round(1).to_dict()
    {'none': 0.6, 'permuted': 0.5}
    """
    parameters = {
        "letters": letters, "where": where, "layers": layers, "task": task, "index": index, "case": case,
        "probe": probe, "seeds": seeds, "controls": controls, "split": split, "language": language,
        "min_tokens": min_tokens, "frequencies": frequencies, "drop_glitches": drop_glitches, "label_bug": label_bug,
        "epochs": epochs, "lr": lr, "batch": batch,
    }  # fmt: skip
    training = Training(epochs, lr, batch)
    numbers = _check(seeds, controls, training)
    loaded = load(subject)
    run = Run(CHARACTERS, loaded, None, parameters=parameters | usable_facts(usable, loaded))
    places = layers_to_read(run.subject, layers)
    chosen = alphabet(letters)
    ids, words = _words(run.subject, letters, drop_glitches, usable_tokens(usable, run.subject))
    asked = questions(words, chosen, task, case, index=index, label_bug=label_bug)
    n_yes, n_no = (asked.answer & asked.eligible).sum(axis=1), (~asked.answer & asked.eligible).sum(axis=1)
    asked = asked.only((n_yes >= min_tokens) & (n_no >= min_tokens))
    if not asked.letters:
        raise InputError(
            f"no letter is in {min_tokens} and absent from {min_tokens} of {len(words)} words; lower min_tokens."
        )
    groups = group_words(words.tolist(), split, language)
    splits = {seed: split_groups(groups, seed) for seed in numbers}
    common = _frequencies(run.subject, frequencies)[ids]
    lengths = np.array([len(word) for word in words])
    samples = {seed: draw_samples(asked, splits[seed], seed, cut=not label_bug) for seed in numbers}
    amount = len(places) * sum(work(probe, controls, of_seed, training) for of_seed in samples.values())
    rows: list[dict[str, Any]] = []
    with progress_bar(amount, _UNITS[probe], CHARACTERS.probe) as bar:
        for layer, matrix in token_vectors(run.subject, ids, where, places):
            conditions = Conditions(matrix, lengths, common, controls)
            for seed in numbers:
                fit = partial(score, seed=seed, training=training, memory=options.available // 2, advance=bar.update)
                for one in fit(probe, conditions.of_seed(seed), asked, splits[seed], samples[seed]):
                    row = {"letter": asked.letters[one.letter], "layer": layer, "control": one.control, "seed": seed}
                    rows.append(row | _measures(one.n_train, one.answer, one.score))
    if not rows:
        raise InputError("no split left a letter with both answers in both parts; ask about more frequent letters.")
    table = pd.DataFrame(rows)
    part: dict[str, Any] = {name: table[name].to_numpy() for name in table.columns}
    same = {"task": task, "case": case, "where": where if layers is None else "residual", "probe": probe}
    return run.frame([part | same])


def _check(seeds: int | Sequence[int], controls: Sequence[str], training: Training) -> list[int]:
    if isinstance(controls, str):
        raise InputError(f"controls={controls!r}: give a list, such as [{controls!r}].")
    for control in controls:
        if control not in CONTROLS:
            raise UnknownName("control", str(control), CONTROLS)
    for what, number in (("epochs", training.epochs), ("batch", training.batch)):
        if number < 1:
            raise InputError(f"{what}={number}: give at least 1.")
    if not training.lr > 0:
        raise InputError(f"lr={training.lr}: give a number above 0.")
    numbers = list(range(seeds)) if isinstance(seeds, int) else whole_numbers(seeds, "seeds")
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise InputError(f"seeds={seeds!r}: give their number, at least 1, or different seeds of 0 or more.")
    return numbers


def _words(
    subject: Subject, letters: Letters, drop_glitches: bool, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and words of the tokens that are words, int64 [n] and object [n]."""
    table = vocabulary(subject, letters=letters)
    if not (table["kind"] == "word").any():
        n_letters = int((table["kind"] == "single_letter").sum())
        raise InputError(
            f"no token of {subject.name!r} is a word of two letters or more of {letters!r}, {n_letters} are single "
            "letters: a token that is one letter leaves nothing to ask; choose a model with longer tokens."
        )
    wanted = (table["kind"] == "word") & (True if allowed is None else allowed)
    kept = table[wanted & ~suspects(subject).candidate if drop_glitches else wanted]
    return kept["token_id"].to_numpy(copy=True), kept["word"].to_numpy(dtype=object)


def _frequencies(subject: Subject, frequencies: Sequence[float] | None) -> np.ndarray:
    if frequencies is None:
        return -np.arange(subject.d_vocab)
    given = np.asarray(frequencies, dtype=float)
    if given.shape != (subject.d_vocab,) or np.isnan(given).any():
        raise InputError(
            f"frequencies {list(given.shape)} have a wrong shape or NaN; give one per token, [{subject.d_vocab}]."
        )
    return given


def _measures(n_train: int, answer: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    answered = scores > 0
    return {
        "n_train": n_train,
        "n_test": len(answer),
        "n_positive": int(answer.sum()),
        "macro_f1": macro_f1(answer, answered),
        "accuracy": float(np.mean(answer == answered)),
        "auroc": auc(scores, answer),
    }
