"""Hit rates of attribution methods on programs that Tracr compiled, where the tokens that are needed are known.

    python -m probes.attribution.known_answers.compiled_scores

prints the table. Nobody here chose these weights, and their attention is hard, which is difficult for gradients.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.authoring import InputError
from interp.planted import tracr
from interp.planted.compiled import END, Program
from probes.attribution.attribute import METHODS, Methods, attribute
from probes.attribution.known_answers.planted_scores import TIE, table_lines

PROGRAMS: tuple[Program, ...] = ("previous", "induction", "hist", "reverse")
_WORDS = "abcd"
_LENGTH = 6  # words of a text of "previous" and "hist", and the most before and with the end of one of "reverse"


def compiled_scores(methods: Methods | None = None, *, n_prompts: int = 40, seed: int = 0) -> pd.DataFrame:
    """Score texts of compiled programs, and count the needed tokens among those of the highest scores.

    "previous" needs the word before the last one, "induction" the word that is copied, its like before it and the last
    one, "hist" every occurrence of the last word, "reverse" the end and the word at the mirrored place. Other tokens,
    exchanged for any other of the four words, change no answer.

    Args:
        methods: as for `attribute`; None takes all.
        n_prompts: of each program.
        seed: of texts and methods.

    Returns:
        One row per program, method and prompt: `needed` tokens, how many of them are `found` among as many with the
        largest scores by size, the `share` found, and the one that a random order finds on average, `chance`. Sizes
        that differ by less than 1 % of the largest one tie, and a tie is broken in all ways.

    Raises:
        InputError: there is no prompt.

    >>> frame = compiled_scores(("occlusion", "norm"), n_prompts=4)
    >>> frame.groupby(["program", "method"])["share"].mean()["previous"].round(2).to_dict()
    {'norm': 0.17, 'occlusion': 1.0}
    """
    if n_prompts < 1:
        raise InputError(f"n_prompts={n_prompts}: give at least 1.")
    chosen = tuple(METHODS) if methods is None else methods
    parts = []
    for program in PROGRAMS:
        draw = np.random.default_rng(seed)
        texts, needed = zip(*(prompt(program, draw) for _ in range(n_prompts)), strict=True)
        frame = attribute(tracr(program).model, list(texts), methods=chosen, seed=seed)
        parts += [
            _counts(rows, needed[number]) | {"program": program, "method": method, "prompt_id": number}
            for (method, number), rows in frame.groupby(["method", "prompt_id"], sort=False)
        ]
    return pd.DataFrame(parts)[["program", "method", "prompt_id", "needed", "found", "share", "chance"]]


def prompt(program: Program, draw: np.random.Generator) -> tuple[str, tuple[int, ...]]:
    """Draw a text of a program; return it with the positions of the tokens that its last answer needs."""
    if program == "induction":
        words = draw.permutation(list(_WORDS)).tolist()
        at = int(draw.integers(0, len(words) - 1))
        words.append(words[at])
        needed: tuple[int, ...] = (at + 1, at + 2, len(words))
    elif program == "reverse":
        words = draw.choice(list(_WORDS), int(draw.integers(3, _LENGTH))).tolist()
        written = int(draw.integers(0, 3))  # words of the answer that stand there already
        needed = (len(words) - written, len(words) + 1)
        words += [END, *(word.upper() for word in words[: -written - 1 : -1])]
    else:
        words = draw.choice(list(_WORDS), _LENGTH).tolist()
        places = [place for place, word in enumerate(words, 1) if word == words[-1]]
        needed = (_LENGTH - 1,) if program == "previous" else tuple(places)
    return "BOS " + " ".join(words), needed


def _counts(rows: pd.DataFrame, needed: tuple[int, ...]) -> dict[str, float]:
    return found_first(rows["score"].abs().to_numpy(), rows["pos"].isin(needed).to_numpy())


def found_first(size: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Count the wanted ones among as many of the largest sizes; ties within 1 % of the largest break in all ways.

    >>> found_first(np.array([3.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False]))
    {'needed': 2, 'found': 1.5, 'share': 0.75, 'chance': 0.5}
    """
    needed = int(wanted.sum())
    last, tie = np.sort(size)[-needed], TIE * size.max()
    above, level = size > last + tie, np.abs(size - last) <= tie
    found = float(wanted[above].sum() + (needed - above.sum()) * wanted[level].mean())
    return {"needed": needed, "found": found, "share": found / needed, "chance": needed / len(size)}


def rates(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean shares: one row per method, in the frame's order, one column per program; the last row is chance."""
    table = frame.pivot_table(index="method", columns="program", values="share", sort=False)
    chance = frame.groupby("program")["chance"].mean().rename("a random order")
    return pd.concat([table, chance.to_frame().T])[list(PROGRAMS)]


if __name__ == "__main__":
    print("\n".join(table_lines(rates(compiled_scores()))))
