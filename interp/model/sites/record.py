"""Record the values of sites in one pass over texts, as arrays with one row for each token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.errors import InputError, ModelError
from interp.model.positions import ChosenPositions, Layers, Positions, layers_of, positions_of, select_positions
from interp.model.sites.hooks import recording
from interp.model.sites.site import OF_KEYS, Site, SiteName, width_of
from interp.model.tape import Tape
from interp.model.texts.strings import TokenStrings
from interp.model.tokens import Batch, Texts, Tokens
from interp.options import options

_WITHOUT_LAYER = ("embed",)


class Recordable(Protocol):
    """A model whose sites can be recorded; a `Subject` is one."""

    name: str
    n_layers: int
    n_heads: int
    d_model: int
    d_mlp: int

    @property
    def token_strings(self) -> TokenStrings:
        """See `Subject.token_strings`."""

    def tokens(self, texts: Texts, *, bos: bool | None = None, truncate: bool | None = False) -> Tokens:
        """See `Subject.tokens`."""

    def site(self, name: SiteName, layer: int = 0) -> Site:
        """See `Subject.site`."""

    def run(self, ids: Tensor, program: Callable[[Tape], Any]) -> Any:
        """See `Subject.run`."""

    def batch_tokens(self, states_per_layer: float = 1) -> int:
        """See `interp.model.memory.batch_tokens`."""

    def showing_patterns(self) -> AbstractContextManager[None]:
        """See `Subject.showing_patterns`."""


@dataclass(frozen=True, eq=False)
class Recorded(Mapping[str, np.ndarray]):
    """The values of sites at the tokens of texts: a mapping from a site's name to its array.

    Attributes:
        rows: one row for each token, in the order of the arrays: `prompt_id`, `pos`, `token_id`, `token`.
        layers: the blocks, in the order of the arrays.
        arrays: float32 [layer, row, ...], the rest as in `interp.model.sites`; `embed` has no layer, [row,
            d_model]. `pattern` and `scores` are [layer, row, head, key], the row being the query; after a text's end
            they are 0 and -inf.
    """

    rows: pd.DataFrame
    layers: Sequence[int]
    arrays: Mapping[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {list(value.shape)}" for name, value in self.arrays.items())
        return f"Recorded({shapes}; {len(self.rows)} rows, layers {list(self.layers)})"


def record(
    subject: Recordable,
    texts: Texts,
    sites: SiteName | Sequence[SiteName],
    *,
    layers: Layers = None,
    positions: Positions = None,
    bos: bool | None = None,
    truncate: bool = False,
) -> Recorded:
    """Return the values of sites at every token of texts, or at some positions, from one pass over them.

    Args:
        subject: the model, whose method this is.
        texts: see `interp.model.tokens.Texts`.
        sites: one name or several, see `interp.model.sites`.
        layers: blocks, 0 to n_layers - 1; negative ones count from the last, None means all.
        positions: of every text, 0 being the start-of-text token if there is one, -1 the last; a token's string means
            every place where it stands; None means all.
        bos: see `Subject.tokens`.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        A `Recorded`: `recorded["resid_post"]` is a float32 array [layer, row, d_model], and `recorded.rows` says which
        token of which text each row is. Inside `Subject.edited` the values are those of the edited model.

    Raises:
        UnknownName: there is no such site.
        InputError: no site, no such layer or position, or more values than `interp.options.memory` holds.
        ModelError: the architecture does not show a site, or its blocks differ in the site's shape.

    >>> from interp import load
    >>> recorded = load("reference").record(["The cat sat.", "A dog ran."], ["resid_post", "neurons"], layers=[0, -1])
    >>> recorded["resid_post"].shape, list(recorded.layers), list(recorded.rows["token"][:3])
    ((2, 10, 256), [0, 7], ['<|endoftext|>', 'The', ' cat'])
    """
    names = _names(sites)
    chosen = layers_of(layers, subject.n_layers - 1, subject.name)
    tokens = subject.tokens(texts, bos=bos, truncate=truncate)
    asked = positions_of(subject, tokens, positions)
    longest = max(map(len, tokens.ids))
    keys = [(name, layer) for name in names for layer in ([0] if name in _WITHOUT_LAYER else chosen)]
    rows, place = _rows(subject, tokens, asked)
    per_row = sum(width_of(subject, name, longest) for name, _ in keys)
    _require_memory(4 * per_row * len(rows), names)
    wanted = [subject.site(*key) for key in keys]
    values: dict[str, np.ndarray] = {}
    with ExitStack() as stack:
        if any(name in OF_KEYS for name in names):
            stack.enter_context(subject.showing_patterns())
        for batch in tokens.batches(subject.batch_tokens(1 + per_row / subject.d_model / subject.n_layers)):
            row, pos = select_positions(batch, asked)
            into = place[batch.prompts[row].numpy(), pos.numpy()]
            with recording(wanted) as seen:
                subject.run(batch.ids, _nothing)
            for (name, layer), value in zip(keys, seen, strict=True):
                at = None if name in _WITHOUT_LAYER else chosen.index(layer)
                found = _at(value, batch, row, pos, name)
                _store(values, name, found, (at, into), (len(chosen), len(rows)), longest)
    return Recorded(rows, chosen, {name: values[name] for name in names})


def _names(sites: SiteName | Sequence[SiteName]) -> list[SiteName]:
    names: list[SiteName] = [sites] if isinstance(sites, str) else list(dict.fromkeys(sites))  # type: ignore[list-item]
    if not names:
        raise InputError(f"sites is empty; name at least one of {', '.join(get_args(SiteName))}.")
    return names


def _rows(subject: Recordable, tokens: Tokens, asked: ChosenPositions | None) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the rows of a recording, and the number of the row of a text's position, int64 [prompt, pos]."""
    whole = Batch(
        torch.nn.utils.rnn.pad_sequence(tokens.ids, batch_first=True),
        torch.tensor([len(ids) for ids in tokens.ids]),
        torch.arange(len(tokens)),
    )
    row, pos = select_positions(whole, asked)
    token_id = whole.ids[row, pos].numpy()
    prompt_id = tokens.table["prompt_id"].to_numpy()[row.numpy()]
    token = subject.token_strings[token_id]
    place = np.zeros(tuple(whole.ids.shape), dtype=np.int64)
    place[row.numpy(), pos.numpy()] = np.arange(len(row))
    return pd.DataFrame({"prompt_id": prompt_id, "pos": pos.numpy(), "token_id": token_id, "token": token}), place


