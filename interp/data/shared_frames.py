"""Share frames through a dataset repository of the Hugging Face hub, or through a folder: `interp.pull`."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from interp.checks import checked
from interp.data.folders import Folder
from interp.data.frame_files import read_frame
from interp.errors import InputError, UnknownName, reason_of

_ON_THE_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
CARD = """---
tags: [interp, interpretability]
---
Frames of measurements on language models, made with `interp`: Parquet files, each with the provenance of its runs.

```python
import interp

frame = interp.pull("{repo}", "{name}")
frame.interp.provenance
```
"""


def push_frame(frame: pd.DataFrame, repo: str | Path, name: str, *, private: bool) -> str:
    """Write a frame as Parquet to a repository or a folder, and return where it is.

    Args:
        frame: with its provenance in its attrs.
        repo: see `pull`.
        name: of the file, without a suffix.
        private: of a repository that does not exist yet.

    Raises:
        InputError: the place is neither, or cannot be written to.
    """
    file = f"{name}.parquet"
    if not on_the_hub(repo):
        folder = Folder(str(repo), argument="repo")
        with folder.writing(file, "the frame") as target:
            frame.to_parquet(target)
        return folder.path(file)
    content = io.BytesIO()
    frame.to_parquet(content)
    with _reaching(repo) as api:
        named: dict[str, Any] = {"repo_id": str(repo), "repo_type": "dataset"}
        api.create_repo(**named, private=private, exist_ok=True)
        if not api.file_exists(filename="README.md", **named):
            card = CARD.format(repo=repo, name=name).encode()
            api.upload_file(path_or_fileobj=card, path_in_repo="README.md", commit_message="Add a card", **named)
        api.upload_file(path_or_fileobj=content.getvalue(), path_in_repo=file, commit_message=f"Add {name}", **named)
    return f"hf://datasets/{repo}/{file}"


@checked
def pull(repo: str | Path, name: str | None = None, *, revision: str | None = None) -> pd.DataFrame:
    """Read a frame that `frame.interp.push` shared, with its provenance.

    Args:
        repo: a dataset repository of the hub, "user/repo"; a folder, as a path that begins with "." or "/" or as a
            Path; or a URL that fsspec knows.
        name: of the frame, if there are several.
        revision: of the repository: a branch, tag or commit.

    Raises:
        InputError: the place cannot be reached, holds no frames, or holds several and none was named.
        UnknownName: it holds no frame of that name.

    >>> import interp, tempfile
    >>> from probes import logit_lens
    >>> folder = tempfile.mkdtemp()
    >>> frame = logit_lens("reference", ["Once upon a time"], positions=-1, targets="argmax")
    >>> _ = frame.interp.push(folder)
    >>> pull(folder).equals(frame), pull(folder).interp.runs == frame.interp.runs
    (True, True)
    """
    if on_the_hub(repo):
        from huggingface_hub import hf_hub_download

        with _reaching(repo) as api:
            named: dict[str, Any] = {"repo_id": str(repo), "repo_type": "dataset", "revision": revision}
            file = _chosen(api.list_repo_files(**named), name, repo)
            path = hf_hub_download(filename=file, **named)
        return read_frame(path)
    if revision is not None:
        raise InputError(f"revision={revision!r} is of a repository on the hub, and {str(repo)!r} is a folder.")
    if "://" not in str(repo) and not Path(repo).is_dir():
        raise InputError(
            f"repo={str(repo)!r} is not a folder; name one that holds frames, or a repository, 'user/repo'."
        )
    folder = Folder(str(repo), argument="repo")
    file = _chosen(folder.names(".parquet"), name, repo)
    return pd.read_parquet(io.BytesIO(folder.read(file)))


def on_the_hub(repo: str | Path) -> bool:
    """Tell whether a place is a repository's name; refuse what is neither that nor clearly a path or URL.

    >>> on_the_hub("user/repo"), on_the_hub("./folder"), on_the_hub(Path("user/repo"))
    (True, False, False)
    """
    if isinstance(repo, Path) or "://" in repo or repo.startswith((".", "/", "~")) or ":\\" in repo:
        return False
    if _ON_THE_HUB.fullmatch(repo):
        return True
    raise InputError(f"repo={repo!r}: give a repository, such as 'user/repo', or a folder, such as './frames'.")


def _chosen(files: list[str], name: str | None, repo: str | Path) -> str:
    known = sorted(one.removesuffix(".parquet") for one in files if one.endswith(".parquet"))
    if not known:
        raise InputError(f"{str(repo)!r} holds no frames; push one first.")
    if name is None and len(known) > 1:
        raise InputError(f"{str(repo)!r} holds {len(known)} frames; name one of {', '.join(known[:5])}.")
    chosen = known[0] if name is None else name.removesuffix(".parquet")
    if chosen not in known:
        raise UnknownName("frame", chosen, known)
    return f"{chosen}.parquet"


@contextmanager
def _reaching(repo: str | Path) -> Iterator[Any]:
    """Yield the hub's interface; turn whatever it cannot do into one sentence."""
    from huggingface_hub import HfApi

    try:
        yield HfApi()
    except (OSError, ValueError) as error:  # its HTTP errors are OSErrors, those of names and tokens ValueErrors
        raise InputError(f"{str(repo)!r} on the hub cannot be reached: {reason_of(error)}.") from error
