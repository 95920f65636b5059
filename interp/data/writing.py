"""Write a file whole or not at all; whatever this project writes for a user, it writes here."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from interp.errors import InputError

# O_EXCL refuses a name that exists, be it a link; the others are absent on some systems.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def written(path: str | Path, what: str = "the file") -> Iterator[BinaryIO]:
    """Open a new file beside `path` inside the `with` block, and put it in the place of `path` after it.

    Until then the file has a name that nobody can guess and that nothing had before, so that nobody else's file or
    link is written through. A link at `path` is replaced, not followed. After an error `path` is as it was and nothing
    else is left.

    Args:
        path: of the finished file; its folder must exist.
        what: the start of the error message, such as "a tuned lens".

    Raises:
        InputError: the file cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "numbers.txt"
    >>> with written(path) as file:
    ...     _ = file.write(b"1 2 3")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('1 2 3', 1)
    """
    path = Path(path)
    unfinished = path.with_name(f".{secrets.token_hex(16)}.unfinished")
    created = False
    try:
        mode = _mode(path)
        # Open by number: pandas would open a file that knows its name a second time, by that name.
        with os.fdopen(os.open(unfinished, _NEW, 0o666), "wb") as file:
            created = True
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), mode)
            yield file
        unfinished.replace(path)
    except BaseException as error:  # an interrupt, too, leaves nothing behind
        if created:
            with suppress(OSError):
                unfinished.unlink()
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise InputError(f"{what} cannot be written to {str(path)!r}: {reason}.") from error
        raise


def check_target(path: str | Path, what: str = "the file") -> None:
    """Refuse a path that `written` could not write to, before anything is computed; nothing is left behind.

    Raises:
        InputError: its folder does not exist or takes no new file, or it is a folder, a device or a pipe itself.
    """
    path = Path(path)
    trial = path.with_name(f".{secrets.token_hex(16)}.unfinished")
    try:
        _mode(path)
        os.close(os.open(trial, _NEW, 0o666))  # asking for the permission is not enough: root has it everywhere
        trial.unlink()
    except OSError as error:
        raise InputError(f"{what} cannot be written to {str(path)!r}: {error.strerror or error}.") from error


def _mode(path: Path) -> int | None:
    """Return the permissions of the regular file at `path`, None if there is none; refuse a folder or a device."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISREG(found.st_mode):
        return stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode) and (path.is_file() or not path.exists()):
        return None
    raise OSError(None, "it is a folder, a device or a pipe; name a file")