def _require_memory(n_bytes: int, names: Sequence[str]) -> None:
    if n_bytes > options.available:
        raise InputError(
            f"{', '.join(names)} of these texts take {n_bytes / 2**20:,.0f} MiB, and interp.options.memory leaves "
            f"{options.available / 2**20:,.0f}; choose fewer by layers= or positions=, or raise it."
        )


def _nothing(tape: Tape) -> int:
    return 0


def _at(value: Tensor | None, batch: Batch, row: Tensor, pos: Tensor, name: str) -> np.ndarray:
    """Return the values at positions, [n, ...]."""
    assert value is not None
    if name in OF_KEYS:
        value = value.transpose(1, 2)  # [batch, query, head, key]
    found: np.ndarray = value[row.to(value.device), pos.to(value.device)].detach().float().cpu().numpy()
    return found


def _store(
    values: dict[str, np.ndarray],
    name: str,
    found: np.ndarray,
    at: tuple[int | None, np.ndarray],
    size: tuple[int, int],
    longest: int,
) -> None:
    layer, into = at
    shape = (*found.shape[1:-1], longest) if name in OF_KEYS else found.shape[1:]
    if name not in values:
        whole = (size[1], *shape) if layer is None else (*size, *shape)
        values[name] = np.full(whole, OF_KEYS.get(name, 0.0), dtype=np.float32)
    target = values[name] if layer is None else values[name][layer]
    if target.shape[1:] != shape:
        raise ModelError(
            f"{name} is {list(shape)} in one block and {list(target.shape[1:])} in another; record blocks of one shape "
            "at a time by layers=."
        )
    target[into, ..., : found.shape[-1]] = found
