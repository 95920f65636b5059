"""Run probes as notebook magics after `%load_ext interp`; before that nothing changes, and unloading removes all.

    %interp probes
    %interp logit_lens --model reference "Once upon a time"
    frame = %interp attribute --data prompts --methods '["occlusion"]'
    %interp findings --model reference

`--model` also takes the name of a variable that holds a model, and `--data` of one that holds texts. The cell magic
`%%interp PROBE` reads one text per line. Output is HTML without scripts, so it stays in a saved notebook.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import Any

import pandas as pd
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import HTML, display
from markupsafe import Markup

from interp.data.shipped import read_data
from interp.display import html
from interp.display import token_map as heat_map
from interp.display.figures import image
from interp.errors import InputError, InterpError
from interp.model.loading import load as load_model
from interp.model.subject import Subject
from interp.runs import arguments, registry
from interp.runs.description import in_words

NAME = "interp"
_OF_LOADING = ("backend", "device", "dtype")


def load(shell: InteractiveShell) -> None:
    """Register `%interp` and `%%interp`."""
    shell.register_magic_function(_Magic(shell), "line_cell", NAME)


def unload(shell: InteractiveShell) -> None:
    """Remove `%interp` and `%%interp`, and forget the loaded models."""
    for magics in shell.magics_manager.magics.values():
        magics.pop(NAME, None)


class _Magic:
    """A magic function of one session; each model is loaded once."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._subjects: dict[tuple[str | None, ...], Subject] = {}
        self.__name__, self.__doc__ = NAME, __doc__

    def __call__(self, line: str, cell: str | None = None) -> pd.DataFrame:
        try:
            words, options = _split(line)
            if not words:
                raise InputError('name a probe: `%interp PROBE --model MODEL "text"`; `%interp probes` lists them.')
            what, *texts = words
            if what in _COMMANDS:
                return self._command(what, texts, options)
            return self._run(what, [*texts, *(cell or "").split("\n")], options)
        except InterpError as error:
            raise UsageError(str(error)) from None

    def _command(self, what: str, texts: list[str], options: dict[str, str]) -> pd.DataFrame:
        known = [] if what == "probes" else ["model", *_OF_LOADING]
        if texts or set(options) - set(known):
            takes = " and ".join(f"--{name}" for name in known) or "nothing else"
            raise InputError(f"`%interp {what}` takes {takes}.")
        if what == "probes":
            found = [registry.get(name) for name in registry.names()]
            return pd.DataFrame([in_words(one) for one in found]).sort_values(["family", "probe"], ignore_index=True)
        from interp.findings import findings

        frame = findings(self._subject(options))
        _show(html.findings(frame))
        return frame

    def _run(self, name: str, texts: list[str], options: dict[str, str]) -> pd.DataFrame:
        probe = registry.get(name)
        named = options.pop("data", None)
        loading = {key: options.pop(key) for key in ("model", *_OF_LOADING) if key in options}
        given = arguments.parameters(probe.function, options.items())
        if arguments.takes_texts(probe.function):
            given["texts"] = self._texts([text for text in texts if text.strip()], named)
        elif texts or named:
            raise InputError(f"{name!r} reads weights only; leave the texts out.")
        frame = probe.function(self._subject(loading), **given)
        for part in pictures(frame):
            _show(part)
        return frame

    def _texts(self, texts: list[str], named: str | None) -> Any:
        if bool(texts) == bool(named):
            raise InputError(
                'give texts in quotes, or --data with a dataset, a file or a variable: `%interp ... "text"`.'
            )
        if named is None:
            return texts
        value = self._shell.user_ns.get(named)
        return read_data(named) if value is None else value

    def _subject(self, options: dict[str, str]) -> Subject:
        name = options.get("model", "reference")
        value = self._shell.user_ns.get(name)
        rest = {key: options.get(key) for key in _OF_LOADING}
        if value is not None and not isinstance(value, str):
            return load_model(value, **rest)  # type: ignore[arg-type]
        key = (name, *rest.values())
        if key not in self._subjects:
            self._subjects[key] = load_model(name, **rest)  # type: ignore[arg-type]
        return self._subjects[key]


_COMMANDS = ("probes", "findings")


def pictures(frame: pd.DataFrame) -> list[Markup]:
    """Render the probe's figure, and the tokens of the first text if its frame has a value for each.

    Attributions are shown as tokens only, since their figure shows the same.
    """
    probe, found = registry.get(frame.interp.schema.probe), []
    if probe.plot is not None and "score" not in frame.columns:
        found.append(image(frame.interp.plot(), probe.name))
    with suppress(InterpError):  # not every frame is about single tokens
        found.append(heat_map.token_map(frame, probe.schema))
    return found


def _split(line: str) -> tuple[list[str], dict[str, str]]:
    """Split a line into words, and values by name from `--name value` or `--name=value`."""
    try:
        parts = shlex.split(line)
    except ValueError:
        raise InputError(f"a quotation mark is not closed in {line!r}; close it.") from None
    words: list[str] = []
    options: dict[str, str] = {}
    rest = iter(parts)
    for part in rest:
        if not part.startswith("--"):
            words.append(part)
            continue
        name, equals, value = part[2:].partition("=")
        found = value if equals else next(rest, None)
        if found is None:
            raise InputError(f"{part} has no value; write {part} VALUE.")
        options[name] = found
    return words, options


def _show(body: Markup) -> None:
    display(HTML(f'<div style="overflow-x:auto;max-width:100%">{body}</div>'))
