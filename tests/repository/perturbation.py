"""Change what a test computes from by one part in ten million: an outcome that changes with it hangs on rounding.

A plugin of pytest that `across_machines.py` loads; the variable PERTURBATION is the seed.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch

SIZE = 1.2e-7  # relative: one unit in the last place of a float32, so that each number moves to a neighbour


class Noise:
    """Change numbers by a random sign times `SIZE` of themselves; equal numbers stay equal to each other."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def tensor(self, values: torch.Tensor) -> torch.Tensor:
        if values.dtype not in (torch.float32, torch.float64) or values.is_meta:
            return values
        return torch.from_numpy(np.asarray(self.array(values.detach().double().numpy()))).to(values.dtype)

    def array(self, values: Any) -> Any:
        generator = np.random.Generator(np.random.PCG64(self.seed))
        return values * (1 + SIZE * generator.choice([-1.0, 1.0], np.shape(values)))

    def weights(self, model: torch.nn.Module) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                if not getattr(parameter, "_perturbed", False):
                    parameter.copy_(self.tensor(parameter))
                    parameter._perturbed = True  # type: ignore[attr-defined]


def apply(patch: pytest.MonkeyPatch, seed: int) -> None:
    """Perturb the weights of every model that is made ready for use, and every draw from a normal distribution."""
    # Imported late: nnsight gives every object new attributes, which other plugins of pytest must not meet.
    from transformers import PreTrainedModel

    from interp.model.backends.bridge import BridgeBackend

    noise = Noise(seed)
    ready = PreTrainedModel.eval

    def eval_perturbed(model: Any) -> Any:
        noise.weights(model)
        return ready(model)

    wrapped = BridgeBackend.__init__

    def wrap_perturbed(self: Any, bridge: Any, *args: Any, **settings: Any) -> None:
        if not isinstance(bridge.original_model, PreTrainedModel):  # a planted model, whose weights are written last
            noise.weights(bridge)
        wrapped(self, bridge, *args, **settings)

    patch.setattr(PreTrainedModel, "eval", eval_perturbed)
    patch.setattr(BridgeBackend, "__init__", wrap_perturbed)
    randn = torch.randn
    patch.setattr(torch, "randn", lambda *size, **settings: noise.tensor(randn(*size, **settings)))

    class Draws(np.random.Generator):
        def normal(self, *args: Any, **settings: Any) -> Any:
            return noise.array(super().normal(*args, **settings))

        def standard_normal(self, *args: Any, **settings: Any) -> Any:
            return noise.array(super().standard_normal(*args, **settings))

    default_rng = np.random.default_rng

    def draws(seed: Any = None) -> np.random.Generator:
        return seed if isinstance(seed, np.random.Generator) else Draws(default_rng(seed).bit_generator)

    patch.setattr(np.random, "default_rng", draws)


@pytest.fixture(autouse=True, scope="session")
def _perturbed() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        apply(patch, int(os.environ["PERTURBATION"]))
        yield
