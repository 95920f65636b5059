"""The user's cache: a folder for what can be downloaded or computed again."""

from __future__ import annotations

import os
from pathlib import Path

from interp.errors import InputError


def cache_folder(*below: str) -> Path:
    """Return a folder of the user's cache, and make it if it does not exist.

    The cache is the folder that `INTERP_CACHE` names, else `interp` in the one that `XDG_CACHE_HOME` names, else
    `~/.cache/interp`, where Hugging Face's libraries keep their models too.

    Args:
        below: names of folders in it, one inside the other.

    Raises:
        InputError: it cannot be made.

    >>> import tempfile
    >>> from unittest.mock import patch
    >>> with patch.dict(os.environ, {"INTERP_CACHE": tempfile.mkdtemp()}):
    ...     folder = cache_folder("models", "smollm2")
    >>> folder.is_dir(), folder.parts[-2:]
    (True, ('models', 'smollm2'))
    """
    folder = cache_path(*below)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"the cache {str(folder)!r} cannot be made: {reason}; name a folder in the variable INTERP_CACHE."
        ) from error
    return folder


def cache_path(*below: str) -> Path:
    """Return where a folder of the user's cache is or would be; nothing is made."""
    if named := os.environ.get("INTERP_CACHE"):
        return Path(named).expanduser().joinpath(*below)
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser().joinpath("interp", *below)
