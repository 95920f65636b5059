"""Read and write the files of a folder, here or anywhere that fsspec reaches: `s3://`, `gs://`, `memory://`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from interp.data.writing import check_target, written
from interp.errors import InputError


@dataclass(frozen=True)
class Folder:
    """A folder of files that are each written whole or not at all; a file that begins with "." is nobody's business.

    Args:
        location: a path or a URL; created if its parent exists (elsewhere, if it can be).
        argument: the name of the argument that gave it, for error messages.

    Raises:
        InputError: it is not a folder and cannot be created, or takes no file.

    >>> folder = Folder("memory://doctest-folders")
    >>> with folder.writing("one.txt") as file:
    ...     _ = file.write(b"1 2 3")
    >>> folder.names(".txt"), folder.read("one.txt")
    (['one.txt'], b'1 2 3')
    >>> folder.has("one.txt"), folder.has("two.txt")
    (True, False)
    """

    location: str
    argument: str = field(default="out", compare=False)

    def __post_init__(self) -> None:
        try:
            if self.local is None:
                self.filesystem.makedirs(self.root, exist_ok=True)
            else:
                self.local.mkdir(exist_ok=True)
        except Exception as error:  # remote filesystems raise errors of many kinds
            reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
            raise InputError(
                f"{self.argument}={self.location!r} is not a folder and cannot be created ({reason}); name a folder."
            ) from error
        if self.local is not None:
            check_target(self.local / "rows", "the rows of a run")

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        try:
            filesystem, root = fsspec.core.url_to_fs(self.location)
        except (ValueError, ImportError) as error:
            reason = str(error).rstrip(".")
            raise InputError(f"{self.argument}={self.location!r} cannot be opened: {reason}; name a folder.") from error
        return filesystem, str(root)

    @property
    def filesystem(self) -> Any:
        """The fsspec filesystem, which pyarrow takes too."""
        return self._opened[0]

    @property
    def root(self) -> str:
        """The folder's path within the filesystem."""
        return self._opened[1]

    @property
    def local(self) -> Path | None:
        """The folder's path on this machine; None if it lies elsewhere."""
        return Path(self.root) if isinstance(self.filesystem, LocalFileSystem) else None

    def path(self, name: str) -> str:
        """Return the path of a file within the filesystem."""
        return f"{self.root.rstrip('/')}/{name}"

    def names(self, suffix: str = "", prefix: str = "") -> list[str]:
        """Return the names of the files with a prefix and a suffix, sorted; links are left out."""
        if self.local is not None:
            found = [one.name for one in self.local.iterdir() if one.is_file() and not one.is_symlink()]
        else:
            self.filesystem.invalidate_cache()
            listed = self.filesystem.ls(self.root, detail=True)
            found = [one["name"].rsplit("/", 1)[-1] for one in listed if one["type"] == "file"]
        kept = [name for name in found if name.startswith(prefix) and name.endswith(suffix)]
        return sorted(name for name in kept if not name.startswith("."))

    def has(self, name: str) -> bool:
        """Tell whether there is a file of that name; a link counts as none."""
        if self.local is not None:
            path = self.local / name
            return path.is_file() and not path.is_symlink()
        self.filesystem.invalidate_cache()
        return bool(self.filesystem.isfile(self.path(name)))

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        content: bytes = self.filesystem.cat_file(self.path(name))
        return content

    @contextmanager
    def writing(self, name: str, what: str = "the rows of a run") -> Iterator[IO[bytes]]:
        """Open a new file inside the `with` block, which gets its name after it; see `interp.data.writing.written`.

        Raises:
            InputError: the file cannot be written.
        """
        if self.local is not None:
            with suppress(OSError):
                self.local.mkdir(exist_ok=True)  # somebody may have tidied up meanwhile
            with written(self.local / name, what) as file:
                yield file
            return
        unfinished = self.path(f".{secrets.token_hex(16)}.unfinished")
        try:
            with self.filesystem.open(unfinished, "wb") as file:
                yield file
            self.filesystem.mv(unfinished, self.path(name))
        except BaseException as error:
            with suppress(Exception):
                self.filesystem.rm_file(unfinished)
            if isinstance(error, OSError):
                reason = error.strerror or str(error)
                raise InputError(f"{what} cannot be written to {self.path(name)!r}: {reason}.") from error
            raise

    def put_aside(self, name: str) -> str:
        """Rename a damaged file so that nothing reads it any more, and return its new name."""
        aside = f".{name}.{secrets.token_hex(4)}.damaged"
        with suppress(FileNotFoundError):  # another process was quicker
            if self.local is not None:
                (self.local / name).replace(self.local / aside)
            else:
                self.filesystem.mv(self.path(name), self.path(aside))
        return aside
