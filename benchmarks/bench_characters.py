"""Compare `character_content` with the authors' procedure on the same splits, samples and controls.

    python benchmarks/bench_characters.py [--letters 3] [--seeds 5] [--skip-large]

The peer is the paper's procedure: one network per letter, seed and control, one after another, with batches of 64 and
the same epochs, in a plain PyTorch loop. It is timed on a few letters and scaled by its number of steps. Its F1 is of
those letters, and ours of the same letters is printed beside it. Then the memory that a vocabulary of GPT-2's size
takes beyond its matrix is printed. Seconds depend on the machine, and wall-clock seconds on its other work; quote the
ratios.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from math import ceil

import numpy as np
import pandas as pd
import torch
from _timing import extra_memory
from torch import Tensor, nn

import interp
from probes import character_content
from probes.characters._fits import CONTROLS, Conditions, draw_samples, macro_f1
from probes.characters._lemma_splits import group_words, split_groups
from probes.characters._letters import questions
from probes.characters.character_content import _words
from probes.vocab._words import alphabet

EPOCHS, BATCH, LR = 5, 64, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--letters", type=int, default=3, help="number of letters to time the peer on")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--skip-large", action="store_true", help="leave out the vocabulary of GPT-2's size")
    arguments = parser.parse_args()
    subject = interp.load("reference")
    # Computed once per subject or process, not per run: the weights' hash, token strings, lemmas.
    character_content(subject, letters=["e"], probe="ridge", seeds=1, controls=[])
    seconds, frames = {}, {}
    for probe, repeats in (("ridge", 3), ("mlp", 1)):  # a few seconds need a median
        spent = []
        for _ in range(repeats):
            start = _clock()
            frames[probe] = character_content(subject, probe=probe, seeds=arguments.seeds)
            spent.append(_clock() - start)
        seconds[probe] = np.median(spent, axis=0)
    n_letters = frames["mlp"]["letter"].nunique()
    n_conditions = 1 + len(CONTROLS)
    print(
        f"character_content on {subject.name!r}: {n_letters} letters x {arguments.seeds} seeds x {n_conditions} "
        f"conditions, {torch.get_num_threads()} threads"
    )
    of_peer, timed, scaled = _peer(subject, arguments.letters, arguments.seeds)
    letters, n_seeds = sorted(of_peer["letter"].unique()), of_peer["seed"].nunique()
    print(
        f"  the authors' procedure {_shown(scaled)}, scaled from {_shown(timed)} on the letters {letters} "
        f"of {n_seeds} seeds by its number of steps"
    )
    for probe, target in (("mlp", 3), ("ridge", 100)):
        wall, cpu = scaled / seconds[probe]
        print(f"  {probe:22s} {_shown(seconds[probe])}, {wall:.1f} x as fast ({cpu:.1f} x by CPU; target {target})")
    same = of_peer["letter"].unique()
    print("  macro-F1 of those letters and seeds, mean and spread (standard deviation) over seeds:")
    for control in ("none", "norm_matched"):
        line = [f"authors {_spread(of_peer, control)}"]
        for probe, frame in frames.items():
            of_same = frame[frame["letter"].isin(same) & frame["seed"].isin(of_peer["seed"])]
            line.append(f"{probe} {_spread(of_same, control)}")
        print(f"    {control:14s}" + "   ".join(line))
    if not arguments.skip_large:
        _large()


def _clock() -> np.ndarray:
    """Return wall-clock seconds, which other work on the machine lengthens, and this process's CPU seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def _shown(seconds: np.ndarray) -> str:
    return f"{seconds[0]:7.1f} s ({seconds[1]:.1f} s CPU)"


def _spread(frame: pd.DataFrame, control: str) -> str:
    per_seed = frame[frame["control"] == control].groupby("seed")["macro_f1"].mean()
    return f"{per_seed.mean():.3f} ± {per_seed.std():.3f}"


