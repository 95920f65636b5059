"""Columns and schemas of tidy frames: one vocabulary of columns, and a schema per probe."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from interp.checks import checked
from interp.errors import InputError, UnknownName

Kind = Literal["int", "float", "bool", "str", "id"]
"""Type of a column; "id" is an integer that may be missing."""

_DTYPES: dict[Kind, str] = {"int": "int64", "float": "float64", "bool": "bool", "str": "str", "id": "Int64"}


@checked
@dataclass(frozen=True)
class Column:
    """A column of a frame: its name, type, meaning, unit and allowed values."""

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    missing: bool = False

    @property
    def description(self) -> str:
        """The meaning, and how to read a column whose name pandas has taken.

        >>> print(Column("size", "float", "length of the step").description)
        length of the step; read frame["size"], since frame.size is pandas' own
        """
        if not hasattr(pd.DataFrame, self.name):
            return self.meaning
        return f"{self.meaning}; read frame[{json.dumps(self.name)}], since frame.{self.name} is pandas' own"

    def with_(self, **changes: Any) -> Column:
        """Return this column with some of its fields changed, as a probe's schema may need."""
        return replace(self, **changes)


def _vocabulary() -> dict[str, Column]:
    columns = (
        Column("model", "str", "name of the model under study"),
        Column("run_id", "str", "short hash of subject, probe, parameters, data and seed; finds the provenance again"),
        Column("prompt_id", "int", "number of the prompt"),
        Column("pos", "int", "position in the prompt, from 0; the start-of-text token counts", low=0),
        Column("token_id", "int", "the token at this position", low=0),
        Column("token", "str", "the token at this position, as text"),
        Column("layer", "int", "layer of the residual stream: 0 enters the first block, L leaves the last", low=0),
        Column("head", "int", "attention head within its block", low=0),
        Column("neuron", "int", "MLP neuron within its block", low=0),
        Column("component", "str", "part of a block: attn, mlp, ..."),
        Column("target_id", "id", "the token being scored", low=0, missing=True),
        Column("target", "str", "the token being scored, as text", missing=True),
        Column("against_id", "id", "the token that the target is compared with", low=0, missing=True),
        Column("against", "str", "the token that the target is compared with, as text", missing=True),
        Column("log_prob", "float", "log-probability of the target", "nats", high=0.0, missing=True),
        Column("prob", "float", "probability", "0..1", low=0.0, high=1.0),
        Column(
            "rank", "id", "tokens with a strictly larger logit than the target; 0 is the argmax", low=0, missing=True
        ),
        Column("entropy", "float", "entropy of the next-token distribution", "nats", low=0.0),
        Column("kl", "float", "Kullback-Leibler divergence from the intact model", "nats", low=0.0),
        Column("loss", "float", "cross-entropy of the actual next token", "nats", low=0.0, missing=True),
        Column("score", "float", "attribution of this token"),
        Column("method", "str", "method that gave the row"),
        Column("control", "str", "'none' for the measurement itself, else the name of the control"),
        Column("seed", "int", "seed of the row's random choices"),
        Column("usable", "bool", "whether probes that draw or list tokens may take this one"),
    )
    return {column.name: column for column in columns}


VOCABULARY = _vocabulary()
"""The columns that probes share: one name has one meaning in every frame."""


