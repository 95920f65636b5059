"""What is made for a page can be read, whatever strings models and users give, and no string becomes markup."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.display import html
from interp.display.plotting.colours import luminance
from interp.display.text import format_value, visible
from interp.display.token_map import shade, token_map
from interp.errors import InputError, UnknownName
from interp.frames.schema import Schema, columns

SCHEMA = Schema(
    "guest", "nobody (2020)", "one per token", columns("model", "run_id", "prompt_id", "pos", "token", "score")
)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)  # surrogates and controls among them
IN_A_FRAME = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)  # whose strings hold no surrogates


class Read(HTMLParser):
    """Tags, attributes and the text between them, as a browser's parser would have them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("wbr", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def tokens(*texts: str, scores: list[float] | None = None, **more: object) -> pd.DataFrame:
    values = {"model": "m", "run_id": "r", "prompt_id": 0, "pos": range(len(texts)), "token": list(texts)}
    return pd.DataFrame(values | {"score": scores or [float(n) for n in range(len(texts))]} | more)


@given(ANY_TEXT)
def test_every_character_can_be_seen_and_written(text):
    shown = visible(text)
    shown.encode("utf-8")  # a lone surrogate could not be
    for character in shown:
        assert character == " " or unicodedata.category(character)[0] not in "CZ"
    if text.isascii() and text.isprintable():
        assert shown == text


@given(ANY_TEXT, IN_A_FRAME)
def test_no_string_becomes_markup(caption, cell):
    read = Read(html.table(pd.DataFrame({"a": [cell], cell or "b": ["x"]}), caption))
    assert set(read.tags) == {"table", "caption", "thead", "tbody", "tr", "th", "td"} - (
        set() if cell != "a" else {"td"}  # one column then, which heads its row
    )
    assert read.open == []
    assert visible(caption) in "".join(read.texts)


@given(st.lists(IN_A_FRAME, min_size=1, max_size=5))
def test_tokens_are_shown_as_they_read(texts):
    read = Read(token_map(tokens(*texts), SCHEMA))
    assert set(read.tags) <= {"figure", "figcaption", "div", "span", "wbr"} and read.open == []
    assert {name for name, _ in read.attributes} <= {"style", "title"}
    assert "".join(map(visible, texts)) in "".join(read.texts)


def test_a_table_can_be_read_aloud():
    frame = pd.DataFrame({"layer": [0, 1], "kl": [0.5, np.nan], "kl_low": [0.25, np.nan], "kl_high": [1.0, np.nan]})
    page = html.table(frame, "By layer", units={"kl": "nats"})
    read = Read(page)
    assert read.tags[:2] == ["table", "caption"]
    assert read.attributes.count(("scope", "col")) == 2 and read.attributes.count(("scope", "row")) == 2
    assert read.texts[0] == "By layer"
    assert "nats, with 95 % interval" in page and "0.50 [0.25, 1.00]" in page and "–" in read.texts


def test_a_long_table_says_what_it_leaves_out():
    page = html.table(pd.DataFrame({"layer": range(1000)}), "Layers", max_rows=10)
    assert "the first 10 of 1,000 rows" in page and Read(page).tags.count("tr") == 11


def test_an_empty_table_has_its_heads():
    assert Read(html.table(pd.DataFrame({"layer": []}), "Nothing")).tags.count("th") == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.1235"), (True, "yes"), (np.False_, "no"), (1234, "1,234"), (pd.NA, "–"), (None, "–"), (" a", "' a'"),
     (np.inf, "inf"), ([1, 2], "[1, 2]")],
)  # fmt: skip
def test_values_in_few_characters(value, text):
    assert format_value(value) == text


@given(st.floats(-1, 1))
def test_ink_contrasts_with_every_background(share):
    """At least 4.5 to 1, what WCAG asks of small text."""
    style = shade(share)
    parts = [bytes.fromhex(part.split("#")[1]) for part in style.split(";")]
    background, ink = (luminance(*(one / 255 for one in rgb)) for rgb in parts)
    light, dark = max(background, ink), min(background, ink)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


@given(st.floats(0.02, 1))
def test_signs_differ_for_every_kind_of_colour_vision(size):
    """Above zero there is more blue than below, and less red: one of the two differs for every kind of cone."""
    blue, vermilion = (bytes.fromhex(shade(sign * size).split("#")[1][:6]) for sign in (1, -1))
    assert blue[2] > vermilion[2] and blue[0] < vermilion[0]


def test_the_scale_is_symmetric_and_position_0_does_not_set_it():
    page = token_map(tokens("<s>", "a", "b", "c", scores=[1000.0, 2.0, -1.0, np.nan]), SCHEMA)
    assert f'title="position 1: 2" style="{shade(1.0)};' in page
    assert f'title="position 2: -1" style="{shade(-0.5)};' in page
    assert f'title="position 0: 1000" style="{shade(1.0)};' in page
    assert 'title="position 3: missing"' in page
    assert [text for text in Read(page).texts if text in ("-2", "-1", "0", "1", "2")] == ["-2", "-1", "0", "1", "2"]


