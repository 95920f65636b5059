from __future__ import annotations

import json
from collections import Counter

import pytest

from interp.data.shipped import shipped_path

GROUPS = [
    "agreement",
    "induction",
    "names",
    "negation",
    "quotes",
    "numbers",
    "lists",
    "dialogue",
    "rare_words",
    "repeated_phrases",
]


@pytest.fixture(scope="module")
def prompts() -> list[dict]:
    return [json.loads(line) for line in (shipped_path("prompts") / "prompts.jsonl").read_text("utf-8").splitlines()]


def test_ten_groups_of_twelve_numbered_in_order(prompts: list[dict]) -> None:
    assert [prompt["prompt_id"] for prompt in prompts] == list(range(120))
    assert list(Counter(prompt["group"] for prompt in prompts).items()) == [(group, 12) for group in GROUPS]
    assert all(list(prompt) == ["prompt_id", "group", "text", "expected"] for prompt in prompts)


def test_texts_are_clean_and_unique(prompts: list[dict]) -> None:
    texts = [prompt["text"] for prompt in prompts]
    assert len(set(texts)) == 120
    for text in texts:
        assert text == text.strip()
        assert "  " not in text
        assert text.isascii(), "plain quotation marks and dashes, as in the training text"
        assert 3 <= len(text.split()) <= 30


def test_expected_continues_the_text(prompts: list[dict]) -> None:
    for prompt in prompts:
        expected = prompt["expected"]
        if expected is None:
            continue
        assert expected.strip(), prompt
        assert expected == expected.rstrip()
        # A word is a new one (GPT-2 splits before its space); only punctuation may touch the text.
        assert expected.startswith(" ") or not expected[0].isalnum(), prompt
        assert not expected.startswith("  ")


def test_most_prompts_have_an_expected_continuation(prompts: list[dict]) -> None:
    answered = Counter(prompt["group"] for prompt in prompts if prompt["expected"] is not None)
    assert all(answered[group] >= 9 for group in GROUPS), answered


def test_induction_can_be_solved_by_copying(prompts: list[dict]) -> None:
    for prompt in prompts:
        if prompt["group"] in ("induction", "repeated_phrases") and prompt["prompt_id"] != 119:
            last_word = prompt["text"].split()[-1]
            assert f"{last_word}{prompt['expected']}" in prompt["text"], prompt


def test_quotes_close_what_is_open(prompts: list[dict]) -> None:
    for prompt in prompts:
        if prompt["group"] == "quotes":
            is_open = prompt["text"].count('"') % 2 == 1
            assert is_open == prompt["expected"].endswith('"') or prompt["expected"] == ' "', prompt
            assert not (is_open and prompt["expected"] == ' "'), prompt


def test_agreement_has_both_numbers(prompts: list[dict]) -> None:
    expected = Counter(prompt["expected"] for prompt in prompts if prompt["group"] == "agreement")
    assert expected[" was"] >= 3
    assert expected[" were"] >= 3
