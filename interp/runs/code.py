"""Identify the code that a kept result depends on: `interp`, the probe's whole package, and the libraries."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import uuid
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from interp.checks import checked
from interp.runs.registry import functions_of

_PACKAGES = ("interp-probes", "torch", "transformers", "transformer-lens", "nnsight", "pandas")
_SESSION = uuid.uuid4().hex


@checked
def hash_of(identity: Mapping[str, Any]) -> str:
    """Hash JSON into 12 hex digits; the order of its keys does not matter."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


@checked
def code_digest(*functions: Callable[..., Any]) -> str:
    """Hash the source of `interp` and of the functions' packages, and the versions of the libraries.

    A function may call code that its own module does not import, so the whole package counts. A function defined in a
    notebook or script has no package: its digest differs in every session.

    >>> from probes import logit_lens
    >>> code_digest(logit_lens) == code_digest(logit_lens), len(code_digest())
    (True, 12)
    """
    packages = sorted({"interp", *map(_package, functions)})
    sources = {package: _tree_digest(package) for package in packages}
    return hashlib.sha256(json.dumps([sources, versions()], sort_keys=True).encode()).hexdigest()[:12]


def code_digest_of_probe(name: str) -> str:
    """Hash as `code_digest` does the code of a probe, or of this session alone if no function is marked as that probe.

    >>> from probes import logit_lens
    >>> code_digest_of_probe("logit_lens") == code_digest(logit_lens)
    True
    """
    return code_digest(*(functions_of(name) or [_of_no_package]))


def _of_no_package() -> None:
    """Stand for code of which no package is known."""


_of_no_package.__module__ = "__main__"


def _package(function: Callable[..., Any]) -> str:
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__module__", "__main__")).partition(".")[0]


def _tree_digest(package: str) -> str:
    """Hash every Python file of a package, or of a module that is one file."""
    file = getattr(sys.modules.get(package), "__file__", None)
    if package == "__main__" or file is None:
        return _SESSION
    path = Path(file)
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    digest = hashlib.sha256()
    for one in files:
        digest.update(f"{one.relative_to(path.parent)} ".encode())
        status = one.stat()
        digest.update(_file_digest(one, status.st_mtime_ns, status.st_size))
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _file_digest(file: Path, modified: int, size: int) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
