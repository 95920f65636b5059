"""The page: what is on it, that it goes on where it was interrupted, and how a real browser shows it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import interp
from interp import planted
from interp.cli import app
from interp.errors import InputError, UnknownName
from interp.frames.schema import Schema, columns
from interp.report.every_probe import arguments_of, quick_texts, some_texts
from interp.report.page import report
from interp.runs import registry
from interp.runs.registry import GROUP

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
WIDTHS = (400, 768, 1400)
HOSTILE = "<script>alert('1')</script> \x00\u202e \u200b $x_1$ & \"it\" -- -->"
FINDINGS = pd.DataFrame(
    {
        "model": "reference",
        "claim": ["a_claim_with_a_long_name", "b", "c"],
        "statement": ["middle blocks keep most of what the model would say", HOSTILE, "nothing"],
        "paper": "nobody (2020)",
        "effect": [0.8, 0.1, 0.5],
        "comparison": ">= 0.4",
        "low": [0.7, 0.05, 0.2],
        "high": [0.9, 0.2, 0.8],
        "state": ["holds", "fails", "undecided"],
    }
)
LOSSES = columns("model", "run_id", "prompt_id", "loss")
GUEST = Schema("guest", "nobody (2020), see https://example.org", "one per prompt", LOSSES, summary_of=("loss",))
calls: list[str] = []


def hostile_figure(frame: pd.DataFrame) -> Any:
    figure, axes = plt.subplots(figsize=(12, 3))
    axes.set_title(HOSTILE.replace("$", r"\$"))
    axes.plot(frame["prompt_id"], frame["loss"])
    plt.close(figure)
    return figure


@interp.probe(GUEST, plot=hostile_figure)
def guest(subject, texts):
    """Ask a guest."""
    calls.append("guest")
    run = interp.Run(GUEST, subject, texts, parameters={})
    return run.frame([{"prompt_id": run.tokens.table["prompt_id"].to_numpy(), "loss": 1.0 + run.tokens.n_cut}])


@interp.probe(Schema("broken", "nobody", "none", columns("model", "run_id")))
def broken(subject):
    """Fail, as anyone's code may."""
    calls.append("broken")
    raise RuntimeError("no such luck")


@interp.probe(Schema("needy", "nobody", "none", columns("model", "run_id")))
def needy(subject, words):
    """Ask for words, with no example of any."""


@interp.probe(Schema("slow_guest", "nobody", "none", columns("model", "run_id")), costly=True)
def slow_guest(subject):
    """Take hours."""
    calls.append("slow_guest")
    raise AssertionError("a quick report ran it")


@pytest.fixture(scope="module", autouse=True)
def _installed(offer):
    """Four probes of a package of somebody else's, beside ours."""
    with offer(GROUP, {name: f"{__name__}:{name}" for name in ("guest", "broken", "needy", "slow_guest")}):
        yield


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Of a few of our probes that differ in what they hold, and of the guests."""
    texts = ["Once upon a time there was a little girl", HOSTILE, "The key to the old cabinets " * 12]
    chosen = ["logit_lens", "normxlogit", "vocabulary", "run_schedules", "guest", "broken", "needy"]
    out = tmp_path_factory.mktemp("report") / "page.html"
    return report("reference", out, texts=texts, probes=chosen, findings=FINDINGS)


class Outline(HTMLParser):
    """Elements with their attributes, and whether every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "wbr", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def test_every_probe_has_a_section_or_a_reason(page):
    text = page.read_text("utf-8")
    for name in ("logit_lens", "normxlogit", "vocabulary", "run_schedules", "guest"):
        assert f"<h3>{name}</h3>" in text
    assert "It failed: RuntimeError: no such luck" in text
    assert "it needs words, which its example does not give" in text
    assert "3 texts of" in text and "fingerprint" in text  # what was read, by which model


@pytest.fixture(scope="module")
def shipped():
    return interp.load("reference")


@pytest.mark.parametrize("name", registry.names())
def test_every_probe_can_be_shown_on_the_shipped_model(shipped, name):
    """What it needs beside texts comes with it."""
    assert arguments_of(registry.get(name), shipped, some_texts("prompts", 6)) is not None


def test_a_probe_of_what_ships_for_one_model_is_absent_on_another(tmp_path):
    other = planted.bigram().model
    text = report(other, tmp_path / "page.html", texts=["w1 w2"], probes=["kept_weights"], findings=False)
    assert "it is of another model" in text.read_text("utf-8")


