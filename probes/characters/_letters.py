"""Yes-no questions about the letters of words, and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from interp.authoring import InputError, UnknownName
from probes.vocab._words import Alphabet

Task: TypeAlias = Literal["contains", "first", "last", "position", "count", "length"]
LetterCase: TypeAlias = Literal["oblivious", "sensitive"]


@dataclass(frozen=True)
class Asked:
    """A yes-no question per letter about every word.

    Attributes:
        letters: the letters, length k; for lengths, the number of letters as a string.
        answer: whether yes is the right answer, bool [k, n].
        drawn: whether a token is drawn as a positive, bool [k, n]; differs from `answer` only in the paper's bug.
        eligible: whether the question makes sense for a word, bool [k, n].
    """

    letters: tuple[str, ...]
    answer: np.ndarray
    drawn: np.ndarray
    eligible: np.ndarray

    def only(self, kept: np.ndarray) -> Asked:
        """Return the questions where `kept` [k] is True."""
        letters = tuple(letter for letter, keep in zip(self.letters, kept, strict=True) if keep)
        return Asked(letters, self.answer[kept], self.drawn[kept], self.eligible[kept])


def questions(
    words: np.ndarray, alphabet: Alphabet, task: Task, case: LetterCase, *, index: int = 1, label_bug: bool = False
) -> Asked:
    """Label every word [n] for every letter, or for every length.

    Args:
        words: strings, object [n].
        alphabet: of the words.
        task: "contains": the letter is in the word; "first" and "last": the word begins or ends with it; "position": it
            is at `index` (words without that place are left out); "count": it occurs more than once (words without it
            are left out); "length": the word has at least so many letters.
        case: "oblivious" lower-cases words and letters; "sensitive" takes both as they are.
        index: for "position", from 0, or from the end if negative.
        label_bug: draw as the paper's code does: positives by the lower-case letter, whatever the case rule of the
            labels, so that tokens with only the capital are among the negatives with the label of a positive.

    Raises:
        InputError: the task or case is unknown, or the task has no `label_bug`.

    >>> from probes.vocab._words import alphabet
    >>> asked = questions(np.array(["Cat", "add"], dtype=object), alphabet(["c", "d"]), "contains", "oblivious")
    >>> asked.answer.tolist()
    [[True, False], [False, True]]
    """
    for what, given, known in (("task", task, get_args(Task)), ("case", case, get_args(LetterCase))):
        if given not in known:
            raise UnknownName(what, str(given), known)
    if label_bug and task != "contains":
        raise InputError(f"label_bug=True with task={task!r}: leave it out, only 'contains' has it.")
    if task == "length":
        return _about_length(words)
    read = np.array([word.lower() if case == "oblivious" else word for word in words], dtype=str)
    letters = alphabet.letters or tuple(sorted(set("".join(read.tolist()))))
    if case == "oblivious":
        letters = tuple(dict.fromkeys(letter.lower() for letter in letters))
    answer = np.stack([_yes(read, letter, task, index) for letter in letters])
    eligible = np.ones_like(answer)
    if task == "count":
        eligible = np.stack([_yes(read, letter, "contains", index) for letter in letters])
    elif task == "position":
        eligible &= np.strings.str_len(read) >= (index + 1 if index >= 0 else -index)
    own = words.astype(str)
    drawn = np.stack([_yes(own, letter, task, index) for letter in letters]) if label_bug else answer
    return Asked(letters, answer, drawn, eligible)


def _yes(words: np.ndarray, letter: str, task: Task, index: int) -> np.ndarray:
    """Return whether the answer is yes for each word, bool [n]; `words` have numpy's own string type."""
    if task == "first":
        return np.strings.startswith(words, letter)
    if task == "last":
        return np.strings.endswith(words, letter)
    if task == "position":
        at = slice(index, index + 1 or None)
        return np.array([len(word) >= -index and word[at] == letter for word in words.tolist()])
    return np.strings.count(words, letter) > (task == "count")


def _about_length(words: np.ndarray) -> Asked:
    lengths = np.array([len(word) for word in words])
    asked = range(int(lengths.min()) + 1, int(lengths.max()) + 1)
    answer = np.array([lengths >= length for length in asked]).reshape(len(asked), len(words))
    return Asked(tuple(map(str, asked)), answer, answer, np.ones_like(answer))
