"""Every probe under one name, ours and anyone's: `interp.probes.logit_lens`, or `from interp.probes import logit_lens`.

This is a view of the registry. It is filled when a name is asked for: a plug-in's probe stands beside the built-in
ones, and so does one that the session has defined.

>>> from interp.probes import logit_lens
>>> logit_lens("reference", ["Once upon a time"]).interp.schema.probe
'logit_lens'
"""

from __future__ import annotations

from typing import Any

from interp.errors import UnknownName
from interp.runs import registry


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # asked by the import system and by notebooks, which expect an AttributeError at once
        raise AttributeError(name)
    if name in registry.names():
        return registry.get(name).function
    found = registry.companions()
    if name in found:
        return found[name]
    raise AttributeError(str(UnknownName("probe", name, [*registry.names(), *found])))


def __dir__() -> list[str]:
    return sorted({*registry.names(), *registry.companions()})