def test_it_opens_with_what_was_found(page):
    text = page.read_text("utf-8")
    _, _, opening = text.partition('<section id="abstract">')
    opening, _, _ = opening.partition("</section>")
    assert "1 of the papers&#39; claims holds here:" in opening
    assert "middle blocks keep most of what the model would say: 0.80 [0.70, 0.90] &gt;= 0.4" in opening
    assert "Surprising: 1 that papers report fails here:" in opening and "(nobody 2020)" in opening
    assert "1 is undecided:" in opening and "2 of the probes have no section:" in opening
    assert text.index('id="abstract"') < text.index('id="findings"') < text.index('id="family-lens"')


def test_probes_stand_by_family(page):
    text = page.read_text("utf-8")
    places = [text.index(f"<h2>{family}</h2>") for family in ("attribution", "layers", "lens", "vocab")]
    assert places == sorted(places)
    assert places[2] < text.index("<h3>logit_lens</h3>") < places[3]


def test_the_tokens_of_a_prompt_are_chosen_by_how_it_begins(page):
    text = page.read_text("utf-8")
    chosen = re.findall(r'<details name="(tokens of normxlogit-1)"( open)?><summary>(.*?)</summary>', text)
    assert [opened for _, opened, _ in chosen] == [" open", "", ""]
    assert "Once upon a time there was a little girl" in chosen[0][2] and chosen[2][2].endswith("…")


def test_the_page_can_be_read_aloud(page):
    outline = Outline(page.read_text("utf-8"))
    assert outline.open == [] and outline.all("html")[0]["lang"] == "en"
    assert all(one["scope"] in ("col", "row") for one in outline.all("th"))
    assert len(outline.all("caption")) == len(outline.all("table"))
    pictures = outline.all("img")
    assert len(pictures) >= 3 and all(len(one["alt"]) > 40 for one in pictures)
    (lens,) = (one["alt"] for one in pictures if one["alt"].startswith("Figure of logit_lens"))
    assert "KL" not in lens and "layer read against input token" in lens
    ids = [of["id"] for _, of in outline.elements if "id" in of]
    assert len(set(ids)) == len(ids)
    assert {one["href"].removeprefix("#") for one in outline.all("a")} == set(ids)


def test_nothing_on_the_page_reaches_out_or_runs(page):
    text = page.read_text("utf-8")
    outline = Outline(text)
    assert not outline.all("script", "link", "iframe", "object", "form", "base")
    assert not [name for _, of in outline.elements for name in of if name.startswith("on")]
    reaching = [of[name] for _, of in outline.elements for name in ("src", "href", "srcset", "action") if name in of]
    assert reaching and all(target.startswith(("data:image/", "#")) for target in reaching)
    assert "url(" not in text and "@import" not in text
    assert "default-src 'none'" in text
    for kind, data in re.findall(r'src="data:image/([a-z+]+);base64,([^"]+)"', text):
        if kind == "svg+xml":
            svg = base64.b64decode(data).decode("utf-8")
            assert "<script" not in svg and not re.findall(r'(?:href|src)="(?!#|data:)', svg)