def test_methods_have_a_line_and_a_scale_each():
    both = pd.concat(
        [tokens("a", "b", scores=[0.0, 3.0], method="big"), tokens("a", "b", scores=[0.0, 0.5], method="small")]
    )
    page = token_map(both, SCHEMA)
    assert "method big, scale ±3" in page and "method small, scale ±0.5" in page
    assert page.count(f'style="{shade(1.0)};unicode') == 2  # each line's largest


def test_lines_left_out_are_counted():
    layers = pd.concat([tokens("a", "b").assign(layer=layer) for layer in range(30)])
    page = token_map(layers, SCHEMA)
    assert "12 of 30 lines, at even distances." in page
    assert "layer 0<" in page and "layer 29<" in page and "layer 1<" not in page  # the first and the last are there
    methods = pd.concat([tokens("a", "b", method=f"m{number}") for number in range(30)])
    page = token_map(methods, SCHEMA)
    assert "The first 12 of 30 lines." in page and "m11," in page and "m12," not in page


def test_values_of_one_sign_use_the_colours_of_their_half():
    page = token_map(tokens("a", "b", "c", "d", scores=[0.5, 0.25, 0.75, 1.0]), SCHEMA)
    assert f'title="position 1: 0.25" style="{shade(0.25)};' in page
    assert [text for text in Read(page).texts if text in ("-1", "0", "0.1", "0.25", "0.5", "1")] == [
        "0",
        "0.1",
        "0.25",
        "0.5",
        "1",
    ]
    below = token_map(tokens("a", "b", "c", scores=[-4.0, -2.0, -1.0]), SCHEMA)
    assert f'title="position 1: -2" style="{shade(-1.0)};' in below and ">-0.2</span>" in below


def test_many_small_values_beside_a_large_one_are_told_apart():
    page = token_map(tokens("a", "b", "c", "d", "e", scores=[0.0, 100.0, 1.0, 4.0, 2.0]), SCHEMA)
    assert (
        f'title="position 2: 1" style="{shade(0.1)};' in page and f'title="position 3: 4" style="{shade(0.2)};' in page
    )
    assert f'{shade(0.5)};padding:0 0.4em">25</span>' in page  # and the legend says so


def test_a_schema_names_what_is_shown():
    frame = tokens("a", "b", scores=[1.0, 1.0]).assign(kl=[0.5, 2.0])
    assert "(p: kl" not in token_map(frame, SCHEMA)
    assert 'title="position 1: 2' in token_map(frame, replace(SCHEMA, shown="kl"))


def test_scores_that_are_all_zero_are_white():
    assert token_map(tokens("a", "b", scores=[0.0, 0.0]), SCHEMA).count(f"{shade(0.0)};unicode") == 2


@pytest.mark.parametrize(
    ("frame", "options", "error", "words"),
    [
        (tokens("a").drop(columns="token"), {}, InputError, "without rows or tokens"),
        (tokens("a").iloc[:0], {}, InputError, "has no token map"),
        (tokens("a"), {"value": "scores"}, UnknownName, "did you mean 'score'"),
        (tokens("a"), {"prompt_id": 7}, InputError, r"prompt 7 is not in the frame; it holds \[0\]"),
        (pd.concat([tokens("a"), tokens("a")]), {}, InputError, "several rows for one token"),
        (tokens("a").drop(columns="score"), {}, InputError, "pass a column as value="),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(frame, options, error, words):
    with pytest.raises(error, match=words):
        token_map(frame, SCHEMA, **options)


def test_findings_tell_their_states_by_words_and_signs():
    frame = pd.DataFrame(
        {"model": "m", "claim": ["a", "b", "c", "d", "e"], "statement": "s", "paper": "p", "effect": 1.0, "low": 0.5,
         "high": 2.0, "comparison": ">= 0.4", "state": ["holds", "fails", "undecided", "skipped", "error"]}
    )  # fmt: skip
    page = html.findings(frame)
    for state in ("✓ holds", "✗ fails", "? undecided", "skipped", "! error"):
        assert state in Read(page).texts
    assert [value for name, value in Read(page).attributes if name == "class"] == [
        "holds",
        "fails",
        "undecided",
        "error",
    ]
    assert (
        Read(page).tags.count("tr") == 6 and "1.0 [0.5, 2.0] &gt;= 0.4" in page and '<th scope="col">model' not in page
    )
    assert '<th scope="col">model' in html.findings(pd.concat([frame, frame.assign(model="n")]))


def test_a_frame_no_probe_made_says_so():
    assert "it was not made by a probe" in html.overview(pd.DataFrame({"<script>": [1]}))
