"""Prepare docstrings and signatures for the site, where reading the source alone would show them wrongly."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from griffe import Extension, Function, Object, Parameter, ParameterKind, Parameters

_DOCTEST = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", flags=re.MULTILINE)


class Docstrings(Extension):
    """Show doctests as code, and the parameters that a function has at run time."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Fence doctests: Markdown would take `>>>` for a quotation of a quotation of a quotation."""
        if obj.docstring is not None:
            obj.docstring.value = _DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)

    def on_function(self, *, func: Function, **_: Any) -> None:
        """Take the signature of the running function if a decorator spells `**arguments` out, as the docstring does."""
        text = func.docstring.value if func.docstring is not None else ""
        short = [one.name for one in func.parameters if one.kind is ParameterKind.var_keyword]
        if short and not re.search(rf"^ +{short[0]}:", text, flags=re.MULTILINE):
            found = getattr(importlib.import_module(func.module.path), func.name, None)
            if "__signature__" in getattr(found, "__dict__", {}):
                func.parameters = Parameters(*map(_parameter, inspect.signature(found).parameters.values()))


def _parameter(one: inspect.Parameter) -> Parameter:
    default = None if one.default is one.empty else repr(one.default)
    kind = ParameterKind[one.kind.name.lower()]
    return Parameter(one.name, annotation=str(one.annotation), kind=kind, default=default)
