"""The weight matrices of a block, including fused and transposed ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from interp.errors import ModelError
from interp.model.backends.effective import require_plain
from interp.model.backends.names import MATRICES, OUT_PROJECTIONS
from interp.model.backends.parts import attention_of, layer_list
from interp.model.weights import COMPONENTS, Component, WeightMatrix, is_transposed, matrix_shape


def of_bridge(block: Any, layer: int, name: str) -> list[WeightMatrix]:
    """Return the weight matrices of a TransformerLens block; the inactive fused `qkv` is skipped."""
    parts = {"attn": COMPONENTS[:4], "mlp": COMPONENTS[4:]}
    found = []
    for part, components in parts.items():
        for component in components:
            linear = getattr(getattr(block, part, None), component.removeprefix("mlp_"), None)
            if linear is not None:
                module = linear.original_component
                found.append(WeightMatrix(layer, component, module, _rows_first(module)))
    return _complete(found, layer, name)


def of_huggingface(model: Any, layer: int) -> list[WeightMatrix]:
    """Return the weight matrices of a Hugging Face model's block."""
    block = layer_list(model)[1][layer]
    attention = attention_of(block)
    found = attention_matrices(model, layer)
    inside = {id(module) for module in attention.modules()} if attention is not None else set()
    linear = {path.rpartition(".")[2]: module for path, module in block.named_modules() if id(module) not in inside}
    for component in COMPONENTS[4:]:
        module = next((linear[name] for name in MATRICES[component] if name in linear), None)
        if module is not None:
            found.append(WeightMatrix(layer, component, module, _rows_first(module)))
    if any("experts" in path for path, _ in block.named_modules()):
        found = []
    return _complete(found, layer, type(model).__name__)


def attention_matrices(model: Any, layer: int) -> list[WeightMatrix]:
    """Return the weight matrices of a block's attention that are found under known names."""
    attention = attention_of(layer_list(model)[1][layer]) or nn.Module()
    inside = {path.rpartition(".")[2]: module for path, module in attention.named_modules()}
    found = _fused(inside, layer, model)
    for component in COMPONENTS[:4]:
        module = next((inside[name] for name in MATRICES[component] if name in inside), None)
        if module is not None:
            found.append(WeightMatrix(layer, component, module, _rows_first(module)))
    return found


def _fused(attention: dict[str, nn.Module], layer: int, model: Any) -> list[WeightMatrix]:
    """Return queries, keys and values of one parameter; none if its layout is not known.

    They stand side by side (GPT-2, MPT, Phi-3), head by head (GPT-NeoX, BLOOM), or all queries before one key and one
    value that every head shares (Falcon, GPT-BigCode).
    """
    components: tuple[Component, ...] = ("q", "k", "v")
    module = next((attention[name] for name in ("c_attn", "query_key_value") if name in attention), None)
    if module is None:
        return _side_by_side(attention, layer, model)
    n_heads = int(model.config.get_text_config().num_attention_heads)
    rows, columns = _rows_first(module)(module.weight).shape  # type: ignore[operator,arg-type]
    d_head = columns // n_heads
    if type(module).__name__ == "Conv1D":
        views = [_third(place) for place in range(3)]
    elif rows == columns + 2 * d_head and n_heads > 1:
        ends = (0, columns, columns + d_head, rows)
        views = [_between(*pair) for pair in pairwise(ends)]
    elif rows == 3 * columns:
        views = [_third_of_heads(place, n_heads) for place in range(3)]
    else:
        return []
    return [WeightMatrix(layer, one, module, view) for one, view in zip(components, views, strict=True)]


def _side_by_side(attention: dict[str, nn.Module], layer: int, model: Any) -> list[WeightMatrix]:
    name = "qkv_proj" if hasattr(model.config.get_text_config(), "num_key_value_heads") else "Wqkv"
    module = attention.get(name)  # CodeGen's `qkv_proj`, of another layout, has no such field
    out = next((attention[one] for one in OUT_PROJECTIONS if one in attention), None)
    if module is None or out is None:
        return []
    rows, n_queries = matrix_shape(module)[0], matrix_shape(out)[1]
    ends = (0, n_queries, (rows + n_queries) // 2, rows)
    views = [_between(*pair) for pair in pairwise(ends)]
    return [WeightMatrix(layer, one, module, view) for one, view in zip(COMPONENTS[:3], views, strict=True)]


def _rows_first(module: nn.Module) -> Callable[[Tensor], Tensor]:
    return (lambda weight: weight.T) if is_transposed(module) else (lambda weight: weight)


def _third(place: int) -> Callable[[Tensor], Tensor]:
    return lambda weight: weight.chunk(3, dim=1)[place].T


def _between(start: int, stop: int) -> Callable[[Tensor], Tensor]:
    return lambda weight: weight[start:stop]


def _third_of_heads(place: int, n_heads: int) -> Callable[[Tensor], Tensor]:
    return lambda weight: weight.view(n_heads, 3, -1, weight.shape[1])[:, place]


def _complete(found: list[WeightMatrix], layer: int, name: str) -> list[WeightMatrix]:
    missing = {"q", "k", "v", "o", "mlp_in", "mlp_out"} - {matrix.component for matrix in found}
    if missing:
        raise ModelError(
            f"block {layer} of {name!r} shows no weight matrix {', '.join(sorted(missing))} under a known name "
            "(a mixture of experts?)."
        )
    for matrix in found:
        require_plain(matrix.module, f"{matrix.name} of {name!r}")
    return sorted(found, key=lambda matrix: COMPONENTS.index(matrix.component))
