"""The plan of a sweep, kept in its folder: which shard holds which prompts, and what all shards have in common."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from filelock import FileLock

from interp.data.folders import Folder
from interp.data.tensor_file import reading
from interp.errors import InputError
from interp.runs.store import Store
from interp.sweeps.shard import Shard

# Readers of Parquet folders pass over names that begin with an underscore.
NAME = "_manifest.json"
FORMAT = "interp.sweep/1"
ROWS = "rows"  # the part that holds the rows about all prompts together


def sums_folder(out: str) -> str:
    """Return the folder of the sums in a sweep's; readers of a folder of Parquet pass over it, as over the plan."""
    return f"{out.rstrip('/')}/_sums"


@dataclass
class Manifest:
    """A folder's shards, and what they have in common.

    Attributes:
        probe: its name.
        kept_as: what the names of all shards begin with; it says everything that decides the rows, save the prompts.
        provenance: of the whole sweep, in JSON types; its `run_id` is in every row.
        shards: in order of the prompts.
        hashes: of every planned prompt, by `prompt_id`; see `prompt_hashes`.
        together: whether the rows are about all prompts together: then a shard's file holds its sums.
    """

    probe: str
    kept_as: str
    provenance: dict[str, Any]
    shards: list[Shard] = field(default_factory=list)
    hashes: dict[int, str] = field(default_factory=dict)
    together: bool = False

    def row_store(self, out: str) -> Store:
        """Return where the rows are kept: a part for each shard, or `ROWS` where they are about all together."""
        return Store(out, self.kept_as)

    def shard_store(self, out: str) -> Store:
        """Return where each shard is kept."""
        return Store(sums_folder(out), self.kept_as) if self.together else self.row_store(out)

    def add(self, shards: Sequence[Shard], hashes: Mapping[int, str]) -> None:
        """Plan more prompts."""
        self.shards.extend(shards)
        self.hashes.update(hashes)

    def drop(self, shards: Sequence[Shard]) -> None:
        """Plan some shards no longer, nor their prompts."""
        gone = {shard.name for shard in shards}
        self.shards = [shard for shard in self.shards if shard.name not in gone]
        for shard in shards:
            for number in shard.prompt_ids:
                del self.hashes[number]

    def unfinished(self, folder: Folder) -> list[Shard]:
        """Return the shards that are not kept; those cut short are put aside and count as such."""
        done = self.shard_store(folder.location).whole_parts()
        return [shard for shard in self.shards if shard.name not in done]

    def require_same(self, other: Manifest, where: str) -> None:
        """Refuse to put rows of another sweep into the folder.

        Raises:
            InputError: what differs: the probe, its parameters, the model, the code.
        """
        if self.kept_as == other.kept_as:
            return
        facts = {**self.provenance, "probe": self.probe}, {**other.provenance, "probe": other.probe}
        names = ("probe", "parameters", "seed", "model", "fingerprint", "dtype", "backend", "edits", "versions")
        differ = [name for name in names if facts[0].get(name) != facts[1].get(name)]
        if facts[0].get("data_sha256") != facts[1].get("data_sha256"):
            differ.append("set of texts, which all its rows are about")
        differ = differ or ["code"]
        raise InputError(
            f"out={where!r} holds a sweep with another {', '.join(differ)}; give another folder, or delete this one."
        )

    def require_same_prompts(self, hashes: Mapping[int, str], where: str) -> None:
        """Refuse prompts whose numbers are those of other prompts in the folder.

        Raises:
            InputError: there is one.
        """
        for number, found in hashes.items():
            if self.hashes.get(number, found) != found:
                raise InputError(
                    f"prompt {number} is another one in out={where!r} (its text or a column of yours differs); give "
                    "your texts as a frame whose column 'prompt_id' tells them apart, or give another folder."
                )

    def to_json(self) -> bytes:
        """Return the manifest as a file holds it."""
        shards = {
            one.name: {"prompt_ids": one.prompt_ids, "hashes": [self.hashes[number] for number in one.prompt_ids]}
            for one in self.shards
        }
        names = ("probe", "kept_as", "provenance", "together")
        about = {"format": FORMAT, **{name: getattr(self, name) for name in names}}
        return json.dumps(about | {"shards": shards}).encode()


def read_manifest(folder: Folder) -> Manifest | None:
    """Return the manifest of a folder; None if there is none.

    Raises:
        InputError: it is damaged.
    """
    if not folder.has(NAME):
        return None
    with reading(folder.path(NAME), "plan of a sweep", "Give another folder, or delete this one."):
        told = json.loads(folder.read(NAME))
        if told["format"] != FORMAT:
            raise ValueError(f"its format is {told['format']!r}")
        about = str(told["probe"]), str(told["kept_as"]), dict(told["provenance"])
        manifest = Manifest(*about, together=bool(told.get("together")))
        for name, shard in told["shards"].items():
            numbers = tuple(int(number) for number in shard["prompt_ids"])
            hashes = dict(zip(numbers, map(str, shard["hashes"]), strict=True))
            if hashes.keys() & manifest.hashes.keys():
                raise ValueError(f"prompt {min(hashes.keys() & manifest.hashes.keys())} is in two shards")
            manifest.add([Shard(str(name), numbers)], hashes)
        return manifest


def write_manifest(folder: Folder, manifest: Manifest) -> None:
    """Write the manifest of a folder, whole or not at all."""
    with folder.writing(NAME, "the plan of the sweep") as file:
        file.write(manifest.to_json())


@contextmanager
def alone(folder: Folder) -> Iterator[None]:
    """Keep other processes of this machine from planning in the same folder; a killed process keeps nobody."""
    if folder.local is None:
        yield
        return
    with FileLock(folder.local / ".lock"):
        yield
