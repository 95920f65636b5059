"""The interface of a backend: recorded forward passes, the weights, and facts about the model.

Only `bridge.py` (TransformerLens) and `nnsight.py` know the classes of these libraries. Each is imported only when a
model of its kind is loaded: importing nnsight changes every Python object, and TransformerLens takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from interp.model.backends.arguments import Growth
from interp.model.sites import Site, SiteName
from interp.model.tape import Tape
from interp.model.weights import WeightMatrix

T = TypeVar("T")


@dataclass(frozen=True)
class Facts:
    """A model's name, architecture and shape; it predicts `d_vocab` tokens, and embeds `d_embedding`."""

    name: str
    architecture: str
    n_layers: int
    n_heads: int
    d_model: int
    d_mlp: int
    d_vocab: int
    d_embedding: int
    n_ctx: int

    @property
    def n_ids(self) -> int:
        """Number of token ids that a text may hold: those that the model both embeds and predicts."""
        return min(self.d_vocab, self.d_embedding)

    def trial_ids(self) -> Tensor:
        """Return two short prompts on which a model is tried, int64 [2, pos]."""
        return torch.arange(min(8, self.n_ctx)).remainder(self.n_ids).expand(2, -1)


class Backend(Protocol):
    """A library that runs a model."""

    kind: str
    facts: Facts
    tokenizer: Any
    remote: bool
    trusted: bool
    """Whether code that came with the model may run, by the user's own word."""
    origin: Mapping[str, Any]
    """Origin of the weights, as JSON: a GGUF file; empty for weights that were read as they are."""
    loaded_with: Mapping[str, Any]
    """A device map and other options that the user loaded the model with, as JSON; empty for most."""
    growth: Sequence[Growth]
    """How the arguments of each block grow with the batch; empty until `interp.model.verification` learned it."""
    original: nn.Module
    """The model as its owner holds it."""
    running: nn.Module
    """The modules that run: the original, or a copy of its modules that shares its tensors."""
    source: nn.Module
    """The model of `named_weights` in its own class, taken apart if its owner gave a bridge."""

    @property
    def weights(self) -> str:
        """Either "raw", or "compatibility" for a bridge that its owner put into that mode."""

    @property
    def form(self) -> Mapping[str, Any]:
        """What is quantised or adapted in the model, as JSON; empty for plain weights."""

    @property
    def device(self) -> torch.device:
        """The device for token ids."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""

    def run(self, ids: Tensor, program: Callable[[Tape], T], *, mids: bool, graph: bool = False) -> T:
        """Record a clean forward pass over ids [batch, pos] and return `program(tape)`.

        With `graph` the tape's residuals carry their autograd graph, and the pass runs locally, not in a trace.
        """

    def next_token_logits(self, ids: Tensor, ends: Tensor, program: Callable[[Tensor], T]) -> T:
        """Return `program(logits)` for the model's own logits [batch, d_vocab] after position ends [batch] of each row.

        Nothing is recorded, and no other position is unembedded.
        """

    def logits(self, ids: Tensor) -> Tensor:
        """Return the logits of the unmodified model, [batch, pos, d_vocab]."""

    def original_logits(self, ids: Tensor) -> Tensor | None:
        """Return the logits of the model before the library rebuilt it; None if the library runs it unchanged."""

    def step(self, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Return the logits [batch, d_vocab] after the last of ids [batch, pos], and the cache for the next step.

        With a cache, pass only the new tokens. If the returned cache is None, this backend does not cache: pass the
        whole text each time.
        """

    def tree_logits(self, ids: Tensor, above: Tensor, at: Tensor) -> Tensor | None:
        """Return the logits after some tokens of a tree of texts in one pass, [n, d_vocab]; None if it cannot be run.

        Not every model is exact so, see `interp.model.prefixes.tree`.

        Args:
            ids: all tokens, each behind the one that it follows, int64 [pos].
            above: which tokens each follows, itself among them, bool [pos, pos].
            at: the tokens after which logits are wanted, int64 [n].
        """

    def alternative(self) -> str:
        """Return the end of an error message about this backend: to use another one where that can run the model."""

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every parameter once."""

    def config(self) -> Mapping[str, Any]:
        """Return the config values that can change the outputs."""

    def embedding(self) -> Tensor:
        """Return W_E, [d_vocab, d_model]."""

    def unembedding(self) -> tuple[Tensor, Tensor | None]:
        """Return W_U [d_model, d_vocab], and b_U [d_vocab] or None if the head has no bias."""

    def value_vectors(self, layer: int) -> Tensor:
        """Return the output vector of each neuron of a block's MLP, [d_mlp, d_model]."""

    def weight_matrices(self, layer: int) -> list[WeightMatrix]:
        """Return the weight matrices of a block, in the order of `interp.model.weights.COMPONENTS`."""

    def site(self, name: SiteName, layer: int) -> Site:
        """Return the site of a value, to read or change it; `layer` is ignored for "embed"."""

    def untrained(self, keep_embeddings: bool) -> Any:
        """Return a live model of the same class, its weights drawn by torch's global generator; see `random_model`."""

    def showing_patterns(self) -> AbstractContextManager[None]:
        """Make forward passes inside the `with` block compute attention patterns that a site can read."""