def _peer(subject: interp.Subject, n_letters: int, seeds: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return the F1 of the timed letters, their seconds, and an estimate for all letters, seeds and conditions."""
    ids, words = _words(subject, "ascii", False)
    asked = questions(words, alphabet("ascii"), "contains", "oblivious")
    groups = group_words(words.tolist(), "strict", "en")
    lengths = np.array([len(word) for word in words])
    conditions = Conditions(subject.W_E[torch.from_numpy(ids)].float(), lengths, -ids, CONTROLS)
    rows, timed, steps_timed, steps_all = [], {}, {}, {}
    for seed in range(seeds):
        samples = draw_samples(asked, split_groups(groups, seed), seed, cut=True)
        # From the most to the least frequent letter, evenly.
        ordered = sorted(samples, key=lambda letter: -len(samples[letter].train))
        chosen = [ordered[place] for place in np.linspace(0, len(ordered) - 1, n_letters).round().astype(int)]
        for condition in conditions.of_seed(seed):
            width = condition.table.shape[1]
            for sample in samples.values():
                steps_all[width] = steps_all.get(width, 0) + EPOCHS * ceil(len(sample.train) / BATCH)
            if condition.control not in ("none", "norm_matched", "length_only"):
                continue  # as costly as "none"
            for letter in chosen:
                sample = samples[letter]
                x, x_test = condition.features(sample.train), condition.features(sample.test)
                y = torch.from_numpy(asked.answer[letter, sample.train]).float()
                start = _clock()
                predicted = one_at_a_time(x, y, x_test, seed)
                timed[width] = timed.get(width, 0.0) + _clock() - start
                steps_timed[width] = steps_timed.get(width, 0) + EPOCHS * ceil(len(y) / BATCH)
                f1 = macro_f1(asked.answer[letter, sample.test], predicted)
                rows.append((asked.letters[letter], condition.control, seed, f1))
    scaled = sum(timed[width] / steps_timed[width] * steps_all[width] for width in timed)
    return pd.DataFrame(rows, columns=["letter", "control", "seed", "macro_f1"]), sum(timed.values()), scaled


def one_at_a_time(x: Tensor, y: Tensor, x_test: Tensor, seed: int) -> np.ndarray:
    """Train the authors' network for one letter and predict the test words."""
    torch.manual_seed(seed)
    d = x.shape[1]
    network = nn.Sequential(
        nn.Linear(d, d), nn.SELU(), nn.Linear(d, d), nn.Tanh(), nn.Dropout(0.1), nn.Linear(d, 1)
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    for _ in range(EPOCHS):
        for start in range(0, len(y), BATCH):
            optimizer.zero_grad()
            logits = network(x[start : start + BATCH])[:, 0]
            nn.functional.binary_cross_entropy_with_logits(logits, y[start : start + BATCH]).backward()
            optimizer.step()
    with torch.no_grad():
        return (network.eval()(x_test)[:, 0] > 0).numpy()


def _large() -> None:
    """Print the memory beyond the matrix for a vocabulary of 50,257 x 768.

    First 25 networks at once, as many as the budget allows; then ridge, because the process may keep the memory that
    ridge frees.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    generator = np.random.default_rng(0)
    names: dict[str, None] = {}
    while len(names) < 50257:
        names["".join(generator.choice(list("etaoinshrdlucmfw"), generator.integers(3, 9)))] = None
    core = Tokenizer(WordLevel({name: place for place, name in enumerate(names)}))
    model = GPT2LMHeadModel(GPT2Config(n_layer=1)).eval()
    subject = interp.load(model, tokenizer=PreTrainedTokenizerFast(tokenizer_object=core))
    _ = subject.fingerprint, subject.token_strings
    for probe, letters, epochs in (("mlp", list("etaow"), 1), ("ridge", "ascii", 5)):
        settings = {"probe": probe, "letters": letters, "seeds": 1, "epochs": epochs, "language": None}
        start = _clock()
        extra = extra_memory(partial(character_content, subject, **settings))
        spent = _clock() - start
        what = f"{probe}, letters {letters if isinstance(letters, str) else len(letters)}, 1 seed, 7 conditions"
        memory = "unknown" if extra is None else f"{extra / 2**30:.2f}"
        print(f"  50,257 x 768, {what}: {_shown(spent)}, {memory} GiB beyond the model (target 2)")


if __name__ == "__main__":
    main()
