"""The nnsight backend: recording and replay inside a trace, which can run on another machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Any, TypeVar

import nnsight
import torch
from nnsight import Envoy, NNsight, TransformersModel
from torch import Tensor, nn

from interp.errors import ModelError
from interp.model.backends.arguments import Growth
from interp.model.backends.effective import StoredForm, effective_bias, effective_weight, is_exact, require_drawable
from interp.model.backends.huggingface_sites import site as site_of
from interp.model.backends.matrices import of_huggingface

# Import by name: a module named in a program is pickled whole, with its loader, when the program is sent away.
from interp.model.backends.names import FINAL_NORMS, PROJECTIONS_IN, PROJECTIONS_OUT
from interp.model.backends.parts import (
    beside_blocks,
    down_projection,
    eager_attention,
    facts_of,
    head_path,
    layer_list,
    mid_reader,
    output_transform,
    part_of,
    projected,
    tag_modules,
    through,
)
from interp.model.backends.sharing import shared_copy
from interp.model.backends.structure import (
    cached_step,
    deciding_config,
    evaluating,
    require_causal,
    tree_logits,
    unembedding_only,
    untrained,
)
from interp.model.head import Head
from interp.model.sites import Site, SiteName, arrived, edited_in, going, tell
from interp.model.tape import Call, HeadReached, Tape, leaving, leaving_hooks
from interp.model.weights import WeightMatrix

T = TypeVar("T")


class NNsightBackend(StoredForm):
    """A model run through nnsight; with `remote` every program runs on the model's machine."""

    kind = "nnsight"

    def __init__(self, model: Envoy, name: str, tokenizer: Any = None, *, remote: bool = False) -> None:
        if remote:
            require_key()
        if not remote and not getattr(model, "dispatched", True):
            model.dispatch()  # loads the weights, as the first trace would; until then nnsight has only shapes
        self.model = model
        self.remote = remote
        self.sent: list[Any] = []  # see `Site.sent`
        self.growth: Sequence[Growth] = ()
        self.tokenizer = tokenizer if tokenizer is not None else getattr(model, "tokenizer", None)
        module = model._module
        if getattr(module, "config", None) is None:
            raise ModelError(
                f"nnsight holds a {type(module).__name__} without a Hugging Face config; interp cannot read it."
            )
        require_causal(module.config, name)
        self.facts = facts_of(module, name)
        self._module = module
        self.original: nn.Module = module
        self.running: nn.Module = module
        self.source: nn.Module = module
        self._blocks = list(part_of(model, layer_list(module)[0]))
        norm, projection = beside_blocks(module, FINAL_NORMS), beside_blocks(module, PROJECTIONS_OUT)
        self._norm = [] if norm is None else [part_of(model, norm)]
        # OPT-350m's embedding is narrower than its residual stream.
        self._head = [part_of(model, path) for path in (projection, head_path(module)) if path is not None]
        self._transform = output_transform(module.config)
        self._projected: Tensor | None = None
        if remote:
            tag_modules(model)

    @classmethod
    def around(cls, model: Any, name: str, tokenizer: Any) -> NNsightBackend:
        """Wrap a Hugging Face model without changing it.

        nnsight permanently replaces the `forward` of every module it wraps, so it gets a copy of the module tree; the
        tensors are shared.
        """
        backend = cls(NNsight(shared_copy(model)), name, tokenizer)
        backend.original = model
        return backend

    @classmethod
    def on_ndif(
        cls, hub_id: str, name: str, tokenizer: Any, revision: str | None, *, trusted: bool = False
    ) -> NNsightBackend:
        """Return a backend for a model deployed on NDIF, without local weights."""
        require_key()
        # Name the tokenizer: nnsight 0.8 does not find it by itself with transformers 5.
        model = TransformersModel(
            hub_id, revision=revision, task="text-generation", tokenizer=tokenizer or hub_id, trust_remote_code=trusted
        )
        return cls(model, name, tokenizer, remote=True)

    @property
    def weights(self) -> str:
        """See `Backend.weights`."""
        return "raw"

    @property
    def device(self) -> torch.device:
        """See `Backend.device`."""
        return torch.device("cpu") if self.remote else next(self._module.parameters()).device

    def run(self, ids: Tensor, program: Callable[[Tape], T], *, mids: bool, graph: bool = False) -> T:
        """See `Backend.run`."""
        if graph:
            return self._run_with_graph(ids, program)
        read_mid, growth = mid_reader(self._module) if mids else "", self.growth
        following, sent = [*self._norm, *self._head][0], going(self.sent)
        hooked = edited_in([layer_list(self._module)[1][-1]]) or bool(sent)
        with torch.no_grad(), self._evaluating(), self._trace(ids, logits_to_keep=1):
            calls: list[Call] = []
            between: list[Tensor] = []
            with arrived(sent) as passed, leaving_hooks(self._blocks[-1]._module) as left:
                for block in self._blocks:
                    args, kwargs = block.inputs
                    calls.append(Call(args, kwargs).growing(growth, len(calls)))
                    if mids:
                        mid = getattr(block, read_mid).input
                        between.append(mid.reshape(calls[-1].residual.shape))  # OPT flattens batch and position here
                last = leaving(self._blocks[-1].output)
                if hooked:  # nnsight reads a module's output before the hooks that change it
                    following.input  # noqa: B018 (waits until it is reached)
                    last = left[-1]
                heads = [self._read_through(norm) for norm in (self._norm, [])]
                tape = Tape(calls, last, between, self._blocks, *heads)
                with torch.no_grad():  # repeated: only code inside the trace is sent to the model's machine
                    saved = nnsight.save((program(tape), passed))
        tell(sent, saved[1])
        return saved[0]

    def _run_with_graph(self, ids: Tensor, program: Callable[[Tape], T]) -> T:
        """Run without a trace: nnsight's backward pass works by module, and its trace may run under no_grad."""
        if self.remote:
            raise ModelError(f"gradients of {self.facts.name!r} cannot be taken on NDIF; load it without remote=True.")
        module, transform = self._module, self._transform
        norm, projection = beside_blocks(module, FINAL_NORMS), beside_blocks(module, PROJECTIONS_OUT)
        to_logits = [module.get_submodule(path) for path in (projection, head_path(module)) if path is not None]
        norms = [] if norm is None else [module.get_submodule(norm)]
        final: list[Tensor] = []

        def reach_head(module: Any, args: tuple[Tensor, ...], out: Any) -> None:
            final.append(leaving(out))
            raise HeadReached

        with torch.enable_grad(), self._evaluating():
            with layer_list(module)[1][-1].register_forward_hook(reach_head), suppress(HeadReached):
                module(input_ids=ids.to(self.device), use_cache=False)
            heads = [Head(through([*before, *to_logits, transform])) for before in (norms, [])]
            return program(Tape([], final[0], [], [], *heads))

    def next_token_logits(self, ids: Tensor, ends: Tensor, program: Callable[[Tensor], T]) -> T:
        """See `Backend.next_token_logits`; a remote model records a pass, because the program can be sent with it."""
        if self.remote:
            return self.run(ids, lambda tape: program(tape.head(tape.last[range(len(ends)), ends])), mids=False)
        head = self._module.get_output_embeddings()
        with torch.no_grad(), self._evaluating(), unembedding_only(ends[:, None], head):
            return program(self._module(input_ids=ids.to(self.device), use_cache=False).logits[:, 0])

    def logits(self, ids: Tensor) -> Tensor:
        """See `Backend.logits`."""
        sent = going(self.sent)
        with torch.no_grad(), self._evaluating(), self._trace(ids):  # noqa: SIM117 (what is sent is the trace's body)
            with arrived(sent) as passed:
                saved = nnsight.save((self.model.output.logits, passed))
        tell(sent, saved[1])
        return saved[0]

    def step(self, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """See `Backend.step`; a remote model does not cache, because a cache cannot be sent back and forth."""
        if self.remote:
            return self.logits(ids)[:, -1], None
        return cached_step(self._module, ids.to(self.device), cache)

    def tree_logits(self, ids: Tensor, above: Tensor, at: Tensor) -> Tensor | None:
        """See `Backend.tree_logits`; a remote model takes no mask."""
        return None if self.remote else tree_logits(self._module, ids.to(self.device), above, at)

    def original_logits(self, ids: Tensor) -> Tensor | None:
        """See `Backend.original_logits`."""
        return None

    def alternative(self) -> str:
        """See `Backend.alternative`; nnsight runs a model as it is, so no other would do better."""
        return "."

    def config(self) -> Mapping[str, Any]:
        """See `Backend.config`."""
        return deciding_config(self._module.config) | self.form

    def embedding(self) -> Tensor:
        """See `Backend.embedding`."""
        return projected(
            self._matrix(self._module.get_input_embeddings(), "the embedding"), self._module, PROJECTIONS_IN
        )

    def unembedding(self) -> tuple[Tensor, Tensor | None]:
        """See `Backend.unembedding`."""
        head = self._module.get_output_embeddings()
        bias = effective_bias(head)
        weight = self._here(self.unembedding_of(head)) if len(self._head) == 1 else self._projected_unembedding()
        return weight.T, None if bias is None else self._here(bias)

    def value_vectors(self, layer: int) -> Tensor:
        """See `Backend.value_vectors`."""
        return self._matrix(down_projection(layer_list(self._module)[1][layer]), f"the MLP of block {layer}").T

    def weight_matrices(self, layer: int) -> list[WeightMatrix]:
        """See `Backend.weight_matrices`."""
        if self.remote:
            raise ModelError(f"the weights of {self.facts.name!r} are on NDIF: load it without remote=True.")
        return of_huggingface(self._module, layer)

    def site(self, name: SiteName, layer: int) -> Site:
        """See `Backend.site`."""
        if not self.remote:
            return site_of(self._module, name, layer)
        tag_modules(self.model)
        return replace(site_of(self.model._module, name, layer), sent=self.sent)

    def untrained(self, keep_embeddings: bool) -> Any:
        """See `Backend.untrained`."""
        if self.remote:
            raise ModelError(f"{self.facts.name!r} is on NDIF; load it without remote=True to draw its weights anew.")
        require_drawable(self._module, self.facts.name)
        return untrained(self._module, keep_embeddings)

    def showing_patterns(self) -> AbstractContextManager[None]:
        """See `Backend.showing_patterns`."""
        return nullcontext() if self.remote else eager_attention(self._module)

    def _read_through(self, norm: Sequence[Callable[[Tensor], Tensor]]) -> Head:
        whole = through([*norm, *self._head, self._transform])
        if self.remote or not is_exact(self._module.get_output_embeddings()):
            return Head(whole)
        weight, bias = self.unembedding()
        return Head(whole, weight.T, bias, through(norm), self._transform)

    def _projected_unembedding(self) -> Tensor:
        if self._projected is None:  # not a `cached_property`: its lock cannot be sent away with the class
            weight = self._here(self.unembedding_of(self._module.get_output_embeddings()))
            self._projected = projected(weight, self._module, PROJECTIONS_OUT)
        return self._projected

    def _trace(self, ids: Tensor, **options: Any) -> Any:
        if self.remote:
            options["remote"] = self.remote
        ids = ids.to(self.device)
        # Pass a mask: without one nnsight treats ids equal to the padding token as padding.
        return self.model.trace(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **options)

    def _evaluating(self) -> Any:
        return nullcontext() if self.remote else evaluating(self._module)

    def _matrix(self, module: Any, what: str) -> Tensor:
        return self._here(effective_weight(module, f"{what} of {self.facts.name!r}").to(self.dtype))

    def _here(self, weight: Tensor) -> Tensor:
        if weight.is_meta:
            raise ModelError(
                f"the weights of {self.facts.name!r} are on NDIF: load it without remote=True to read them."
            )
        return weight.detach()


def require_key() -> None:
    """Refuse to run remotely without an NDIF API key."""
    if not nnsight.CONFIG.API.APIKEY:
        raise ModelError(
            "remote=True runs on NDIF, which needs an API key (nnsight.CONFIG.set_default_api_key) and a model that is "
            "deployed there, given by its hub id."
        )
