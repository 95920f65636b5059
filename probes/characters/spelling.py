"""Few-shot spelling and letter questions, scored by log-probability: can the model use what it knows of letters?

After CharBench (Uzan & Pinter, 2025): the right letter competes with wrong ones that are as common, in the same prompt.
The control asks for the same letters with another word of the same length in the prompt. Right answers there come from
the letters' frequency, the letters spelled so far and the word's length, not from the word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pandas as pd

from interp.authoring import (
    Column,
    InputError,
    Run,
    Schema,
    Source,
    Subject,
    Usable,
    columns,
    load,
    probe,
    usable_facts,
    usable_tokens,
    whole_numbers,
    with_concept,
    word_tokens,
)
from probes import papers
from probes.characters import plots
from probes.characters._log_probs import log_probs
from probes.vocab._words import alphabet, kinds_of_tokens

SHOTS = ("house", "green", "music", "table", "river", "paper", "cloud", "stone")

SPELLING = Schema(
    probe="spelling",
    paper=papers.CHARBENCH,
    rows="one per word, task, letter asked for and control",
    columns=columns(
        "model",
        "run_id",
        Column("prompt_id", "int", "index of the word in the list", low=0),
        Column("word", "str", "the word asked about"),
        Column("task", "str", "'spelling': the next letter of the word; 'membership': a letter that is in the word"),
        "control",
        Column("shown", "str", "the word in the prompt: the word itself, or for the control another as long"),
        Column("letter", "str", "the right letter"),
        Column("letter_pos", "int", "its place in the word, from 0; for membership its first place", low=0),
        Column("n_letters", "int", "letters in the word", low=1),
        Column("n_tokens", "int", "tokens of the word after a space", low=1),
        Column("token_pos", "id", "index of the token that holds the letter; missing if unclear", missing=True),
        Column("token_length", "id", "letters of that token; missing if unclear", low=1, missing=True),
        Column("log_prob", "float", "of the right letter in the prompt", "nats", high=0.0),
        Column("margin", "float", "log_prob minus the highest log-probability of a wrong letter", "nats"),
        Column("correct", "bool", "whether the right letter is more probable than every wrong one"),
        Column("chance", "float", "share of right answers by guessing", "0..1", low=0.0, high=1.0),
    ),
    summary_by=("task", "control"),
    summary_of=("correct", "chance", "margin"),
)


@dataclass(frozen=True)
class _Question:
    """A prompt with its candidates, the right continuation first, and its origin."""

    prompt_id: int
    task: str
    control: str
    shown: str
    letter_pos: int
    prompt: str
    candidates: tuple[str, ...]


@probe(SPELLING, plot=plots.spelling, example=with_concept())
def spelling(
    subject: Source,
    words: Sequence[str],
    *,
    tasks: Sequence[str] = ("spelling", "membership"),
    n_wrong: int = 3,
    shots: int = 4,
    usable: Usable = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Ask a model to spell words letter by letter, and to name a letter that is in them.

    Spelling shows examples such as `music: m u s i c` and the word with its letters so far, and compares the next
    letter with wrong ones. Membership shows `music has the letter s` and compares a letter of the word with letters
    that are not in it. Wrong letters are drawn as often as they occur in `words`. Every question is asked again with
    another word of the same length in the prompt, which lacks the right letter there (control "length_matched").

    Args:
        subject: anything `interp.load` takes.
        words: lower-case ASCII words of two letters or more.
        tasks: "spelling", "membership" or both.
        n_wrong: wrong letters per question; chance is 1 / (1 + n_wrong).
        shots: examples before each question, 0 to 8; a word asked about is never an example.
        usable: the frame of `token_health`: words of the control are your words, or tokens that it calls usable.
        seed: of the wrong letters and the control's words.

    Returns:
        One row per word, task, letter and control. `.interp.summary()` has the share right with 95 % intervals over
        words, beside chance.

    Raises:
        InputError: words or numbers cannot be used.
        TooLong: a prompt is longer than the context.

    Cost: one pass per word for its letters, and one per question of the control and of membership; where a letter after
    a space is several tokens, one per candidate.

    Pitfall: a small model answers from the frequency of letters; only the gain over the other word of the same length
    is knowledge of this word.

    >>> frame = spelling("reference", ["little"], tasks=["spelling"], shots=2)
    >>> frame[["letter", "letter_pos", "n_tokens"]].drop_duplicates().values.tolist()[:3]
    [['l', 0, 1], ['i', 1, 1], ['t', 2, 1]]
    """
    words = [words] if isinstance(words, str) else list(words)
    parameters = {"words": words, "tasks": list(tasks), "n_wrong": n_wrong, "shots": shots}
    loaded = load(subject)
    run = Run(SPELLING, loaded, None, parameters=parameters | usable_facts(usable, loaded), seed=seed)
    _check(words, tasks, n_wrong, shots)
    asker = _Asker(words, _partners(run.subject, words, usable_tokens(usable, run.subject)), n_wrong, shots, seed)
    questions = [question for task in tasks for question in asker.questions(task)]
    texts = [[question.prompt + candidate for candidate in question.candidates] for question in questions]
    scores = log_probs(run.subject, texts, SPELLING.probe)  # [question, candidate]
    pieces = [_pieces(run.subject, word) for word in words]
    own = [words[question.prompt_id] for question in questions]
    at = [pieces[question.prompt_id] for question in questions]
    holds = [of[question.letter_pos] for (_, of), question in zip(at, questions, strict=True)]
    margin = scores[:, 0] - scores[:, 1:].max(axis=1)
    part = {
        "prompt_id": np.array([question.prompt_id for question in questions]),
        "word": np.array(own, dtype=object),
        **{
            name: np.array([getattr(question, name) for question in questions], dtype=object)
            for name in ("task", "control", "shown")
        },
        "letter": np.array([question.candidates[0].strip() for question in questions], dtype=object),
        "letter_pos": np.array([question.letter_pos for question in questions]),
        "n_letters": np.array([len(word) for word in own]),
        "n_tokens": np.array([n_tokens for n_tokens, _ in at]),
        "token_pos": np.array(holds),
        "token_length": np.array(
            [of.count(held) if held >= 0 else -1 for (_, of), held in zip(at, holds, strict=True)]
        ),
        "log_prob": scores[:, 0],
        "margin": margin,
        "correct": margin > 0,
        "chance": 1 / (1 + n_wrong),
    }
    return run.frame([part])