def test_frames_are_kept_beside_the_page_and_an_interrupted_report_goes_on(tmp_path, monkeypatch):
    calls.clear()
    out, options = tmp_path / "page.html", {"texts": ["Once upon a time"], "findings": False}

    def interrupted(subject: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(registry.get("vocabulary").__dict__, "function", interrupted)
        with pytest.raises(KeyboardInterrupt):
            report("reference", out, probes=["guest", "vocabulary"], **options)
    (kept,) = (tmp_path / "page_frames").iterdir()
    assert kept.name.startswith("guest-") and len(pd.read_parquet(kept)) == 1 and not out.exists()
    report("reference", out, probes=["guest", "vocabulary"], **options)
    assert calls == ["guest"]
    assert out.read_text("utf-8").count("Made by an earlier run of this report.") == 1
    report("reference", out, probes=["guest"], texts=["Another text"], findings=False)
    assert calls == ["guest", "guest"]  # of other texts, made anew
    monkeypatch.setattr("interp.runs.code._tree_digest", lambda package: "edited")
    report("reference", out, probes=["guest"], texts=["Another text"], findings=False)
    assert calls == ["guest", "guest", "guest"]  # by other code, made anew


@pytest.fixture
def few_installed(monkeypatch):
    """Only these probes, so that a report of all takes no minute."""
    monkeypatch.setattr(registry, "names", lambda: ["guest", "slow_guest", "vocabulary"])


def test_a_quick_report_leaves_out_what_is_costly_and_names_it(tmp_path, few_installed):
    calls.clear()
    path = report("reference", tmp_path / "page.html", texts=["Once upon a time " * 99] * 9, quick=True)
    text = path.read_text("utf-8")
    assert calls == ["guest"]
    assert "it reads at most 4 texts, 256 characters of each." in text
    assert "Left out: slow_guest, the papers&#39; claims; a report without --quick has them." in text
    assert "interp report --probe slow_guest has it" in text and 'id="findings"' not in text
    (kept,) = (tmp_path / "page_frames").glob("guest-*")
    assert len(pd.read_parquet(kept)) == 4  # a row per prompt


def test_a_quick_report_runs_a_costly_probe_that_is_named(tmp_path):
    calls.clear()
    path = report("reference", tmp_path / "page.html", probes=["slow_guest"], quick=True, findings=FINDINGS)
    text = path.read_text("utf-8")
    assert calls == ["slow_guest"] and "Left out" not in text
    assert 'id="findings"' in text  # a frame of findings costs nothing


def test_a_quick_report_cuts_texts():
    assert quick_texts(["é" * 300, "short"], 24)["text"].tolist() == ["é" * 256, "short"]
    assert quick_texts([*"abcdefg"], 24)["text"].tolist() == ["a", "c", "e", "g"]
    assert len(quick_texts("prompts", 2)) == 2 and "expected" in quick_texts("prompts", 2)


def test_frames_made_already_make_a_page(tmp_path):
    frame = registry.get("logit_lens").function("reference", ["Once upon a time"])
    read = pd.read_parquet(_written(frame, tmp_path / "frame.parquet"))
    text = report([frame, read], tmp_path / "page.html").read_text("utf-8")
    assert text.count("<h3>logit_lens</h3>") == 2 and "Findings" not in text
    assert frame["run_id"].iat[0] in text


def _written(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_parquet(path)
    return path


def test_texts_are_taken_at_even_distances():
    table = some_texts("prompts", 10)
    assert table["group"].nunique() == 10 and table["prompt_id"].is_monotonic_increasing
    assert len(some_texts(["a", "b"], 10)) == 2


@pytest.mark.parametrize(
    ("source", "options", "error", "words"),
    [
        ([], {}, InputError, "no frames"),
        ([1], {}, InputError, "the type int is not a DataFrame"),
        (pd.DataFrame({"a": [1]}), {}, InputError, "not made by a probe"),
        ("refrence", {}, UnknownName, "did you mean 'reference'"),
        ("reference", {"probes": ["logit_lense"]}, UnknownName, "did you mean 'logit_lens'"),
        ("reference", {"n_prompts": 0}, InputError, "n_prompts=0: give at least 1"),
        ("reference", {"texts": []}, InputError, "no texts"),
        ("reference", {"quick": "yes"}, InputError, "quick='yes': give True or False"),
        ("reference", {"quick": True, "n_prompts": 0}, InputError, "n_prompts=0: give at least 1"),
        ([pd.DataFrame()], {"quick": True}, InputError, "frames are made already"),
    ],
)
def test_bad_input_is_refused_before_any_probe_runs(source, options, error, words, tmp_path):
    with pytest.raises(error, match=words):
        report(source, tmp_path / "page.html", **options)
    assert not (tmp_path / "page.html").exists()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        report("reference", tmp_path / "nowhere" / "page.html")


def test_the_command_writes_the_page(tmp_path):
    arguments = ["report", "--out", tmp_path / "page.html", "--probe", "vocabulary", "--no-findings"]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"wrote {tmp_path / 'page.html'}\n" and (tmp_path / "page.html").is_file()
    done = CliRunner().invoke(app, [*map(str, arguments[:-1]), "--quick"])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "A quick report: it reads at most 4 texts" in page and "Left out: the papers&#39; claims;" in page
    done = CliRunner().invoke(app, ["report", "--probe", "vocabularies", "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and "did you mean 'vocabulary'" in done.stderr


def test_help_says_what_quick_leaves_out():
    shown = CliRunner().invoke(app, ["report", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    assert re.search(r"--quick +.*At most 4 short texts", shown)


class Browser:
    """A headless Chromium, spoken to by its DevTools protocol over two pipes; it can reach no host at all."""

    def __init__(self, profile: Path) -> None:
        commands_in, self._commands = os.pipe()
        self._answers, answers_out = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        # In containers /dev/shm is small.
        flags += ["--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND", "--no-first-run"]
        shell = f'exec "$@" 3<&{commands_in} 4>&{answers_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", CHROMIUM, *flags], pass_fds=(commands_in, answers_out),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands_in), os.close(answers_out)
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        os.close(self._commands), os.close(self._answers)
        self._process.terminate()
        self._process.wait(timeout=30)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        number = self._number
        while (answer := self._next()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._answers, 1 << 20)
            assert part, "the browser is gone"
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def open(self, page: Path, width: int, scheme: str) -> None:
        """Load a page at a width and in a colour scheme, and wait until all of it is there."""
        self.events.clear()
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def evaluate(self, expression: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def said(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def screenshot(self, whole: bool = False) -> Image.Image:
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 8000), "scale": 1}}
        more = {"captureBeyondViewport": True, **clip} if whole else {}
        data = self.send("Page.captureScreenshot", format="png", **more)["data"]
        return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed here, so no browser can look at the page")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


# Least contrast of any text with what is behind it, WCAG 2; and where it is.
CONTRAST = """(() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(v => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = of => {
    for (; of; of = of.parentElement) {
      const colour = rgb(getComputedStyle(of).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let least = [21, ''];
  for (const one of document.body.querySelectorAll('*')) {
    if (![...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const [a, b] = [light(rgb(getComputedStyle(one).color)), light(behind(one))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < least[0]) least = [contrast, one.outerHTML.slice(0, 200)];
  }
  return least;
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_shows_all_of_it(browser, page, width, scheme, tmp_path):
    browser.open(page, width, scheme)
    for unfolded in (False, True):
        browser.evaluate(f"document.querySelectorAll('details').forEach(one => one.open = {str(unfolded).lower()})")
        assert browser.evaluate("window.innerWidth") == width
        room = browser.evaluate("document.documentElement.clientWidth")  # less than the width by a scroll bar
        assert browser.evaluate("document.documentElement.scrollWidth") <= room
        # Nothing sticks out but within a box that scrolls.
        sticking = (
            "[...document.body.querySelectorAll('*')].filter(one => !one.closest('.scroll') && "
            f"one.getBoundingClientRect().right > {room} + 0.5).map(one => one.outerHTML.slice(0, 200))"
        )
        assert browser.evaluate(sticking) == []
    assert browser.evaluate("[...document.images].filter(one => !one.naturalWidth).map(one => one.alt)") == []
    contrast, where = browser.evaluate(CONTRAST)
    assert contrast >= 4.5, where
    asked = {request["request"]["url"].split(",")[0] for request in browser.said("Network.requestWillBeSent")}
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
    assert [entry["entry"]["text"] for entry in browser.said("Log.entryAdded")] == []
    if folder := os.environ.get("INTERP_SCREENSHOTS"):  # kept by whoever asks for them
        browser.screenshot(whole=True).save(Path(folder) / f"report-{width}-{scheme}.png")
    corner = browser.screenshot().convert("L").crop((0, 0, 8, 8)).getextrema()
    assert corner[0] > 200 if scheme == "light" else corner[1] < 60


def test_the_browser_refuses_what_would_leave_the_page(browser, page, tmp_path):
    """The check above can fail: an image from elsewhere, put on the page, is asked for and refused by its policy."""
    tampered = tmp_path / "tampered.html"
    tampered.write_text(page.read_text("utf-8").replace("<main>", '<main><img alt="" src="https://example.org/a.png">'))
    browser.open(tampered, 768, "light")
    assert any("Content Security Policy" in entry["entry"]["text"] for entry in browser.said("Log.entryAdded"))


def test_a_wide_table_would_be_noticed(browser, page, tmp_path):
    """Likewise for what overflows."""
    tampered = tmp_path / "wide.html"
    tampered.write_text(page.read_text("utf-8").replace("<main>", '<main><div style="width:2000px">x</div>'))
    browser.open(tampered, 768, "light")
    assert browser.evaluate("document.documentElement.scrollWidth") > 768


def test_it_prints(browser, page):
    browser.open(page, 1280, "light")
    pdf = base64.b64decode(browser.send("Page.printToPDF", printBackground=False)["data"])
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
