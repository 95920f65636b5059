"""Run a probe: load the subject, tokenise, go through batches, and return a frame with its provenance."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from interp.checks import checked
from interp.errors import InputError, warn
from interp.frames.build import broadcast, build
from interp.frames.schema import Schema
from interp.model.identity.settings import check_settings, matmul_precision
from interp.model.loading import Source, load
from interp.model.subject import Subject
from interp.model.tokens import Batch, Texts, Tokens
from interp.runs.accessor import attach
from interp.runs.code import code_digest_of_probe, hash_of, versions
from interp.runs.progress import progress_bar
from interp.runs.rehearsal import stop_if_rehearsed
from interp.runs.store import Store

_ADDED = ("usable",)  # parameters that came after ids were kept: where they are None, an id is what it was


@checked
class Run:
    """A run of a probe: create it first, and ask it for the frame at the end.

    Everything that decides the numbers is fixed when the run is created: `parameters` and `run_id` too.

    Attributes:
        identity: the facts that `run_id` is a hash of.
        run_id: a short hash of everything that decides the numbers, except the code.

    Args:
        schema: of the frame.
        source: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes; None for a probe that reads weights only.
        parameters: the probe's own arguments that decide the numbers.
        truncate: cut texts longer than the context instead of refusing them; None, the default, is for a probe without
            such an argument.
        seed: of the probe's random choices, if it makes any.
        out: a folder where finished rows are kept as Parquet; an interrupted run resumes there.
    """

    def __init__(
        self,
        schema: Schema,
        source: Source,
        texts: Texts | None,
        *,
        parameters: Mapping[str, Any],
        truncate: bool | None = None,
        seed: int | None = None,
        out: str | Path | None = None,
    ) -> None:
        self.schema = schema
        self.subject = load(source)
        check_settings(self.subject.device.type)
        self._tokens = None if texts is None else self.subject.tokens(texts, truncate=truncate)
        self.parameters = MappingProxyType(dict(parameters))
        self.seed = seed
        self._started = time.monotonic()
        names = {column.name for column in schema.columns}
        # A frame about a whole corpus has no rows per prompt, so it takes no columns from the user's frame.
        self._by_prompt = self._tokens is not None and "prompt_id" in names
        clash = (names - {"prompt_id"}) & set(self.tokens.table.columns) if self._by_prompt else set()
        if clash:
            raise InputError(f"columns {sorted(clash)} of your frame are {schema.probe}'s too; rename yours first.")
        with self.subject.exclusive:  # another thread's edits are not this run's
            self.identity = identity_of(
                schema, self.subject, self._tokens, self.parameters, seed, list(self.subject.edits)
            )
        self.run_id = hash_of(self.identity)
        self._store = None if out is None else Store(out, kept_as(self.run_id, self.subject, schema))
        self._unkept: list[Mapping[str, Any]] = []
        stop_if_rehearsed(self)

    @property
    def tokens(self) -> Tokens:
        """The tokenised texts.

        Raises:
            InputError: the probe was given no texts.
        """
        if self._tokens is None:
            raise InputError(f"{self.schema.probe} was given no texts; pass at least one.")
        return self._tokens

    def batches(
        self, states_per_layer: float = 1, variants: int = 1, *, prompt_ids: Collection[int] | None = None
    ) -> Iterator[Batch]:
        """Return batches within the memory budget, with a progress bar if there is more than one.

        Args:
            states_per_layer: residuals held per layer.
            variants: number of variants of each batch that run side by side.
            prompt_ids: of the prompts to read; None reads all.
        """
        done = frozenset() if self._store is None else self._store.keys()
        numbers = self.tokens.table["prompt_id"]
        read = ~numbers.isin(done) if prompt_ids is None else numbers.isin(prompt_ids) & ~numbers.isin(done)
        skip = np.flatnonzero(~read).tolist()
        max_tokens = max(1, self.subject.batch_tokens(states_per_layer) // variants)
        for batch in in_batches(self.tokens, max_tokens, self.schema.probe, skip=set(skip)):
            self._keep()  # whoever asks for the next batch has given all rows of the one before
            yield batch

    def prompt_ids(self, batch: Batch) -> np.ndarray:
        """`prompt_id` of each row of a batch, [n]."""
        ids: np.ndarray = self.tokens.table["prompt_id"].to_numpy()[batch.prompts.numpy()]
        return ids

    def token_columns(self, batch: Batch, row: Any, pos: Any) -> dict[str, np.ndarray]:
        """Return `prompt_id`, `pos` and `token_id` of the chosen tokens of a batch, [n] each."""
        return {
            "prompt_id": self.prompt_ids(batch)[row.numpy()],
            "pos": pos.numpy(),
            "token_id": batch.ids[row, pos].numpy(),
        }

    def frame(self, parts: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
        """Join the batches' columns in the order of prompts, and attach the provenance.

        A column of a part is an array [rows], or a single value for all rows of that part; a row can be a part.

        A text column `x` that no part gives is filled with the token strings of the column `x_id`. With `out`, the
        rows of each batch are written when the next one is asked for; pass an iterator, so that parts come one by one.
        """
        if self._store is not None:
            for part in parts:
                self._unkept.append(part)
            self._keep()
            frame = self.schema.validate(self._store.read())
        else:
            frame = self._frame(list(parts))
        # They are not kept with the rows: a call with other columns of one's own finds the same rows.
        frame = self._with_columns_of_texts(frame)
        return attach(frame, self.provenance() | {"seconds": round(time.monotonic() - self._started, 3)})

    def _keep(self) -> None:
        """Write the rows of the batches that are complete, under a name that their prompts decide."""
        if self._store is not None and self._unkept:
            frame = self._frame(self._unkept)
            self._store.write(hash_of({"prompts": frame["prompt_id"].unique().tolist()}), frame)
            self._unkept.clear()

    def _frame(self, parts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        if not parts:
            raise InputError("this run produced no rows; check positions=, layers= and the texts.")
        parts = [broadcast(self.schema, part) for part in parts]
        values: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if self._by_prompt and (np.diff(values["prompt_id"]) < 0).any():
            order = np.argsort(values["prompt_id"], kind="stable")
            values = {name: value[order] for name, value in values.items()}
        values |= {"model": self.subject.name, "run_id": self.run_id}
        for column in self.schema.columns:
            if column.kind == "str" and column.name not in values and f"{column.name}_id" in values:
                values[column.name] = self._strings(values[f"{column.name}_id"])
        return self.schema.validate(build(self.schema, values))

    def _strings(self, ids: np.ndarray) -> Any:
        """Return the strings of token ids [rows]; missing for those below 0."""
        place, distinct = pd.factorize(ids)
        known = distinct >= 0
        strings = pd.array(self.subject.token_strings[distinct[known]], dtype="str")
        return strings.take(np.where(known, np.cumsum(known) - 1, -1)[place], allow_fill=True)

    def _with_columns_of_texts(self, frame: pd.DataFrame) -> pd.DataFrame:
        if self._by_prompt and len(self.tokens.table.columns) > 1:
            extra = self.tokens.table.set_index("prompt_id")
            # Rows without a prompt get missing values in the user's columns.
            frame = pd.concat([frame, extra.reindex(frame["prompt_id"]).reset_index(drop=True)], axis=1)
        return frame

    def provenance(self) -> dict[str, Any]:
        """Return everything needed to repeat the run, in JSON types."""
        parameters = self.identity["parameters"] | dict.fromkeys(_absent(self.parameters))
        return (
            {"run_id": self.run_id}
            | self.identity
            | {"parameters": parameters}
            | _token_facts(self._tokens)
            | {
                "paper": self.schema.paper,
                "weights": self.subject.backend.weights,
                **({"form": dict(self.subject.backend.form)} if self.subject.backend.form else {}),
                **({"loaded_with": dict(loaded_with)} if (loaded_with := self.subject.backend.loaded_with) else {}),
                **({"trust_remote_code": True} if self.subject.backend.trusted else {}),
                **({"origin": dict(self.subject.backend.origin)} if self.subject.backend.origin else {}),
                "versions": dict(versions()),
                "code_digest": code_digest_of_probe(self.schema.probe),
                "float32_matmul_precision": matmul_precision(),
                "unknown_code": list(self.subject.unknown_code),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )


@checked
def run_id(
    schema: Schema, subject: Subject, tokens: Tokens | None, parameters: Mapping[str, Any], seed: int | None = None
) -> str:
    """Return the id that a `Run` with these arguments would have, without creating one."""
    return hash_of(identity_of(schema, subject, tokens, parameters, seed, subject.edits))


@checked
def kept_as(run_id: str, subject: Subject, schema: Schema) -> str:
    """Return the name under which results are kept: other code, versions, precision or token strings give another.

    Args:
        run_id: of the run.
        subject: the model. If code runs in it that cannot be identified, each call gives another name, with a warning:
            its results are not found again.
        schema: of the probe.
    """
    if unknown := subject.unknown_code:
        warn(
            f"code that interp cannot identify runs in {subject.name!r} (at {', '.join(unknown[:3])}), so "
            "what is kept in out= is not found again, and an interrupted run starts anew; load the model without it.",
        )
        return f"{run_id}-{uuid.uuid4().hex[:12]}"
    strings = hashlib.sha256("\0".join(subject.token_strings.tolist()).encode("utf-8", "surrogatepass")).hexdigest()
    code = code_digest_of_probe(schema.probe)
    return f"{run_id}-{hash_of({'code': code, 'token_strings': strings, 'matmul': matmul_precision()})}"


def identity_of(
    schema: Schema,
    subject: Subject,
    tokens: Tokens | None,
    parameters: Mapping[str, Any],
    seed: int | None,
    edits: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Collect everything that decides a run's numbers, in JSON types."""
    absent = _absent(parameters)
    parameters = {name: value for name, value in parameters.items() if name not in absent}
    return {
        "probe": schema.probe,
        "model": subject.name,
        "backend": subject.backend.kind,
        "device": str(subject.device),
        "parameters": json.loads(json.dumps(dict(parameters), default=_to_json)),
        "fingerprint": subject.fingerprint,
        "dtype": str(subject.dtype).removeprefix("torch."),
        "data_sha256": None if tokens is None else tokens.digest,
        "seed": seed,
        "edits": json.loads(json.dumps(edits, default=_to_json)),
    }


