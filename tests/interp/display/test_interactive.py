"""Pages to look into: what they hold, that they load nothing, and what a mouse finds on them in a real browser."""

from __future__ import annotations

import json
import os
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

import interp
from interp.display.interactive import Doses, Grid, Measure, Strip, Strips, explorer
from interp.display.text import visible
from interp.errors import InputError, UnknownName
from interp.planted import copying
from probes import attribute, logit_lens, neuron_kinds, top_tokens

from . import chromium

TEXTS = ["Once upon a time", "The little girl was very"]
GRID = Grid(
    "prompt 0",
    ["a", "</script>"],
    ["layer 0", "layer 1"],
    [["b", "c"], ["d", "e"]],
    [[["b 50 %"], ["c 25 %"]], [["d 75 %"], ["e 100 %"]]],
    [Measure("probability", "share", True, [[0.5, 0.25], [0.75, float("nan")]])],
)


def payload(page) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page.html, re.DOTALL)[1])


@pytest.fixture(scope="module")
def lens():
    return logit_lens("reference", TEXTS)


@pytest.fixture(scope="module")
def top():
    return top_tokens("reference", TEXTS, k=5)


def test_a_page_is_one_document_that_loads_nothing(tmp_path):
    page = explorer("a <lens>", [GRID, GRID])
    saved = page.save(tmp_path / "page.html").read_text("utf-8")
    assert saved == page.html and saved.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?://|src=|@import|url\(", saved)
    assert "default-src 'none'" in saved and "a &lt;lens&gt;" in saved
    assert payload(page)["items"][0]["columns"] == ["a", "</script>"]
    assert payload(page)["items"][0]["measures"][0]["values"] == [[0.5, 0.25], [0.75, None]]
    shown = page._repr_html_()
    assert (
        'sandbox="allow-scripts"' in shown and unescape(re.search('srcdoc="(.*?)"', shown, re.DOTALL)[1]) == page.html
    )
    with pytest.raises(InputError, match="nowhere"):
        page.save(tmp_path / "nowhere" / "x.html")


def test_hovering_over_a_lens_says_its_five_tokens_and_the_targets_rank(lens, top):
    items = payload(lens.interp.explore(top=top))["items"]
    assert [item["label"] for item in items] == ["prompt 0", "prompt 1"]
    n_pos = int((lens["prompt_id"] == 1).sum() / 9)
    hints = items[1]["hints"]
    assert (len(hints), len(hints[0])) == (9, n_pos) == (len(items[1]["rows"]), len(items[1]["columns"]))
    for layer, pos in ((0, 1), (5, 2), (8, n_pos - 2)):
        listed = top.query("prompt_id == 1 and layer == @layer and pos == @pos").sort_values("k")
        row = lens.query("prompt_id == 1 and layer == @layer and pos == @pos").iloc[0]
        lines = hints[layer][pos]
        pairs = enumerate(zip(listed["pred"], listed["prob"], strict=True), start=1)
        want = [f"{n}. “{token}” {prob:.1%}" for n, (token, prob) in pairs]
        assert lines[1:6] == [visible(one) for one in want]
        assert lines[6] == f"target “{row['target']}”: rank {row['rank']}, {np.exp(row['log_prob']):.2%}"
        assert items[1]["cells"][layer][pos] == visible(row["top1"])
    assert len(hints[0][n_pos - 1]) == 6  # nothing follows the last token
    kl = next(one for one in items[1]["measures"] if one["label"].startswith("KL"))
    want = lens[lens["prompt_id"] == 1].pivot(index="layer", columns="pos", values="kl_to_final").to_numpy()
    np.testing.assert_allclose(np.array(kl["values"], dtype=float), want, rtol=1e-4)  # five digits


def test_top_tokens_alone_know_the_rank_of_what_follows(top):
    (lines,) = [row[1] for row in payload(top.interp.explore())["items"][0]["hints"][8:]]
    found = top.query("prompt_id == 0 and layer == 8 and pos == 1").sort_values("k")["pred"].tolist()
    follows = top.query("prompt_id == 0 and pos == 2")["token"].iat[0]
    want = f"rank {found.index(follows)}" if follows in found else "not among these 5"
    assert lines[-1] == f"target “{follows}”: {want}"


def test_attributions_are_strips():
    frame = attribute("reference", TEXTS[1], methods=("normxlogit", "occlusion"))
    (item,) = payload(frame.interp.explore())["items"]
    assert [strip["label"] for strip in item["strips"]] == ["normxlogit", "occlusion"]
    for strip, (_, rows) in zip(item["strips"], frame.groupby("method", sort=False), strict=True):
        np.testing.assert_allclose(strip["values"], rows["score"], rtol=1e-4)
        assert strip["limit"] == pytest.approx(rows.loc[rows["pos"] > 0, "score"].abs().max(), rel=1e-4)


