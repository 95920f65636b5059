"""Look up any registered probe by name: `interp.probes.logit_lens`, or `from interp.probes import logit_lens`.

This is a lazy view of the registry: it finds built-in probes, probes of plug-ins and probes defined in this session.

>>> from interp.probes import logit_lens
>>> logit_lens("reference", ["Once upon a time"]).interp.schema.probe
'logit_lens'
"""

from __future__ import annotations

from typing import Any

from interp.errors import UnknownName
from interp.runs import registry


def __getattr__(name: str) -> Any:
    if name == "__all__":  # of `from interp.probes import *`
        return __dir__()
    if name.startswith("__"):  # the import system and notebooks ask for these and expect an AttributeError
        raise AttributeError(name)
    if name in registry.names():
        return registry.get(name).function
    found = registry.companions()
    if name in found:
        return found[name]
    raise AttributeError(str(UnknownName("probe", name, [*registry.names(), *found])))


def __dir__() -> list[str]:
    return sorted({*registry.names(), *registry.companions()})
