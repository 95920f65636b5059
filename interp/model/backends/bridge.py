"""The TransformerLens backend: a `TransformerBridge`, raw weights, nothing folded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
from transformer_lens.model_bridge.sources.native.model import NativeModel

from interp.errors import ModelError
from interp.model.backends import bridge_sites, matrices, structure
from interp.model.backends.alternative import nnsight_instead
from interp.model.backends.arguments import Growth
from interp.model.backends.bridge_facts import facts_of_bridge, final_norm
from interp.model.backends.drawing import portable_draws
from interp.model.backends.effective import (
    StoredForm,
    effective_bias,
    effective_weight,
    is_exact,
    is_ordinary,
    require_drawable,
)
from interp.model.backends.sharing import shared_copy
from interp.model.head import Head
from interp.model.sites import Site, SiteName
from interp.model.tape import Call, HeadReached, Tape, leaving
from interp.model.weights import WeightMatrix

T = TypeVar("T")

# The module of the hooks with which a bridge passes values to its own hook points; they change nothing.
_OWN_WIRING = "transformer_lens.model_bridge."


class BridgeBackend(StoredForm):
    """A model run through a `TransformerBridge`."""

    kind, remote, _rebuilt = "bridge", False, False

    def __init__(self, bridge: TransformerBridge, name: str, tokenizer: Any = None) -> None:
        if not hasattr(bridge, "blocks") or not hasattr(bridge, "unembed"):
            raise ModelError(f"{name!r} has no blocks followed by an unembedding; interp cannot record it.")
        self.bridge = bridge
        self.tokenizer = tokenizer if tokenizer is not None else bridge.tokenizer
        self.facts = facts_of_bridge(bridge, name)
        tree: Any = bridge
        self.original, self.running, self.source = tree, tree, tree.original_model
        self.growth: Sequence[Growth] = ()
        self._modules = list(bridge.modules())  # kept, because listing them takes milliseconds
        self._loaded = structure.weight_versions(self._modules)
        # With a cache, later calls change the recorded keys, so it is off; native models have none.
        self._no_cache = {} if isinstance(bridge.original_model, NativeModel) else {"use_cache": False}

    @classmethod
    def around(cls, model: Any, name: str, tokenizer: Any) -> BridgeBackend:
        """Build a bridge around a Hugging Face model without changing it.

        A bridge moves the modules it wraps, so it gets a copy of the module tree; the tensors are shared.
        """
        shared: Any = shared_copy(model)
        architecture = type(model).__name__
        try:
            # Without the tokenizer: a bridge would set special tokens and padding side on the user's object.
            bridge = build_bridge_from_module(shared, architecture, hf_config=shared.config)
        except Exception as error:  # TransformerLens can raise anything on an unknown architecture
            raise ModelError(
                f"TransformerLens cannot build a bridge around {name!r} ({architecture}){nnsight_instead(model, name)}"
            ) from error
        backend = cls(bridge, name, tokenizer)
        # A bridge splits and renames weights: fingerprints and logits are taken from the original model.
        backend.source, backend.original, backend._rebuilt = shared_copy(model), model, True
        return backend

    @property
    def weights(self) -> str:
        """See `Backend.weights`."""
        return "compatibility" if self.bridge.compatibility_mode else "raw"

    @property
    def device(self) -> torch.device:
        """See `Backend.device`."""
        return next(iter(self.bridge.parameters())).device

    def run(self, ids: Tensor, program: Callable[[Tape], T], *, mids: bool, graph: bool = False) -> T:
        """See `Backend.run`."""
        with torch.set_grad_enabled(graph), self._evaluating():
            return program(self._record(ids.to(self.device), mids))

    def next_token_logits(self, ids: Tensor, ends: Tensor, program: Callable[[Tensor], T]) -> T:
        """See `Backend.next_token_logits`; runs the original model, which is faster, while the bridge is unmodified."""
        if self._rebuilt and self._untouched():
            with structure.unembedding_only(ends[:, None], self.source.get_output_embeddings()):
                return program(self._source_logits(ids)[:, 0])
        with structure.unembedding_only(ends[:, None], self.bridge.unembed):
            return program(self.logits(ids)[:, 0])

    def logits(self, ids: Tensor) -> Tensor:
        """See `Backend.logits`."""
        with torch.no_grad(), self._evaluating():
            logits: Tensor = self.bridge(ids.to(self.device), **self._no_cache)
        return logits

    def step(self, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """See `Backend.step`; native models do not cache, and an unmodified bridge leaves it to the original model."""
        if not self._no_cache:
            return self.logits(ids)[:, -1], None
        if self._rebuilt and self._untouched():
            return structure.cached_step(self.source, ids.to(self.device), cache)
        with torch.no_grad(), self._evaluating():
            logits, cache = self.bridge(
                ids.to(self.device), return_type="logits_and_cache", use_cache=True, past_key_values=cache
            )
        return logits[:, -1], cache

    def tree_logits(self, ids: Tensor, above: Tensor, at: Tensor) -> Tensor | None:
        """See `Backend.tree_logits`; only an unmodified bridge leaves it to the original model."""
        runs = self._rebuilt and self._untouched()
        return structure.tree_logits(self.source, ids.to(self.device), above, at) if runs else None

    def original_logits(self, ids: Tensor) -> Tensor | None:
        """See `Backend.original_logits`."""
        return self._source_logits(ids) if self._rebuilt else None

    def alternative(self) -> str:
        """See `Backend.alternative`."""
        return nnsight_instead(self.source, self.facts.name) if self._rebuilt else "."

    def config(self) -> Mapping[str, Any]:
        """See `Backend.config`."""
        if isinstance(self.source, NativeModel):
            named = vars(self.bridge.cfg)
            return {key: value for key, value in named.items() if key not in ("device", "dtype", "model_name", "seed")}
        return structure.deciding_config(self.source.config) | self.form

    def embedding(self) -> Tensor:
        """See `Backend.embedding`."""
        weight = self._matrix(self.bridge.embed, "the embedding", lambda: self.bridge.W_E)
        projection: Any = getattr(self.bridge, "project_in", None)  # OPT-350m's vectors are narrower than its residuals
        if projection is None:
            return weight
        return weight @ self._matrix(projection, "the projection of the embedding", lambda: projection.weight).T

    def unembedding(self) -> tuple[Tensor, Tensor | None]:
        """See `Backend.unembedding`."""
        bias = effective_bias(self.bridge.unembed.original_component)
        weight = self._projected_unembedding if hasattr(self.bridge, "project_out") else self._unprojected()
        return weight.T, bias

    def value_vectors(self, layer: int) -> Tensor:
        """See `Backend.value_vectors`."""
        mlp: Any = getattr(self.bridge.blocks[layer], "mlp", None)
        try:
            return self._matrix(mlp.out, f"the MLP of block {layer}", lambda: mlp.W_out.T).T
        except AttributeError:
            raise ModelError(
                f"block {layer} of {self.facts.name!r} has no single MLP (a mixture of experts?), so no value vectors."
            ) from None

    def weight_matrices(self, layer: int) -> list[WeightMatrix]:
        """See `Backend.weight_matrices`."""
        return matrices.of_bridge(self.bridge.blocks[layer], layer, self.facts.name)

    def site(self, name: SiteName, layer: int) -> Site:
        """See `Backend.site`."""
        return bridge_sites.site(self.bridge, name, layer, self.facts)

    def untrained(self, keep_embeddings: bool) -> Any:
        """See `Backend.untrained`."""
        if not isinstance(self.source, NativeModel):
            require_drawable(self.source, self.facts.name)
            return structure.untrained(self.source, keep_embeddings)
        config = copy.deepcopy(self.bridge.cfg)
        config.seed = None  # a seed would draw the same weights again
        name = str(self.bridge.cfg.model_name)
        with portable_draws():
            fresh = TransformerBridge.boot_native(config, device=self.device, dtype=self.dtype, model_name=name).eval()
        if keep_embeddings:
            pairs = [(one.original_model, one.unembed.original_component) for one in (self.bridge, fresh)]
            structure.copy_embeddings(*pairs)
        return fresh

    def showing_patterns(self) -> AbstractContextManager[None]:
        """See `Backend.showing_patterns`; a bridge always computes them."""
        return nullcontext()

    def _matrix(self, part: Any, what: str, plain: Callable[[], Tensor]) -> Tensor:
        """Return a matrix [out, in]: the bridge's own, or the effective one if it is quantised or adapted."""
        module = getattr(part, "original_component", None)
        if module is None or is_ordinary(module):
            return plain().detach()
        return effective_weight(module, f"{what} of {self.facts.name!r}").to(self.dtype)

    def _source_logits(self, ids: Tensor) -> Tensor:
        with torch.no_grad(), structure.evaluating(self.source):
            logits: Tensor = self.source(ids.to(self.device), **self._no_cache).logits
        return logits

    def _untouched(self) -> bool:
        """Return True if no hook was added and no weight changed, so that the original model gives the same logits."""
        origins = (str(getattr(hook, "__module__", "")) for hook in structure.forward_hooks(self._modules))
        if not all(origin.startswith(_OWN_WIRING) for origin in origins):
            return False
        return structure.weight_versions(self._modules) == self._loaded

    def _evaluating(self) -> Any:
        # Include the wrapped model: a dropout without a bridge component is a module of the wrapped model only.
        return structure.evaluating(self.bridge, self.bridge.original_model)

    def _record(self, ids: Tensor, mids: bool) -> Tape:
        blocks = list(self.bridge.blocks)
        calls: dict[int, Call] = {}
        between: dict[int, Tensor] = {}
        final: list[Tensor] = []

        def keep_call(index: int) -> Callable[..., None]:
            return lambda module, args, kwargs: calls.__setitem__(index, Call(args, kwargs))

        def reach_head(module: Any, args: tuple[Tensor, ...], out: Any) -> None:
            final.append(leaving(out))
            raise HeadReached

        def keep_mid(index: int) -> Callable[..., None]:
            return lambda tensor, hook: between.__setitem__(index, tensor)

        with ExitStack() as hooks:
            for index, block in enumerate(blocks):
                handle = block.register_forward_pre_hook(keep_call(index), with_kwargs=True)
                hooks.callback(handle.remove)
            stop = blocks[-1].register_forward_hook(reach_head)
            hooks.callback(stop.remove)
            if mids:
                names = [(f"blocks.{index}.hook_resid_mid", keep_mid(index)) for index in range(len(blocks))]
                self._require_mids([name for name, _ in names])
                hooks.enter_context(self.bridge.hooks(fwd_hooks=names))
            with suppress(HeadReached):
                self.bridge(ids, **self._no_cache)
        if len(calls) != len(blocks) or not final or (mids and len(between) != len(blocks)):
            raise ModelError(
                f"recording {self.facts.name!r} saw {len(calls)} of {len(blocks)} blocks; it cannot be replayed."
            )
        return Tape(
            calls=[calls[index].growing(self.growth, index) for index in range(len(blocks))],
            last=final[0],
            mids=[between[index] for index in range(len(blocks))] if mids else [],
            blocks=blocks,
            head=self._head(final_norm(self.bridge)),
            raw_head=self._head(lambda residual: residual),
        )

    def _head(self, norm: Callable[[Tensor], Tensor]) -> Head:
        bridge, transform = self.bridge, self.bridge.adapter.apply_output_logits_transform

        def whole(residual: Tensor) -> Tensor:
            normed = norm(residual)
            projected = bridge.project_out(normed) if hasattr(bridge, "project_out") else normed
            return transform(bridge.unembed(projected))

        if not is_exact(bridge.unembed.original_component):
            return Head(whole)
        weight, bias = self.unembedding()
        return Head(whole, weight.T, bias, norm, transform)

    @cached_property
    def _projected_unembedding(self) -> Tensor:
        projection = self.bridge.project_out
        matrix = self._matrix(projection, "the projection before the unembedding", lambda: projection.weight)
        return self._unprojected() @ matrix

    def _unprojected(self) -> Tensor:
        head = self.bridge.unembed.original_component
        return self.bridge.W_U.T.detach() if is_ordinary(head) else self.unembedding_of(head)

    def _require_mids(self, names: list[str]) -> None:
        missing = [name for name in names if name not in self.bridge.hook_dict]
        if missing:
            raise ModelError(
                f"{self.facts.name!r} has no residual between attention and MLP (no {missing[0]}: its parts run in "
                "parallel); pass sublayers=False."
            )
