"""HTML without scripts, for notebooks and the report: tables that can be read aloud, tokens coloured by a score.

Styles are inline and no colour depends on the page around it, so that what is made here looks the same in JupyterLab,
in VS Code and in a file. Text that comes from models and users goes through `visible` and is escaped.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from interp.errors import InputError, UnknownName
from interp.frames import Schema

_POSITIVE, _NEGATIVE = (0, 114, 178), (213, 94, 0)  # Okabe and Ito's blue and vermilion
_MAX_LINES, _MAX_TOKENS = 12, 200
_NAMED = {"\n": "↵", "\r": "␍", "\t": "⇥"}
# What tells the token lines of one prompt apart, beside what the probe sums up by.
_LINE_COLUMNS = ("method", "control", "intervention", "layer", "sublayer", "lens", "target_pos", "target_id", "k")


def visible(text: str) -> str:
    r"""Text in which every character can be seen, and none moves what stands beside it.

    >>> visible("a\n\u200b"), visible(" the")
    ('a↵\\u200b', ' the')
    """
    return "".join(_NAMED.get(one) or (_code(one) if _hidden(one) else one) for one in text)


def _hidden(character: str) -> bool:
    """Controls, formats, surrogates, private and unassigned ones; separators but the plain space."""
    kind = unicodedata.category(character)
    return kind.startswith("C") or (kind.startswith("Z") and character != " ")


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


def table(frame: pd.DataFrame, caption: str, *, units: Mapping[str, str] | None = None, max_rows: int = 60) -> Markup:
    """A frame as a table with a caption, headed columns, and rows headed by their first column.

    A value and its interval (`x`, `x_low`, `x_high`) share a cell; where there are more than `max_rows` rows, the
    caption says how many are shown.

    Args:
        frame: whose index is left out.
        caption: what it holds.
        units: of its columns, put into their heads.
        max_rows: to show.

    >>> print(table(pd.DataFrame({"layer": [0], "kl": [0.5], "kl_low": [0.4], "kl_high": [0.75]}), "By layer"))
    <table><caption>By layer</caption><thead><tr><th scope="col">layer</th>...
    """
    units = units or {}
    whole = [str(name) for name in frame.columns]
    ends = {f"{name}_{end}" for name in whole for end in ("low", "high") if f"{name}_low" in whole}
    names = [name for name in whole if name not in ends]
    if len(frame) > max_rows:
        caption = f"{caption} (the first {max_rows} of {len(frame):,} rows)"
    shown = frame.head(max_rows)
    heads = [_head(name, units.get(name, ""), f"{name}_low" in ends) for name in names]
    numeric = [pd.api.types.is_numeric_dtype(frame[name]) for name in names]
    rows = [
        Markup("<tr>{}</tr>").format(Markup("").join(_cells(row, names, numeric)))
        for row in shown.to_dict(orient="records")
    ]
    return Markup("<table><caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(
        visible(caption), Markup("").join(heads), Markup("\n").join(rows)
    )


def _head(name: str, unit: str, interval: bool) -> Markup:
    said = ", ".join(part for part in (unit, "with 95 % interval" if interval else "") if part)
    small = Markup(" <small>({})</small>").format(said) if said else Markup("")
    return Markup('<th scope="col">{}{}</th>').format(visible(name), small)


def _cells(row: Mapping[Any, Any], names: Sequence[str], numeric: Sequence[bool]) -> Iterator[Markup]:
    for place, (name, number) in enumerate(zip(names, numeric, strict=True)):
        text = said(row[name])
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        if low is not None and not (pd.isna(low) and pd.isna(high)):
            text = f"{text} [{said(low)}, {said(high)}]"
        tag = Markup('<th scope="row">{}</th>') if place == 0 else Markup("<td{}>{}</td>")
        align = Markup(' style="text-align:right"') if number else Markup("")
        yield tag.format(text) if place == 0 else tag.format(align, text)


def said(value: Any) -> str:
    """A value as a table shows it: four digits, `–` for what is missing, strings with their outer spaces in quotes."""
    if isinstance(value, str):
        return visible(repr(value) if value != value.strip() else value)
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if np.ndim(value) == 0 and pd.isna(value):
        return "–"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int | np.integer) else visible(str(value))


_STATES = {"holds": "✓ holds", "fails": "✗ fails", "undecided": "? undecided"}


def findings(frame: pd.DataFrame) -> Markup:
    """A frame of `interp.findings` as a table: a row per claim, states told apart by sign and word as well as colour.

    Args:
        frame: of one model, or of several: the model then has a column.
    """
    wanted = ["claim", "model", "statement", "paper", "state", "effect", "low", "high", "threshold", "p_holm"]
    wanted += ["control_effect", "n", "n_skipped"]
    several = "model" in frame and frame["model"].nunique() > 1
    shown = frame[[name for name in wanted if name in frame and (name != "model" or several)]]
    shown = shown.rename(columns={"low": "effect_low", "high": "effect_high"})
    shown = shown.assign(state=shown["state"].map(lambda state: _STATES.get(state, state)))
    rendered = table(shown, "Claims put to the test", max_rows=500)
    for state, text in _STATES.items():  # whole cells only, and those hold nothing that came from elsewhere
        rendered = Markup(rendered.replace(f"<td>{text}</td>", f'<td class="{state}">{text}</td>'))
    return rendered


def token_map(
    frame: pd.DataFrame,
    schema: Schema,
    *,
    value: str | None = None,
    prompt_id: int | None = None,
    max_lines: int = _MAX_LINES,
) -> Markup:
    """The tokens of one prompt, coloured by a score: a line per method, layer or whatever else tells its rows apart.

    White is zero, blue above, vermilion below: the scale is symmetric, up to the largest absolute score. Position 0
    often holds a start-of-text token whose score dwarfs the rest: it does not set the scale. Methods differ in their
    units and have a scale each; all other lines share one.

    Args:
        frame: of one model, with `prompt_id`, `pos` and `token`.
        schema: of the frame.
        value: column to colour by; by default `score`, else the first that the probe's summary averages.
        prompt_id: which prompt; by default the first.
        max_lines: to show; the caption says how many there are.

    Raises:
        InputError: the frame holds no tokens, or nothing tells its rows at a token apart.
        UnknownName: there is no such column.
    """
    if frame.empty or not {"prompt_id", "pos", "token"} <= set(frame.columns):
        raise InputError(f"a frame of {schema.probe!r} without rows, or without tokens, has no token map.")
    value = value or _default_value(frame, schema)
    if value not in frame.columns:
        raise UnknownName("column", value, map(str, frame.columns))
    chosen = frame["prompt_id"].iat[0] if prompt_id is None else prompt_id
    one = frame[frame["prompt_id"] == chosen]
    if one.empty:
        raise InputError(f"prompt {chosen} is not in the frame; it holds {frame['prompt_id'].unique().tolist()[:10]}.")
    keys = [key for key in dict.fromkeys((*schema.summary_by, *_LINE_COLUMNS)) if key in one and one[key].nunique() > 1]
    if one.duplicated([*keys, "pos"]).any():
        raise InputError(f"the frame of {schema.probe!r} holds several rows for a token that nothing tells apart.")
    lines = [(key, of.sort_values("pos")) for key, of in one.groupby(keys, sort=False)] if keys else [((), one)]
    by_method = "method" in keys
    largest = _largest(one, value)
    unit = schema.units.get(value, "")
    body = []
    for key, line in lines[:max_lines]:
        most = _largest(line, value) if by_method else largest
        label = ", ".join(f"{name} {said(part)}" for name, part in zip(keys, key, strict=True))
        body.append(_line(line, value, unit, most, f"{label}, scale ±{most:.3g}" if by_method else label))
    more = f" The first {max_lines} of {len(lines)} lines." if len(lines) > max_lines else ""
    what = f"{schema.probe}: {value}{f' ({unit})' if unit else ''}, prompt {chosen}.{more}"
    return _FIGURE.format(visible(what), _legend(None if by_method else largest), Markup("").join(body))


_FIGURE = Markup(
    '<figure style="margin:0.5em 0;max-width:60em;print-color-adjust:exact;-webkit-print-color-adjust:exact">'
    '<figcaption style="margin-bottom:0.4em">{} {}</figcaption>{}</figure>'
)
_LINE = Markup(
    '<div style="margin:0.3em 0"><div style="font-size:80%">{}</div>'
    '<div style="font-family:monospace;line-height:1.8;overflow-wrap:anywhere">{}</div></div>'
)
# Each token keeps its own direction, and its spaces.
_TOKEN = Markup(
    '<span title="{}" style="{};unicode-bidi:isolate;white-space:pre-wrap;padding:0.15em 0.05em;'
    'border-radius:0.2em">{}</span><wbr>'
)


def _line(line: pd.DataFrame, value: str, unit: str, largest: float, label: str) -> Markup:
    spans = []
    shown = line.head(_MAX_TOKENS)
    for pos, token, score in zip(shown["pos"], shown["token"], shown[value].astype("Float64"), strict=True):
        missing = pd.isna(score)
        tip = f"position {pos}: {'missing' if missing else f'{score:.4g} {unit}'.strip()}"
        style = "border-bottom:1px dotted" if missing else shade(score / largest)
        spans.append(_TOKEN.format(tip, style, visible(str(token))))
    if len(line) > _MAX_TOKENS:
        spans.append(Markup(" … {} more").format(len(line) - _MAX_TOKENS))
    return _LINE.format(label, Markup("").join(spans))


def shade(share: float) -> Markup:
    """Style of a score's background: white at 0, blue at 1, vermilion at -1, in ink that contrasts with it.

    >>> shade(0.0)
    Markup('background:#ffffff;color:#000000')
    """
    strength = min(1.0, abs(share))
    hue = _POSITIVE if share > 0 else _NEGATIVE
    red, green, blue = (round(255 + (part - 255) * strength) for part in hue)
    ink = "#000000" if luminance(red, green, blue) > 0.179 else "#ffffff"  # where both contrast equally
    return Markup(f"background:#{red:02x}{green:02x}{blue:02x};color:{ink}")


def luminance(*rgb: int) -> float:
    """Relative luminance of an sRGB colour (WCAG 2), 0..1."""
    linear = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in rgb]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _legend(largest: float | None) -> Markup:
    labels = ("−100 %", "−50 %", "0", "50 %", "100 %") if largest is None else None
    swatches = []
    for place, share in enumerate((-1.0, -0.5, 0.0, 0.5, 1.0)):
        text = labels[place] if labels else f"{share * largest:.3g}"  # type: ignore[operator]
        swatches.append(Markup('<span style="{};padding:0 0.4em">{}</span>').format(shade(share), text))
    of = " of the line's scale" if largest is None else ""
    return Markup('<span style="white-space:nowrap">{}</span>{}').format(Markup("").join(swatches), of)


def _largest(rows: pd.DataFrame, value: str) -> float:
    """Largest absolute finite score after position 0; 1 where there is none."""
    later = rows[rows["pos"] > 0] if (rows["pos"] > 0).any() else rows
    sizes = later[value].astype("Float64").abs().to_numpy(dtype=float, na_value=np.nan)
    sizes = sizes[np.isfinite(sizes)]
    return float(sizes.max()) if sizes.size and sizes.max() > 0 else 1.0


def _default_value(frame: pd.DataFrame, schema: Schema) -> str:
    candidates = ["score", *schema.summary_of]
    numeric = [name for name in candidates if name in frame and pd.api.types.is_numeric_dtype(frame[name])]
    if not numeric:
        raise InputError(f"a frame of {schema.probe!r} has no score to colour tokens by; name a column as value.")
    return numeric[0]


def details(summary: str, body: Markup) -> Markup:
    """What is shown on demand, without a script."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, body)
