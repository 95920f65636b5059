"""The mean of each prompt's rows in a group, of Arrow tables: what summaries of sweeps start with."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from interp.checks import checked


@checked
def means_of_table(
    table: pa.Table, keys: Sequence[str], values: Sequence[str], *, where: pc.Expression | None = None
) -> pa.Table:
    """Average the rows of each prompt in a group; `interp.stats.means_by_prompt` of a table, to a rounding.

    Args:
        table: rows with `prompt_id`, the keys and the values, missing ones null.
        keys: columns that define the groups; rows where one is missing are left out.
        values: columns of numbers or truth values.
        where: the condition on rows that count; None takes all.

    Returns:
        One row per group and prompt: `keys`, `prompt_id` and `values`, null where a prompt has none in a group.

    >>> table = pa.table({"prompt_id": [0, 0, 1], "layer": [2, 2, 2], "loss": [1.0, 2.0, None]})
    >>> means_of_table(table, ["layer"], ["loss"]).to_pylist()
    [{'layer': 2, 'prompt_id': 0, 'loss': 1.5}, {'layer': 2, 'prompt_id': 1, 'loss': None}]
    """
    by, of = [*keys, "prompt_id"], list(dict.fromkeys(values))
    table = table.unify_dictionaries()
    everywhere = {name: one for name in keys if (one := _only_text(table[name])) is not None}
    grouping = [name for name in by if name not in everywhere]
    for name in grouping:
        if table[name].null_count:
            where = pc.field(name).is_valid() if where is None else where & pc.field(name).is_valid()
    table = table if where is None else table.filter(where)
    # One thread: several would add up in an order of their own, another one each time.
    means = table.group_by(grouping, use_threads=False).aggregate([(name, "mean") for name in of])
    columns = {name: means[name] for name in grouping} | {name: means[f"{name}_mean"] for name in of}
    columns |= {name: pa.repeat(one, len(means)) for name, one in everywhere.items()}
    return pa.table({name: _plain(columns[name]) for name in (*by, *of)})


def _only_text(column: pa.ChunkedArray) -> pa.Scalar | None:
    """Return the text that all rows of a dictionary column have; None if there are several or missing ones."""
    if column.null_count or not column.num_chunks or not pa.types.is_dictionary(column.type):
        return None
    texts = column.chunk(0).dictionary
    return texts[0] if len(texts) == 1 else None


def _plain(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


@checked
def repeats_in_a_row(table: pa.Table, columns: Sequence[str]) -> bool:
    """Tell whether some row has the same values in these columns as the row before.

    >>> table = pa.table({"pos": [3, 3, 4], "token": [" a", " b", " b"]})
    >>> repeats_in_a_row(table, ["pos"]), repeats_in_a_row(table, ["pos", "token"])
    (True, False)
    """
    same = None
    for name in columns:
        column = pa.array([]) if not len(table) else table[name].unify_dictionaries().combine_chunks()
        column = column.indices if pa.types.is_dictionary(column.type) else column
        equal = pc.equal(column[1:], column[:-1])
        same = equal if same is None else pc.and_(same, equal)
        if not pc.any(same).as_py():
            return False
    return True
