"""What a backend gives a `Subject`: a recorded pass to run a program on, the weights, and facts about the model.

`bridge.py` (TransformerLens) and `nnsight.py` are the only files that know either library's classes. Neither is
imported before a model of its kind is loaded: importing nnsight changes every Python object, and TransformerLens takes
seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from interp.model.sites import Site, SiteName
from interp.model.tape import Tape
from interp.model.weights import WeightMatrix

T = TypeVar("T")


@dataclass(frozen=True)
class Facts:
    """The shape of a model, under the names of the field."""

    name: str
    architecture: str
    n_layers: int
    n_heads: int
    d_model: int
    d_mlp: int
    d_vocab: int
    n_ctx: int


class Backend(Protocol):
    """One library's way of running a model."""

    kind: str
    facts: Facts
    tokenizer: Any

    @property
    def weights(self) -> str:
        """Whether they are "raw", or "compatibility" for a bridge its owner put into that mode."""

    @property
    def device(self) -> torch.device:
        """Where ids go."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""

    def run(self, ids: Tensor, program: Callable[[Tape], T], *, mids: bool, graph: bool = False) -> T:
        """Record a clean pass over ids [batch, pos] and return what `program` makes of the tape.

        With `graph` the tape's residuals carry their autograd graph, and the pass runs here, not in a trace.
        """

    def next_token_logits(self, ids: Tensor, ends: Tensor, program: Callable[[Tensor], T]) -> T:
        """What `program` makes of the model's own logits [batch, d_vocab] after position ends [batch] of each row.

        Nothing is recorded, and nothing else is unembedded.
        """

    def logits(self, ids: Tensor) -> Tensor:
        """The model's own logits [batch, pos, d_vocab], nothing of ours in between."""

    def original_logits(self, ids: Tensor) -> Tensor | None:
        """The logits before the library rebuilt the model, or None where it runs it as it is."""

    def step(self, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Logits after the last of ids [batch, pos], [batch, d_vocab], and the cache to hand in with what follows.

        With a cache, `ids` are those after it alone. None for a cache means that none is kept: `ids` are the whole
        text then, every time.
        """

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter once."""

    def config(self) -> Mapping[str, Any]:
        """What decides the numbers beside the weights."""

    def embedding(self) -> Tensor:
        """W_E, [d_vocab, d_model]."""

    def unembedding(self) -> tuple[Tensor, Tensor | None]:
        """W_U [d_model, d_vocab] and b_U [d_vocab], or None where the head has no bias."""

    def value_vectors(self, layer: int) -> Tensor:
        """What each neuron of a block's MLP writes, [d_mlp, d_model]."""

    def weight_matrices(self, layer: int) -> list[WeightMatrix]:
        """Every weight matrix of a block's attention and MLP, in the order of `interp.model.weights.COMPONENTS`."""

    def site(self, name: SiteName, layer: int) -> Site:
        """Where a value can be read or changed; `layer` is ignored for "embed"."""

    def untrained(self, keep_embeddings: bool) -> Any:
        """A live model of the same make, its weights drawn anew from torch's global generator; see `random_model`."""

    def showing_patterns(self) -> AbstractContextManager[None]:
        """Passes within it compute attention patterns one can see."""
