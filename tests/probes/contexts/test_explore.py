"""Nearest contexts as a page: hovering says the sentences, the control and the lens."""

import json
import re

import pytest

import interp
from interp.display.text import visible
from probes import StateBank, nearest_contexts


@pytest.fixture(scope="module")
def frame():
    subject = interp.load("reference")
    bank = StateBank.of(subject, ["Once upon a time there was a cat.", "The dog sat on the mat."], layers=[2, 8])
    return nearest_contexts(subject, ["There was a dog", "A cat sat"], bank=bank, k=2)


def test_hovering_says_the_sentences(frame):
    items = json.loads(re.search(r'id="data">(.*?)</script>', frame.interp.explore().html, re.DOTALL)[1])["items"]
    assert [item["label"] for item in items] == ["prompt 0", "prompt 1"]
    for number, item in enumerate(items):
        own = frame[(frame["prompt_id"] == number) & (frame["rank_neighbour"] == 0)]
        places = sorted(own["pos"].unique())
        assert item["rows"] == ["layer 2", "layer 8"] and len(item["columns"]) == len(places)
        for row, layer in enumerate((2, 8)):
            for pos in places:
                lines = item["hints"][row][pos]
                found = frame[(frame["prompt_id"] == number) & (frame["layer"] == layer) & (frame["pos"] == pos)]
                best = found[found["control"] == "none"].sort_values("rank_neighbour")
                same = found[(found["control"] == "same_token") & (found["rank_neighbour"] == 0)].iloc[0]
                assert item["cells"][row][pos] == visible(best["neighbour"].iat[0])
                assert [line.startswith(f"{n}. {visible(text)} (cosine ") for n, (line, text) in
                        enumerate(zip(lines[1:3], best["context"], strict=True), 1)] == [True, True]  # fmt: skip
                assert lines[3].startswith(f"control, same token: {visible(same['context'])} ")
                assert lines[4] == f"logit lens: “{visible(best['lens'].iat[0])}”"


def test_places_that_were_not_read_are_empty(frame):
    some = frame[~((frame["prompt_id"] == 0) & (frame["layer"] == 2) & (frame["pos"] == 1))]
    item = json.loads(re.search(r'id="data">(.*?)</script>', some.interp.explore().html, re.DOTALL)[1])["items"][0]
    assert item["cells"][0][1] == "" and item["hints"][0][1] == ["not read"]
    assert item["measures"][0]["values"][0][1] is None
