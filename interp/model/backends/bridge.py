"""The TransformerLens backend: a `TransformerBridge`, raw weights, nothing folded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
from transformer_lens.model_bridge.sources.native.model import NativeModel

from interp.errors import ModelError
from interp.model.backends import matrices, structure
from interp.model.backends.arguments import Growth
from interp.model.backends.base import Facts
from interp.model.head import Head
from interp.model.sites import Site, SiteName
from interp.model.tape import Call, HeadReached, Tape, leaving
from interp.model.weights import WeightMatrix

T = TypeVar("T")


_HOOKS: dict[SiteName, str] = {
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "neurons": "mlp.out.hook_in",
    "pattern": "attn.hook_pattern",
}
_UNSCALED: dict[SiteName, str] = {"attn_out": "attn", "mlp_out": "mlp"}
# The module of the hooks with which a bridge passes values to its own hook points; they change nothing.
_OWN_WIRING = "transformer_lens.model_bridge."


class BridgeBackend:
    """A model run through a `TransformerBridge`."""

    kind, remote, _rebuilt = "bridge", False, False

    def __init__(self, bridge: TransformerBridge, name: str, tokenizer: Any = None) -> None:
        if not hasattr(bridge, "blocks") or not hasattr(bridge, "unembed"):
            raise ModelError(f"{name!r} has no blocks followed by an unembedding; interp cannot record it.")
        self.bridge = bridge
        self.tokenizer = tokenizer if tokenizer is not None else bridge.tokenizer
        self.facts = _facts(bridge, name)
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
        shared: Any = structure.shared_copy(model)
        architecture = type(model).__name__
        try:
            # Without the tokenizer: a bridge would set special tokens and padding side on the user's object.
            bridge = build_bridge_from_module(shared, architecture, hf_config=shared.config)
        except Exception as error:  # TransformerLens can raise anything on an unknown architecture
            raise ModelError(
                f"TransformerLens cannot build a bridge around {name!r} ({architecture}); try backend='nnsight'."
            ) from error
        backend = cls(bridge, name, tokenizer)
        # A bridge splits and renames weights: fingerprints and logits are taken from the original model.
        backend.source, backend.original, backend._rebuilt = structure.shared_copy(model), model, True
        return backend

    @property
    def weights(self) -> str:
        """See `Backend.weights`."""
        return "compatibility" if self.bridge.compatibility_mode else "raw"

    @property
    def device(self) -> torch.device:
        """See `Backend.device`."""
        return next(iter(self.bridge.parameters())).device

    @property
    def dtype(self) -> torch.dtype:
        """See `Backend.dtype`."""
        return next(iter(self.bridge.parameters())).dtype

    def run(self, ids: Tensor, program: Callable[[Tape], T], *, mids: bool, graph: bool = False) -> T:
        """See `Backend.run`."""
        with torch.set_grad_enabled(graph), self._evaluating():
            return program(self._record(ids.to(self.device), mids))

    def next_token_logits(self, ids: Tensor, ends: Tensor, program: Callable[[Tensor], T]) -> T:
        """See `Backend.next_token_logits`; runs the original model, which is faster, while the bridge is unmodified."""
        if self._rebuilt and self._untouched():
            with structure.unembedding_only(ends, self.source.get_output_embeddings()):
                return program(self._source_logits(ids)[:, 0])
        with structure.unembedding_only(ends, self.bridge.unembed):
            return program(self.logits(ids)[:, 0])

    def logits(self, ids: Tensor) -> Tensor:
        """See `Backend.logits`."""
        with torch.no_grad(), self._evaluating():
            logits: Tensor = self.bridge(ids.to(self.device), **self._no_cache)
        return logits

    def step(self, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """See `Backend.step`; native models do not cache."""
        if not self._no_cache:
            return self.logits(ids)[:, -1], None
        with torch.no_grad(), self._evaluating():
            logits, cache = self.bridge(
                ids.to(self.device), return_type="logits_and_cache", use_cache=True, past_key_values=cache
            )
        return logits[:, -1], cache

    def original_logits(self, ids: Tensor) -> Tensor | None:
        """See `Backend.original_logits`."""
        return self._source_logits(ids) if self._rebuilt else None

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """See `Backend.named_weights`."""
        yield from self.source.named_parameters()

    def config(self) -> Mapping[str, Any]:
        """See `Backend.config`."""
        if isinstance(self.source, NativeModel):
            named = vars(self.bridge.cfg)
            return {key: value for key, value in named.items() if key not in ("device", "dtype", "model_name", "seed")}
        return structure.deciding_config(self.source.config)

    def embedding(self) -> Tensor:
        """See `Backend.embedding`."""
        weight: Tensor = self.bridge.W_E.detach()
        projection = getattr(self.bridge, "project_in", None)  # OPT-350m's vectors are narrower than its residuals
        return weight if projection is None else weight @ projection.weight.detach().T

    def unembedding(self) -> tuple[Tensor, Tensor | None]:
        """See `Backend.unembedding`."""
        bias = getattr(self.bridge.unembed.original_component, "bias", None)
        weight: Tensor = (
            self._projected_unembedding if hasattr(self.bridge, "project_out") else self.bridge.W_U.detach()
        )
        return weight, None if bias is None else bias.detach()

    def value_vectors(self, layer: int) -> Tensor:
        """See `Backend.value_vectors`."""
        try:
            weight: Tensor = self.bridge.blocks[layer].mlp.W_out
        except AttributeError:
            raise ModelError(
                f"block {layer} of {self.facts.name!r} has no single MLP (a mixture of experts?), so no value vectors."
            ) from None
        return weight.detach()

    def weight_matrices(self, layer: int) -> list[WeightMatrix]:
        """See `Backend.weight_matrices`."""
        return matrices.of_bridge(self.bridge.blocks[layer], layer, self.facts.name)

    def site(self, name: SiteName, layer: int) -> Site:
        """See `Backend.site`."""
        if name == "embed":
            embedding = getattr(self.bridge, "project_in", self.bridge.embed)
            scaled = getattr(embedding, "_output_contribution_scale", 1.0) != 1.0  # then only its own hooks fire it
            return Site("the token embedding", embedding if scaled else embedding.hook_out)
        block, scale = self.bridge.blocks[layer], 1.0
        hook = self.bridge.hook_dict.get(f"blocks.{layer}.{_HOOKS[name]}")
        if hook is None:
            raise ModelError(f"block {layer} of {self.facts.name!r} ({self.facts.architecture}) shows no {name}.")
        if name in _UNSCALED and hasattr(block, "residual_contribution_scale"):
            # Nothing but TransformerLens's own hooks fires the hook of the product.
            hook, scale = getattr(block, _UNSCALED[name]).hook_out, block.residual_contribution_scale
        return Site(f"{name} of block {layer}", hook, block=block, scale=scale)

    def untrained(self, keep_embeddings: bool) -> Any:
        """See `Backend.untrained`."""
        if not isinstance(self.source, NativeModel):
            return structure.untrained(self.source, keep_embeddings)
        config = copy.deepcopy(self.bridge.cfg)
        config.seed = None  # a seed would draw the same weights again
        name = str(self.bridge.cfg.model_name)
        fresh = TransformerBridge.boot_native(config, device=self.device, dtype=self.dtype, model_name=name).eval()
        if keep_embeddings:
            pairs = [(one.original_model, one.unembed.original_component) for one in (self.bridge, fresh)]
            structure.copy_embeddings(*pairs)
        return fresh

    def showing_patterns(self) -> AbstractContextManager[None]:
        """See `Backend.showing_patterns`; a bridge always computes them."""
        return nullcontext()

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
            head=self._head(self._norm),
            raw_head=self._head(lambda residual: residual),
        )

    def _norm(self, residual: Tensor) -> Tensor:
        return self.bridge.ln_final(residual) if hasattr(self.bridge, "ln_final") else residual

    def _head(self, norm: Callable[[Tensor], Tensor]) -> Head:
        bridge, transform = self.bridge, self.bridge.adapter.apply_output_logits_transform
        weight, bias = self.unembedding()

        def whole(residual: Tensor) -> Tensor:
            normed = norm(residual)
            projected = bridge.project_out(normed) if hasattr(bridge, "project_out") else normed
            return transform(bridge.unembed(projected))

        return Head(whole, weight.T, bias, norm, transform)

    @cached_property
    def _projected_unembedding(self) -> Tensor:
        projected: Tensor = self.bridge.project_out.weight.detach().T @ self.bridge.W_U.detach()
        return projected

    def _require_mids(self, names: list[str]) -> None:
        missing = [name for name in names if name not in self.bridge.hook_dict]
        if missing:
            raise ModelError(
                f"{self.facts.name!r} has no residual between attention and MLP (no {missing[0]}: its parts run in "
                "parallel); pass sublayers=False."
            )


def _facts(bridge: TransformerBridge, name: str) -> Facts:
    config, source = bridge.cfg, bridge.original_model
    try:
        d_mlp = bridge.blocks[0].mlp.W_out.shape[0]
    except AttributeError:  # no MLP, or experts
        d_mlp = config.d_mlp or 0
    return Facts(
        name=name,
        architecture=str(config.architecture),
        n_layers=len(bridge.blocks),
        n_heads=int(config.n_heads),
        d_model=int(config.d_model),
        d_mlp=int(d_mlp),
        d_vocab=int(bridge.W_U.shape[1]),
        n_ctx=int(config.n_ctx) if isinstance(source, NativeModel) else structure.context_length(source.config),
    )
