"""Write one page about a model: every probe's figure and table, the findings, and the provenance of all of it.

The page is one file. It holds no script, loads nothing from a network, and has the browser refuse anything that would.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from interp.data.writing import written
from interp.display import html
from interp.display import token_map as heat_map
from interp.display.figures import image
from interp.display.text import visible
from interp.errors import InputError, InterpError
from interp.model.loading import Source, load
from interp.report.abstract import abstract
from interp.report.every_probe import (
    QUICK_CHARACTERS,
    QUICK_TEXTS,
    ProbeResult,
    quick_texts,
    run_every_probe,
    some_texts,
)
from interp.runs import registry
from interp.runs.arguments import check_output
from interp.runs.description import family, question
from interp.runs.registry import Probe

_MAX_PROMPTS, _BEGINS = 5, 60  # prompts whose tokens a section shows, and characters of the line to choose one by

_LEFT_OUT = "a quick report leaves it out, because it takes long on a real model: interp report --probe {} has it."


@dataclass(frozen=True)
class Section:
    """A section of the page, about one frame.

    Attributes:
        maps: the tokens of some prompts, each with how the prompt begins.
    """

    anchor: str
    family: str
    title: str
    question: str
    paper: str
    extent: str
    table: Markup
    columns: Markup
    picture: Markup
    maps: Sequence[tuple[str, Markup]]
    notes: Sequence[str]


def report(
    model_or_frames: Source | pd.DataFrame | Sequence[pd.DataFrame],
    out: str | Path = "report.html",
    *,
    texts: str | Sequence[str] | pd.DataFrame = "prompts",
    n_prompts: int = 24,
    probes: Sequence[str] | None = None,
    findings: bool | pd.DataFrame = True,
    quick: bool = False,
) -> Path:
    """Write one self-contained page about a model, after running every installed probe on it, or about given frames.

    For a model, every finished frame is kept as Parquet in a folder beside the page, named after it. An interrupted
    report resumes from there, and the page gives the date of each frame. Delete the folder to compute all again.

    Args:
        model_or_frames: anything `interp.load` takes, or frames of probes.
        out: the page.
        texts: for the probes: a text, texts, a frame with a column `text` or the name of a shipped dataset. Probes that
            fit whole layers read the shipped stories if these are too few; the page says what each one read.
        n_prompts: how many of the texts to take, at even distances.
        probes: names; by default all that are installed.
        findings: True to test the papers' claims too, or a frame of `interp.findings`.
        quick: True for a page within minutes on a model of 135 million weights and two cores: at most 4 texts, 256
            characters of each, none of the probes marked `costly` unless `probes` names them, and no claims. The page
            says by name what was left out.

    Returns:
        The path of the page.

    Raises:
        InputError: the page's folder does not exist, texts or frames cannot be used, or frames are to be quick.
        UnknownName: there is no such model or probe.

    >>> import interp, tempfile
    >>> from probes import logit_lens
    >>> frame = logit_lens("reference", ["Once upon a time"])
    >>> path = report([frame], Path(tempfile.mkdtemp()) / "lens.html")
    >>> "https:" in path.read_text("utf-8")
    False
    """
    if not isinstance(quick, bool):
        raise InputError(f"quick={quick!r}: give True or False.")
    out = Path(out)
    check_output(out)
    frames = [model_or_frames] if isinstance(model_or_frames, pd.DataFrame) else model_or_frames
    if isinstance(frames, Sequence) and not isinstance(frames, str):
        if quick:
            raise InputError("quick=True leaves probes out, and these frames are made already; leave it out.")
        entries, facts, title = _given(frames), [], "Frames"
        verdicts = findings if isinstance(findings, pd.DataFrame) else None
    else:
        subject = load(frames)
        table = quick_texts(texts, n_prompts) if quick else some_texts(texts, n_prompts)
        left_out = [registry.get(name) for name in registry.names()] if quick and probes is None else []
        left_out = [probe for probe in left_out if probe.costly]
        folder = out.with_name(f"{out.stem}_frames")
        if left_out:
            probes = [name for name in registry.names() if name not in {probe.name for probe in left_out}]
        entries = list(run_every_probe(subject, table, probes=probes, folder=folder))
        entries += [ProbeResult(probe, absent=_LEFT_OUT.format(probe.name)) for probe in left_out]
        facts = [
            f"{subject.architecture}, {subject.n_layers} layers of {subject.d_model}, {subject.n_heads} heads, "
            f"vocabulary {subject.d_vocab:,}; {subject.backend.kind}, {subject.dtype}, "
            f"fingerprint {subject.fingerprint}.",
            f"Probes that read texts read {len(table)} texts, unless their section says otherwise.",
        ]
        if quick:
            facts.append(_quick_fact(left_out, findings))
            findings = findings if isinstance(findings, pd.DataFrame) else False
        title = f"Probes of {subject.name}"
        verdicts = findings if isinstance(findings, pd.DataFrame) else _found(subject, folder) if findings else None
    with written(out, "the report") as file:
        file.write(_page(title, facts, entries, verdicts).encode())
    return out


def _quick_fact(left_out: Sequence[Probe], findings: bool | pd.DataFrame) -> str:
    """Say what a quick report left out, by name, and how to have it."""
    named = [probe.name for probe in left_out]
    named += ["the papers' claims"] if findings is True else []
    read = f"A quick report: it reads at most {QUICK_TEXTS} texts, {QUICK_CHARACTERS} characters of each."
    return f"{read} Left out: {', '.join(named)}; a report without --quick has them." if named else read


def _given(frames: Sequence[pd.DataFrame]) -> list[ProbeResult]:
    if not frames:
        raise InputError("no frames were given; pass a model, or at least one frame.")
    for frame in frames:
        if not isinstance(frame, pd.DataFrame):
            raise InputError(f"the type {type(frame).__name__} is not a DataFrame; pass a model or frames.")
    return [ProbeResult(registry.get(frame.interp.schema.probe), frame) for frame in frames]


def _found(source: Source, folder: Path) -> pd.DataFrame:
    from interp.findings import findings

    return findings(source, out=folder)


def _page(title: str, facts: Sequence[str], entries: Sequence[ProbeResult], verdicts: pd.DataFrame | None) -> str:
    environment = Environment(
        loader=PackageLoader("interp.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["legible"] = visible
    sections = [_section(number, entry) for number, entry in enumerate(entries) if entry.frame is not None]
    absent = [entry for entry in entries if entry.frame is None]
    return environment.get_template("report.html").render(
        title=title,
        facts=facts,
        abstract=abstract(verdicts, absent),
        findings=None if verdicts is None else html.findings(verdicts),
        families=[(name, [one for one in sections if one.family == name]) for name in sorted(_families(sections))],
        absent=_absent_table(absent) if absent else None,
        provenance=list(_provenance(entries)),
    )


def _section(number: int, entry: ProbeResult) -> Section:
    probe, frame = entry.probe, entry.frame
    assert frame is not None
    picture, notes = _picture(probe, frame)
    if entry.kept:
        notes = [*notes, "Made by an earlier run of this report."]
    return Section(
        anchor=f"{probe.name}-{number}",
        family=family(probe),
        title=probe.name,
        question=question(probe),
        paper=probe.schema.paper,
        extent="; ".join([f"{len(frame):,} rows", *map(html.extent, frame.interp.runs.values())]),
        table=_summary_table(probe, frame),
        columns=html.table(probe.schema.describe(), f"Columns of a frame of {probe.name}", max_rows=200),
        picture=picture,
        maps=_token_maps(probe, frame),
        notes=notes,
    )


def _families(sections: Iterable[Section]) -> set[str]:
    return {one.family for one in sections}


def _token_maps(probe: Probe, frame: pd.DataFrame) -> list[tuple[str, Markup]]:
    """Return how each of the first prompts begins, and its tokens coloured by score; none if it has no tokens."""
    if not {"prompt_id", "pos", "token"} <= set(frame.columns):
        return []
    found = []
    for prompt in frame["prompt_id"].drop_duplicates().head(_MAX_PROMPTS).tolist():
        of = frame[frame["prompt_id"] == prompt]
        tokens = of.drop_duplicates("pos").sort_values("pos")["token"]
        begins = visible("".join(map(str, tokens)).strip())
        with suppress(InterpError):  # a prompt without a score, or rows that no column distinguishes
            shown = heat_map.token_map(frame, probe.schema, prompt_id=prompt)
            found.append((begins if len(begins) <= _BEGINS else f"{begins[: _BEGINS - 1]}…", shown))
    return found


def _summary_table(probe: Probe, frame: pd.DataFrame) -> Markup:
    """Return the probe's own summary as a table, or the frame itself if it has none."""
    try:
        table, caption = frame.interp.summary(), f"Summary of {probe.name}"
        if note := table.attrs.get("note"):
            caption = f"{caption}: {note}"
    except InterpError:
        table, caption = frame, f"Rows of {probe.name}"
    same = [name for name in ("model", "run_id") if name in table.columns and table[name].nunique() == 1]
    return html.table(table.drop(columns=same), caption, units=probe.schema.units)


def _picture(probe: Probe, frame: pd.DataFrame) -> tuple[Markup, list[str]]:
    """Return the probe's figure, or why there is none."""
    if probe.plot is None:
        return Markup(""), []
    try:
        return image(frame.interp.plot(), probe.name), []
    except InterpError as error:
        return Markup(""), [f"No figure: {error}"]


def _absent_table(absent: Sequence[ProbeResult]) -> Markup:
    rows = [(one.probe.name, f"{'It failed: ' if one.failed else ''}{one.absent}") for one in absent]
    return html.table(pd.DataFrame(rows, columns=["probe", "why"]), "Installed probes without a section", max_rows=200)


def _provenance(entries: Iterable[ProbeResult]) -> Iterable[tuple[str, Markup]]:
    for entry in entries:
        if entry.frame is None:
            continue
        for run_id, facts in entry.frame.interp.runs.items():
            rows = [(name, str(value)) for name, value in facts.items()]
            title = f"{entry.probe.name} {run_id}"
            yield title, html.table(pd.DataFrame(rows, columns=["fact", "value"]), title, max_rows=200)
