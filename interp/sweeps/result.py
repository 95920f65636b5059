"""`Sweep`: the rows of a folder, read as far as they are asked for."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from interp.checks import checked
from interp.data.folders import Folder
from interp.errors import InputError, UnknownName, reason_of
from interp.options import options
from interp.runs import registry
from interp.runs.accessor import attach
from interp.runs.store import Store
from interp.sweeps.manifest import NAME, ROWS, Manifest, read_manifest
from interp.sweeps.shard import Shard

_ROW_BYTES = 8  # of a number in a frame


@checked
class Sweep:
    """A sweep's folder: `interp.sweep` returns one, and `Sweep(folder)` opens one, be it finished or not.

    Args:
        out: the folder.
        prompt_ids: the prompts that are read; None takes all that are planned.

    Raises:
        InputError: there is no sweep in the folder, or its plan is damaged.
    """

    def __init__(self, out: str | Path, *, prompt_ids: Sequence[int] | None = None) -> None:
        self.out = str(out)
        self._folder = Folder(self.out)
        manifest = read_manifest(self._folder)
        if manifest is None:
            raise InputError(f"out={self.out!r} has no {NAME}, so that no sweep is there; give the folder of one.")
        self._manifest: Manifest = manifest
        self._whole: frozenset[str] = frozenset()
        self._asked = None if prompt_ids is None else frozenset(prompt_ids)

    def __repr__(self) -> str:
        facts = self.status()
        return (
            f"Sweep({self.out!r}, {facts['probe']} of {facts['model']!r}, "
            f"{facts['prompts_done']:,} of {facts['prompts']:,} prompts)"
        )

    @property
    def provenance(self) -> dict[str, Any]:
        """Everything needed to repeat the sweep, in JSON types."""
        return dict(self._manifest.provenance)

    @cached_property
    def _shards(self) -> list[Shard]:
        """The shards that hold the prompts asked for."""
        if self._asked is None:
            return self._manifest.shards
        return [shard for shard in self._manifest.shards if not self._asked.isdisjoint(shard.prompt_ids)]

    @cached_property
    def _store(self) -> Store:
        """The place of the shards."""
        return self._manifest.shard_store(self.out)

    @cached_property
    def _row_store(self) -> Store:
        return self._manifest.row_store(self.out)

    def has_rows(self) -> bool:
        """Tell whether the rows about all prompts together are kept, so that the shards are needed no longer."""
        return self._manifest.together and ROWS in self._row_store.whole_parts()

    def missing(self) -> list[Shard]:
        """Return the shards that are not kept yet."""
        if self.has_rows():
            return []
        self._whole = self._store.whole_parts(self._whole)
        return [shard for shard in self._shards if shard.name not in self._whole]

    def status(self) -> dict[str, Any]:
        """Return what is planned and what is done: prompts, shards and bytes."""
        missing, shards = self.missing(), self._shards
        left = {shard.name for shard in missing}
        done = [shard.name for shard in shards if shard.name not in left]
        prompts = [sum(len(shard.prompt_ids) for shard in some) for some in (shards, missing)]
        return {
            "probe": self._manifest.probe,
            "model": self.provenance["model"],
            "run_id": self.provenance["run_id"],
            "prompts": prompts[0],
            "prompts_done": prompts[0] - prompts[1],
            "shards": len(shards),
            "shards_done": len(done),
            "bytes": self._row_store.bytes_of(self._parts(self._shards))
            if self.has_rows()
            else self._store.bytes_of(done),
        }

    @property
    def dataset(self) -> ds.Dataset:
        """The rows as a pyarrow dataset, in the order of shards; nothing is read yet.

        Raises:
            InputError: prompts are missing.
        """
        return self._dataset_of(self._complete())

    def _dataset_of(self, shards: Sequence[Shard]) -> ds.Dataset:
        paths = self._row_store.paths(self._parts(shards))
        found = ds.dataset(paths, format="parquet", filesystem=self._folder.for_arrow)
        if self._manifest.together:
            return found
        others = self._asked is not None and any(not self._asked.issuperset(one.prompt_ids) for one in shards)
        return found.filter(ds.field("prompt_id").isin(sorted(self._asked or ()))) if others else found

    def frame(self, columns: Sequence[str] | None = None, where: str | None = None) -> pd.DataFrame:
        """Return rows as a frame, in the order of `prompt_id`, with the sweep's provenance.

        Texts that repeat are pandas categoricals.

        Args:
            columns: those to read; None reads all. `run_id` always comes along.
            where: a condition on the rows as `DataFrame.query` takes it, such as "layer == 30"; rows that do not meet
                it are never held together in memory.

        Raises:
            InputError: prompts are missing, a shard is damaged, or the condition cannot be read.
            UnknownName: there is no such column.
        """
        shards = self._complete()
        known = self._dataset_of(shards).schema.names
        wanted = known if columns is None else list(dict.fromkeys([*columns, "run_id"]))
        for column in wanted:
            if column not in known:
                raise UnknownName("column", column, known)
        also = [] if where is None else [name for name in _names_in(where) if name in known]
        by_prompt = [] if self._manifest.together else ["prompt_id"]
        read = list(dict.fromkeys([*wanted, *also, *by_prompt]))
        parts = list(self._tables(shards, read) if where is None else self._meeting(where, shards, read))
        frame = _in_order_of_texts(pa.concat_tables(parts).to_pandas())
        if by_prompt and not frame["prompt_id"].is_monotonic_increasing:
            frame = frame.sort_values("prompt_id", kind="stable", ignore_index=True)
        return attach(frame[wanted].copy(deep=False), self.provenance)

    def summary(self, **settings: Any) -> pd.DataFrame:
        """Return the probe's own summary of all rows, a shard at a time where it is one of means over prompts.

        Args:
            **settings: of the probe's summary.

        Raises:
            InputError: prompts are missing; or the summary needs all rows at once, and they are beyond
                `interp.options.memory`.
        """
        probe = registry.get(self._manifest.probe)
        reduce = probe.reduction(settings)
        if reduce is None:
            self._require_memory(probe.schema.probe)
            frame = probe.schema.restored(self.frame())
        else:
            tables = self._tables(self._complete(), probe.reduce_from)
            frame = pd.concat([_with_texts(reduce(part)) for part in tables], ignore_index=True)
        summary: pd.DataFrame = probe.summarise(frame, **settings)
        return summary

    def _require_memory(self, probe: str) -> None:
        dataset = self.dataset
        needed = dataset.count_rows() * len(dataset.schema.names) * _ROW_BYTES
        if needed > options.memory:
            raise InputError(
                f"the summary of {probe!r} needs all rows at once, about {needed / 2**30:.1f} GiB, and "
                f"interp.options.memory is {options.memory / 2**30:.1f} GiB; raise it, or sum up "
                ".frame(columns=, where=) yourself."
            )

    def _tables(self, shards: Sequence[Shard], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of one shard after another, or those about all prompts."""
        if self._manifest.together:
            shards = [Shard(ROWS, tuple(number for shard in shards for number in shard.prompt_ids))]
        for shard in shards:
            table = self._row_store.table(shard.name, columns)
            if table is None:
                raise InputError(f"{self._lost([shard])}; call interp.sweep again with their texts.")
            if self._asked is not None and not self._asked.issuperset(shard.prompt_ids):
                table = table.filter(ds.field("prompt_id").isin(sorted(self._asked)))
            yield table

    def _parts(self, shards: Sequence[Shard]) -> list[str]:
        """Return the names of the parts that hold the rows of some shards."""
        return [ROWS] if self._manifest.together else [shard.name for shard in shards]

    def _meeting(self, condition: str, shards: Sequence[Shard], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the rows of each shard that meet a condition."""
        for table in self._tables(shards, columns):
            rows = _meeting(condition, table.to_pandas())
            yield pa.Table.from_pandas(rows, schema=table.schema, preserve_index=False)

    def _complete(self) -> list[Shard]:
        missing = self.missing() or (self._shards if self._manifest.together and not self.has_rows() else [])
        if missing:
            raise InputError(f"{self._lost(missing)}; call interp.sweep again with their texts.")
        return self._shards

    def _lost(self, shards: Sequence[Shard]) -> str:
        numbers = [number for shard in shards for number in shard.prompt_ids]
        shown = ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")
        return f"the rows of {len(numbers):,} prompts are missing in {self.out!r} ({shown})"


def _in_order_of_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose categories are in the order of texts, as a frame of texts is sorted and grouped."""
    texts = [name for name in frame.columns if isinstance(frame[name].dtype, pd.CategoricalDtype)]
    return frame.assign(
        **{name: frame[name].cat.reorder_categories(sorted(frame[name].cat.categories)) for name in texts}
    )


def _with_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with texts in place of categoricals, whose categories may be others in another shard."""
    return frame.astype({name: "str" for name in frame.columns if isinstance(frame[name].dtype, pd.CategoricalDtype)})


def _names_in(condition: str) -> list[str]:
    try:
        tree = ast.parse(condition.replace("`", ""), mode="eval")
    except SyntaxError as error:
        raise InputError(f"where={condition!r} is not a condition ({error.msg}); write one as 'layer == 30'.") from None
    return [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]


def _meeting(condition: str, rows: pd.DataFrame) -> pd.DataFrame:
    try:
        return rows.query(condition)
    except Exception as error:  # pandas raises errors of many kinds
        reason = reason_of(error)
        raise InputError(f"where={condition!r} cannot be applied: {reason}; write it as 'layer == 30'.") from error
