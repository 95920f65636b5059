"""The weight matrices of a model's blocks, by one name whatever the architecture calls and stores them.

A matrix is read as [out, in]: row i writes coordinate i of what the matrix makes. Where a model keeps several matrices
in one parameter (GPT-2's and GPT-NeoX's fused queries, keys and values) each is its own part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor, nn

Component: TypeAlias = Literal["q", "k", "v", "o", "mlp_in", "mlp_gate", "mlp_out"]
COMPONENTS: tuple[Component, ...] = ("q", "k", "v", "o", "mlp_in", "mlp_gate", "mlp_out")

_PATHS: dict[Component, str] = {component: f"attn.{component}" for component in COMPONENTS[:4]} | {
    "mlp_in": "mlp.in",
    "mlp_gate": "mlp.gate",
    "mlp_out": "mlp.out",
}


@dataclass(frozen=True, eq=False)
class WeightMatrix:
    """One weight matrix of attention or MLP.

    Attributes:
        layer: its block.
        component: what it is there.
        module: the module that multiplies by it; its `weight` is read anew in every pass.
        view: the parameter -> the part that is this matrix, sharing its memory: [out, in], or [head, d_head, in].
    """

    layer: int
    component: Component
    module: nn.Module
    view: Callable[[Tensor], Tensor]

    @property
    def name(self) -> str:
        """What both backends call it, such as "blocks.3.mlp.in.weight"."""
        return f"blocks.{self.layer}.{_PATHS[self.component]}.weight"

    @property
    def weight(self) -> Tensor:
        """The weights as they are now, [out, in] or [head, d_head, in]."""
        return self.view(self.module.weight.detach())  # type: ignore[operator,arg-type]

    @property
    def shape(self) -> tuple[int, int]:
        """[out, in]."""
        shape = self.weight.shape
        return shape[:-1].numel(), shape[-1]


def version(weight: Tensor) -> int:
    """How often torch wrote to a weight; 0 for those it keeps no count of."""
    return 0 if weight.is_inference() else weight._version


@contextmanager
def replaced(weights: Mapping[nn.Module, nn.Parameter]) -> Iterator[None]:
    """Within, these modules multiply by other weights; their own parameters are set aside and put back untouched.

    Nothing is written to the model's own tensors, so that not even an exception can leave them changed.
    """
    own: dict[nn.Module, nn.Parameter | None] = {module: module._parameters["weight"] for module in weights}
    try:
        for module, weight in weights.items():
            module._parameters["weight"] = weight
        yield
    finally:
        for module, parameter in own.items():
            module._parameters["weight"] = parameter