def _check(words: list[str], tasks: Sequence[str], n_wrong: int, shots: int) -> None:
    for word in words:
        if not (isinstance(word, str) and word.isascii() and word.isalpha() and word.islower() and len(word) > 1):
            raise InputError(f"{word!r} is not a lower-case ASCII word of two letters or more; give only such words.")
    if not words or len(set(words)) < len(words):
        raise InputError("words: give at least one, each once.")
    if isinstance(tasks, str) or not tasks or not set(tasks) <= {"spelling", "membership"}:
        raise InputError(f"tasks={tasks!r}: give a list of 'spelling' and 'membership'.")
    (n_wrong,), (shots,) = whole_numbers(n_wrong, "n_wrong"), whole_numbers(shots, "shots")
    if not 1 <= n_wrong <= 10 or not 0 <= shots <= len(SHOTS):
        raise InputError(
            f"n_wrong={n_wrong}, shots={shots}: give 1 to 10 wrong letters, and 0 to {len(SHOTS)} examples."
        )


def _partners(subject: Subject, words: list[str], allowed: np.ndarray | None) -> dict[int, list[str]]:
    """Return the words of each length that the control may show: those asked about, and the vocabulary's own words."""
    _, own = kinds_of_tokens(subject, alphabet("ascii").word)
    own = own if allowed is None else own[allowed]
    found: dict[int, list[str]] = {}
    for word in dict.fromkeys([*words, *sorted({str(word) for word in own if word and word.islower()})]):
        found.setdefault(len(word), []).append(word)
    return found


class _Asker:
    """A source of questions; those about one word do not depend on the other tasks."""

    def __init__(self, words: list[str], partners: dict[int, list[str]], n_wrong: int, shots: int, seed: int) -> None:
        self.words, self.partners, self.n_wrong, self.seed = words, partners, n_wrong, seed
        counts = Counter("".join(words))
        self.letters = "abcdefghijklmnopqrstuvwxyz"
        self.weights = np.array([counts[letter] + 1.0 for letter in self.letters])  # every letter can be drawn
        self.examples = [word for word in SHOTS if word not in words][:shots]

    def questions(self, task: str) -> Iterator[_Question]:
        for prompt_id, word in enumerate(self.words):
            generator = np.random.default_rng([self.seed, task == "membership", *map(ord, word)])
            places = range(len(word)) if task == "spelling" else [word.index(letter) for letter in dict.fromkeys(word)]
            for place in places:
                right = word[place]
                wrong = self._wrong(right if task == "spelling" else word, generator)
                candidates = tuple(f" {letter}" for letter in (right, *wrong))
                shown = {"none": word, "length_matched": self._partner(word, place, task)}
                for control, other in shown.items():
                    if other is not None:
                        prompt = self._prompt(task, other, word[:place])
                        yield _Question(prompt_id, task, control, other, place, prompt, candidates)

    def _wrong(self, excluded: str, generator: np.random.Generator) -> list[str]:
        weights = self.weights * [letter not in excluded for letter in self.letters]
        return list(generator.choice(list(self.letters), self.n_wrong, replace=False, p=weights / weights.sum()))

    def _partner(self, word: str, place: int, task: str) -> str | None:
        """Draw a word of the same length in which the right letter would be wrong; None if there is none.

        Candidates are ranked by a hash, so that neither their order nor another one among them changes the draw,
        unless that one is drawn.
        """
        letter = word[place]
        fitting = [
            other
            for other in self.partners[len(word)]
            if (letter not in other if task == "membership" else other[place] != letter) and other not in self.examples
        ]
        question = f"{self.seed} {task} {word} {place} "
        return min(fitting, key=lambda other: blake2b((question + other).encode()).digest(), default=None)

    def _prompt(self, task: str, word: str, so_far: str) -> str:
        if task == "spelling":
            lines = [f"{example}: {' '.join(example)}" for example in self.examples]
            return "\n".join([*lines, f"{word}:" + "".join(f" {letter}" for letter in so_far)])
        lines = [
            f"{example} has the letter {example[place % len(example)]}" for place, example in enumerate(self.examples)
        ]
        return "\n".join([*lines, f"{word} has the letter"])


def _pieces(subject: Subject, word: str) -> tuple[int, list[int]]:
    """Return the number of tokens of the word after a space, and which of them holds each letter; -1 if unclear."""
    ids = word_tokens(f" {word}", subject.tokenizer)
    texts = [str(subject.token_strings[index]).strip() for index in ids]
    if "".join(texts) != word:
        return len(ids), [-1] * len(word)
    return len(ids), [piece for piece, text in enumerate(texts) for _ in text]
