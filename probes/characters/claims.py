"""Claims about the letters that tokens know, of Kaushal and Mahowald (2022) and of Uzan and Pinter (2025)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from interp.authoring import Subject
from interp.findings import Claim, Comparison
from interp.findings.per_prompt import SHARE
from probes import papers
from probes.characters.spelling import spelling

WORDS = (
    "apple", "bread", "chair", "dream", "flower", "garden", "horse", "island", "juice", "kitchen", "lemon", "mother",
    "night", "orange", "pencil", "queen", "rabbit", "silver", "train", "uncle", "village", "winter", "yellow", "bridge",
)  # fmt: skip

OF_ALL_LENGTHS = (
    *WORDS, "sun", "cat", "tree", "fish", "elephant", "chocolate", "butterfly", "strawberry", "grandmother",
    "caterpillar", "crocodile", "dinosaur", "umbrella", "adventure", "watermelon", "playground",
)  # fmt: skip


def spell(subject: Subject, *, seed: int) -> pd.DataFrame:
    """Have the model spell two dozen common words."""
    return spelling(subject, WORDS, tasks=["spelling"], seed=seed)


def spell_all_lengths(subject: Subject, *, seed: int) -> pd.DataFrame:
    """Have the model spell words of three letters to eleven, of one token or several."""
    return spelling(subject, OF_ALL_LENGTHS, tasks=["spelling"], seed=seed)


def _by_letter(frame: pd.DataFrame, control: str) -> pd.Series:
    return frame[frame["control"] == control].groupby("letter")["macro_f1"].mean()


def against_random(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return macro-F1 per letter, and that of probes on Gaussian vectors."""
    return _by_letter(frame, "none"), _by_letter(frame, "random")


def against_permuted(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return macro-F1 per letter, and that of probes on other tokens' vectors."""
    return _by_letter(frame, "none"), _by_letter(frame, "permuted")


def against_length(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return macro-F1 per letter, and that of probes that know only a token's length."""
    return _by_letter(frame, "none"), _by_letter(frame, "length_only")


def letters_right(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the share of letters spelled right per word, and the same with another word shown."""
    shares = frame.groupby(["control", "prompt_id"])["correct"].mean()
    return shares["none"], shares["length_matched"]


def by_token_length(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the share right per letter in the longer half of tokens, and in the shorter."""
    own = frame[(frame["control"] == "none") & frame["token_length"].notna()]
    longer = own["token_length"] > own["token_length"].median()
    shares = own.groupby(["letter", longer])["correct"].mean().unstack().reindex(columns=[True, False]).dropna()
    return shares[True], shares[False]


def _claim(id: str, statement: str, says: str, statistic: Any, note: str = "", **comparison: Any) -> Claim:
    return Claim(
        id=f"characters.{id}",
        statement=statement,
        paper=papers.CHARACTERS,
        says=says,
        probe="character_content",
        parameters={"seeds": 1, "controls": ("random", "permuted", "length_only")},
        statistic=statistic,
        comparison=Comparison(**comparison),
        bounds=SHARE,
        unit="letters",
        note=note
        + "Ridge regression on one split of the vocabulary by lemmas; the paper trains a network with two hidden "
        "layers on five. Resampled by letter.",
    )


CLAIMS = (
    _claim(
        "above_random",
        "which letters a token has can be told from its vector",
        "A probe on GPT-J's input embeddings reaches a macro-F1 of 93.7, on words of lemmas it was not trained on. The "
        "control, a probe on random vectors, reaches 48.4.",
        against_random,
        above="control",
    ),
    _claim(
        "level",
        "letters can be told from a token's vector to a macro-F1 of 0.84, as from GPT-2's",
        "On words of lemmas it was not trained on, a probe on GPT-2's embeddings reaches 84.3, on GPT-J's 93.7 and on "
        "BERT's 78.5. The control, random vectors, reaches 52.3 beside GPT-2.",
        against_permuted,
        "0.84 is the number of GPT-2, the smallest causal model of the paper; its vocabulary is six times the shipped "
        "model's. The control shown is other tokens' vectors. ",
        at_least=0.84,
    ),
    _claim(
        "beyond_length",
        "letters can be told from a token's vector better than from its length",
        "The paper's control is random vectors. Long tokens contain more letters, so the length alone beats chance: "
        "the control here is a probe on the length.",
        against_length,
        above="control",
    ),
    Claim(
        id="characters.spelling",
        statement="the model spells a word better when it sees the word than when it sees another as long",
        paper=papers.CHARBENCH,
        says="Models answer questions about characters far worse than other questions, though their embeddings hold "
        "the letters. The control shows how much the frequency of letters alone gets right: it asks for the same "
        "letters with another word of the same length in the prompt.",
        probe="spelling",
        measure=spell,
        statistic=letters_right,
        comparison=Comparison(above="control"),
        bounds=SHARE,
        unit="words",
        note="Forced choice between the letter and three wrong ones, few-shot, on two dozen common words; CharBench "
        "asks instruction-tuned models in full sentences.",
    ),
    Claim(
        id="characters.token_length",
        statement="letters in longer tokens are spelled less well than the same letters in shorter ones",
        paper=papers.CHARBENCH,
        says="Where a letter must be named by its place, correctness falls with the length of the token that holds it: "
        "longer tokens obscure places. The control is the same letter in tokens of at most the median length.",
        probe="spelling",
        measure=spell_all_lengths,
        statistic=by_token_length,
        comparison=Comparison(below="control"),
        bounds=SHARE,
        unit="letters",
        note="Longer tokens are longer words too, of which more letters stand before; forced choice among four "
        "letters. Resampled by letter.",
    ),
)
