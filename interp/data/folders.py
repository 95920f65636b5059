"""Read and write the files of a folder, here or anywhere that fsspec reaches: `s3://`, `gs://`, `memory://`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any

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
        import fsspec  # slow to import

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

    @cached_property
    def local(self) -> Path | None:
        """The folder's path on this machine; None if it lies elsewhere."""
        from fsspec.implementations.local import LocalFileSystem

        return Path(self.root) if isinstance(self.filesystem, LocalFileSystem) else None

    @property
    def for_arrow(self) -> Any:
        """The filesystem as pyarrow reads it fastest."""
        import pyarrow.fs

        return self.filesystem if self.local is None else pyarrow.fs.LocalFileSystem()

    def path(self, name: str) -> str:
        """Return the path of a file within the filesystem."""
        return f"{self.root.rstrip('/')}/{name}"

    def names(self, suffix: str = "", prefix: str = "") -> list[str]:
        """Return the names of the files with a prefix and a suffix, sorted; links are left out."""
        kept = [name for name in self._listed() if name.startswith(prefix) and name.endswith(suffix)]
        return sorted(name for name in kept if not name.startswith("."))

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return the bytes of files; one that is gone has none."""
        listed, found = self._listed(), {}
        for name in names:
            with suppress(FileNotFoundError):  # gone since it was listed
                found[name] = listed[name]() if name in listed else 0
        return found

    def _listed(self) -> dict[str, Callable[[], int]]:
        """Return what tells the bytes of each file, by name; a look at the folder alone does not, on a local disk."""
        if self.local is not None:
            with os.scandir(self.local) as entries:
                return {one.name: _size_of(one) for one in entries if one.is_file(follow_symlinks=False)}
        self.filesystem.invalidate_cache()
        listed = [one for one in self.filesystem.ls(self.root, detail=True) if one["type"] == "file"]
        return {one["name"].rsplit("/", 1)[-1]: partial(self.filesystem.size, one["name"]) for one in listed}

    def has(self, name: str) -> bool:
        """Tell whether there is a file of that name; a link counts as none."""
        if self.local is not None:
            path = self.local / name
            return path.is_file() and not path.is_symlink()
        self.filesystem.invalidate_cache()
        return bool(self.filesystem.isfile(self.path(name)))

    def ends(self, names: Sequence[str], n_bytes: int) -> list[bytes]:
        """Return the last bytes of files, all of a shorter one, and none of one that cannot be read."""
        if self.local is not None:
            return [_end_of(self.local / name, n_bytes) for name in names]
        paths = [self.path(name) for name in names]
        found = self.filesystem.cat_ranges(paths, [-n_bytes] * len(paths), [None] * len(paths), on_error="return")
        return [one if isinstance(one, bytes) else b"" for one in found]

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


def _size_of(entry: os.DirEntry[str]) -> Callable[[], int]:
    return lambda: entry.stat(follow_symlinks=False).st_size


def _end_of(path: Path, n_bytes: int) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - n_bytes))
            return file.read()
    except OSError:
        return b""
