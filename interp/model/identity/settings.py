"""Refuse to compute under settings of torch that would change the numbers or end in torch's own errors."""

from __future__ import annotations

import torch

from interp.errors import InputError


def check_settings(device: str = "cpu") -> None:
    """Refuse autocast, inference mode, and another default dtype or device.

    Args:
        device: type of the model's device.

    Raises:
        InputError: a setting is on; the message names it and its end.
    """
    # Weights that were moved elsewhere are on the device "meta", for which there is no such setting.
    if any(torch.is_autocast_enabled(one) for one in {"cpu", device} - {"meta"}):
        raise InputError(
            "torch.autocast is on, under which a model computes other numbers than its own: leave its with block, and "
            "pass dtype='bfloat16' to interp.load to study the model in half precision."
        )
    if torch.get_default_dtype() != torch.float32:
        raise InputError(
            f"torch's default dtype is {torch.get_default_dtype()}, but statistics are computed in float32: call "
            "torch.set_default_dtype(torch.float32), and pass dtype= to interp.load for a model in another dtype."
        )
    if torch.get_default_device().type != "cpu":
        raise InputError(
            f"torch's default device is {torch.get_default_device()}, but probes work on the CPU beside the model: "
            "call torch.set_default_device(None), or leave its with block, and pass device= to interp.load."
        )
    if torch.is_inference_mode_enabled():
        raise InputError(
            "torch.inference_mode() is on, under which no gradients can be taken: leave its with block; probes switch "
            "gradients off themselves where they need none."
        )


def matmul_precision() -> str:
    """Return how precisely torch multiplies float32 matrices where the processor offers less: "highest", "high", ..."""
    return torch.get_float32_matmul_precision()