@checked
@dataclass(frozen=True)
class Schema:
    """A description of a probe's frame: its columns, its rows and how it is summarised.

    Attributes:
        probe: name of the probe.
        paper: the paper that describes the method.
        rows: what one row is.
        columns: in order; from `VOCABULARY` or the probe's own.
        summary_by: columns that group the rows of `.interp.summary()`.
        summary_of: columns that it averages over prompts.
        lines_by: further columns that distinguish rows at one token; each of their values is a line of a token map.
        shown: the column that a token map colours by; empty for `score`, else the first of `summary_of`.
    """

    probe: str
    paper: str
    rows: str
    columns: tuple[Column, ...]
    summary_by: tuple[str, ...] = ()
    summary_of: tuple[str, ...] = ()
    lines_by: tuple[str, ...] = ()
    shown: str = ""

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise UnknownName("column", name, [column.name for column in self.columns])

    @property
    def units(self) -> dict[str, str]:
        """The units of columns that have one, by column."""
        return {column.name: column.unit for column in self.columns if column.unit}

    def describe(self) -> pd.DataFrame:
        """Return one row per column: name, type, unit, meaning; see `Column.description`."""
        rows = [(column.name, _DTYPES[column.kind], column.unit, column.description) for column in self.columns]
        return pd.DataFrame(rows, columns=["column", "type", "unit", "meaning"])

    def restored(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with the schema's own types, whatever file or conversion its columns went through.

        Columns with values of another kind stay as they are; nothing is copied if all types are right.

        >>> schema = Schema("p", "a paper", "one per layer", columns("layer", "loss"))
        >>> frame = pd.DataFrame({"layer": [0, 1], "loss": [1.0, 2.0]}).convert_dtypes(dtype_backend="pyarrow")
        >>> schema.restored(frame).dtypes.astype(str).tolist()
        ['int64', 'float64']
        """
        known = {column.name: _DTYPES[column.kind] for column in self.columns}
        other = [name for name in frame.columns if str(frame[name].dtype) != known.get(name, str(frame[name].dtype))]
        return frame.assign(**{name: _restored(frame[name], known[name]) for name in other}) if other else frame

    def validate(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Check types, ranges and missing values; other columns (the user's own) are not checked.

        Raises:
            InputError: a column is missing or holds a forbidden value; the message names the column and the reason.
        """
        if all(
            column.name in frame.columns and _is_plainly_valid(column, frame[column.name]) for column in self.columns
        ):
            return frame  # pandera, which names the fault, takes half a second to import
        import pandera.errors
        import pandera.pandas as pa

        expected = pa.DataFrameSchema({column.name: _pandera(column) for column in self.columns}, strict=False)
        try:
            expected.validate(frame, lazy=False)
        except (pandera.errors.SchemaError, pandera.errors.SchemaErrors) as error:
            raise InputError(
                f"this is not a frame of {self.probe!r}: {str(error).splitlines()[0].rstrip('.')}."
            ) from error
        return frame


def _restored(column: pd.Series, dtype: str) -> pd.Series:
    try:
        if dtype == "float64":  # pandas has no missing value for a plain float but NaN
            return pd.Series(pd.array(column, dtype="Float64").to_numpy(dtype, na_value=np.nan), index=column.index)
        return column.astype(dtype)
    except (TypeError, ValueError):  # the user's own values
        return column


@checked
def columns(*chosen: str | Column) -> tuple[Column, ...]:
    """Return columns, by name from the vocabulary or as given.

    >>> [column.name for column in columns("pos", Column("kappa", "float", "kurtosis"))]
    ['pos', 'kappa']
    """
    for one in chosen:
        if isinstance(one, str) and one not in VOCABULARY:
            raise UnknownName("column", one, VOCABULARY)
    return tuple(VOCABULARY[one] if isinstance(one, str) else one for one in chosen)


def _is_plainly_valid(column: Column, values: Any) -> bool:
    """Tell whether a column has its dtype and all values are allowed; False where that takes a closer look."""
    if not isinstance(values, pd.Series) or str(values.dtype) != _DTYPES[column.kind]:
        return False
    if not column.missing and values.hasnans:
        return False
    least, largest = (values.min(), values.max()) if (column.low, column.high) != (None, None) else (pd.NA, pd.NA)
    return (column.low is None or pd.isna(least) or least >= column.low) and (
        column.high is None or pd.isna(largest) or largest <= column.high
    )


def _pandera(column: Column) -> Any:
    import pandera.pandas as pa

    checks = []
    if column.low is not None:
        checks.append(pa.Check.ge(column.low))
    if column.high is not None:
        checks.append(pa.Check.le(column.high))
    return pa.Column(_DTYPES[column.kind], checks, nullable=column.missing)