def _absent(parameters: Mapping[str, Any]) -> list[str]:
    """Return the parameters that are in the provenance but do not decide an id, which is older than they are."""
    return [name for name in _ADDED if name in parameters and parameters[name] is None]


@checked
def in_batches(tokens: Tokens, max_tokens: int, label: str, *, skip: Collection[int] = ()) -> Iterator[Batch]:
    """Yield batches of at most `max_tokens` padded tokens, with a progress bar if there is more than one."""
    batches = list(tokens.batches(max_tokens, skip))
    total = sum(int(batch.lengths.sum()) for batch in batches)
    with progress_bar(total, "token", label, n_steps=len(batches)) as bar:
        for batch in batches:
            yield batch
            bar.update(int(batch.lengths.sum()))


def _token_facts(tokens: Tokens | None) -> dict[str, Any]:
    if tokens is None:
        return {}
    return {
        "bos": tokens.bos,
        "n_prompts": len(tokens),
        "n_tokens": sum(len(ids) for ids in tokens.ids),
        "n_tokens_cut": int(tokens.n_cut.sum()),
        **({} if tokens.chat is None else {"chat": dict(tokens.chat)}),
    }


def _to_json(value: Any) -> Any:
    """Convert arrays, sets and ranges to JSON types, and anything else to text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return list(value) if isinstance(value, set | frozenset | range) else str(value)
