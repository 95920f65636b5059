"""Turn a frame into an Arrow table in which each distinct text of a column is held once."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa


def texts_in_dictionaries(frame: pd.DataFrame) -> pa.Table:
    """Return a frame as a table whose columns of texts are dictionaries, which pandas reads as categoricals.

    pandas' own conversion to categoricals takes twice as long, and its codes differ in type from frame to frame.

    >>> frame = pd.DataFrame({"layer": [0, 1], "token": [" b", " a"]})
    >>> table = texts_in_dictionaries(frame)
    >>> table["token"].type.index_type, table.to_pandas()["token"].dtype.name, table.to_pandas()["token"].tolist()
    (DataType(int32), 'category', [' b', ' a'])
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    texts = [name for name in frame.columns if frame[name].dtype == "str"]
    for name in texts:
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table.column(place).combine_chunks().dictionary_encode())
    # What pandas notes of a column's type in the metadata decides how it is read.
    noted = pa.Schema.from_pandas(frame.head(0).astype(dict.fromkeys(texts, "category")), preserve_index=False)
    return table.replace_schema_metadata(noted.metadata)