def test_tokens_of_a_lens_say_how_far_each_layer_is_from_the_output(lens, tmp_path):
    page = lens.interp.tokens()
    assert (
        "KL(the model&#39;s output || the distribution here), nats; prompt 0" in page.html
        and page._repr_html_().count("layer ") >= 9
    )
    shades = re.findall(r'style="background:#(\w{6})', page.html)
    assert len(set(shades)) > 15  # the scale uses its colours
    assert "<body>" in page.save(tmp_path / "tokens.html").read_text("utf-8")
    twice = interp.concat([lens, logit_lens(copying(a=2.0).model, "w1 w2 w3")])
    assert twice.interp.tokens().html.count("<figure") == 2
    assert twice.interp.tokens(model="reference").html == page.html


def test_what_cannot_be_shown_is_refused(lens, top):
    with pytest.raises(UnknownName, match="did you mean 'reference'"):
        lens.interp.tokens(model="refrence")
    with pytest.raises(UnknownName, match="did you mean 'reference'"):
        lens.interp.explore(model="refrence")
    with pytest.raises(InputError, match="top= lacks places of this frame"):
        lens.interp.explore(top=top[top["prompt_id"] == 0])
    with pytest.raises(InputError, match="has no page to explore; draw its figure"):
        neuron_kinds("reference").interp.explore()


# -- in a browser ----------------------------------------------------------------------------------------------------

browser = pytest.mark.slow  # and so not in `make test`, which needs no Chromium


@pytest.fixture(scope="module")
def page():
    if chromium.PROGRAM is None:
        pytest.fail("these tests need Chromium on the path")
    with chromium.Browser() as opened:
        yield opened


def kept(page, name: str) -> None:
    """Keep a picture where INTERP_SCREENSHOTS says."""
    if folder := os.environ.get("INTERP_SCREENSHOTS"):
        page.picture(Path(folder) / f"{name}.png")


@browser
def test_a_mouse_finds_tokens_and_pins_a_position(page, lens, top, tmp_path):
    page.open(lens.interp.explore(top=top).save(tmp_path / "lens.html"))
    kept(page, "explore_before")
    assert page.ask("getComputedStyle(document.getElementById('tip')).display") == "none"
    page.move('td[data-row="5"][data-column="2"]')
    says = page.ask("document.getElementById('tip').textContent").split("\n")
    assert page.ask("getComputedStyle(document.getElementById('tip')).display") == "block"
    assert says[0].startswith("layer 5, after") and len(says) == 8 and says[6].startswith("target “")
    kept(page, "explore_hover")
    page.click('td[data-row="5"][data-column="2"]')
    assert page.ask("document.querySelectorAll('#path circle').length") == 9  # a point for every layer
    assert page.ask("document.querySelectorAll('td.pinned').length") == 9
    page.move("#path circle:nth-of-type(4)")
    assert page.ask("document.getElementById('tip').textContent").startswith("layer 3, after")
    kept(page, "explore_pinned")
    n_before = page.ask("document.querySelectorAll('td').length")
    page.choose("prompt", 1)
    assert page.ask("document.querySelectorAll('td').length") == n_before + 9  # one more token
    page.choose("measure", 1)
    colours = "new Set([...document.querySelectorAll('td')].map(cell => cell.style.background)).size"
    assert page.ask(colours) > 20
    kept(page, "explore_kl")
    assert page.said == []  # no error, and nothing was asked of a network


@browser
def test_strips_and_doses_work_too(page, tmp_path):
    strips = Strips("one", [Strip("a method", ["a", "b"], [-1.0, 2.0], [["a -1"], ["b 2"]], 2.0)])
    page.open(explorer("strips", [strips]).save(tmp_path / "strips.html"))
    page.move(".strip span:nth-of-type(2)")
    assert page.ask("document.getElementById('tip').textContent") == "b 2"
    kept(page, "explore_strips")
    points = [[0.01, 0.5, 0.4, 0.6], [0.1, 1.5, 1.0, 2.0]]
    doses = Doses(
        "time", ["α = 1", "α = 2"], "damage", "effect", {"neurons": points, "random": [None, points[0]]}, [["a"], ["b"]]
    )
    page.open(explorer("doses", [doses]).save(tmp_path / "doses.html"))
    assert page.ask("document.getElementById('chosen').textContent") == "α = 1"
    page.ask("document.getElementById('dose').focus()")
    page.press("ArrowRight")
    assert page.ask("document.getElementById('chosen').textContent") == "α = 2"
    assert page.ask("document.querySelector('.texts').textContent") == "b"
    assert page.ask("document.querySelectorAll('circle.chosen').length") == 2
    kept(page, "explore_doses")
    assert page.said == []


@browser
def test_a_notebooks_frame_works_in_its_sandbox(page, lens, tmp_path):
    file = tmp_path / "notebook.html"
    file.write_text(f"<body>{lens.interp.explore()._repr_html_()}</body>", "utf-8")
    page.open(file)
    kept(page, "explore_in_a_frame")
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=300, y=150)
    assert page.said == []
