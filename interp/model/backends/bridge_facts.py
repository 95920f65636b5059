"""A model's shape and its final norm, read from a bridge."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources.native.model import NativeModel

from interp.model.backends import structure
from interp.model.backends.base import Facts
from interp.model.backends.names import FINAL_NORMS
from interp.model.backends.parts import beside_blocks
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
        d_embedding=matrix_shape(bridge.embed.original_component)[0],
        n_ctx=int(config.n_ctx) if isinstance(source, NativeModel) else structure.context_length(source.config),
    )


def final_norm(bridge: TransformerBridge) -> Callable[[Tensor], Tensor]:
    """Return the norm before the unembedding, or the identity if there is none.

    TransformerLens 4.3 leaves out that of an OPT with a projection after it.
    """
    if hasattr(bridge, "ln_final"):
        return bridge.ln_final
    source = bridge.original_model
    path = None if isinstance(source, NativeModel) else beside_blocks(source, FINAL_NORMS)
    return nn.Identity() if path is None else source.get_submodule(path)
