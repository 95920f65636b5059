"""A model's shape, read from a bridge."""

from __future__ import annotations

from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources.native.model import NativeModel

from interp.model.backends import structure
from interp.model.backends.base import Facts
from interp.model.weights import matrix_shape


def facts_of_bridge(bridge: TransformerBridge, name: str) -> Facts:
    """Read a model's shape from the modules of its bridge and its config."""
    config, source = bridge.cfg, bridge.original_model
    try:
        d_mlp = matrix_shape(bridge.blocks[0].mlp.out.original_component)[1]
    except AttributeError:  # no MLP, or experts
        d_mlp = config.d_mlp or 0
    return Facts(
        name=name,
        architecture=str(config.architecture),
        n_layers=len(bridge.blocks),
        n_heads=int(config.n_heads),
        d_model=int(config.d_model),
        d_mlp=int(d_mlp),
        d_vocab=matrix_shape(bridge.unembed.original_component)[0],
        n_ctx=int(config.n_ctx) if isinstance(source, NativeModel) else structure.context_length(source.config),
    )
