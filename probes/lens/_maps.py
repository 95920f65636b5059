"""The tuned lens: one affine map per layer, its file, and the check that it fits a model."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.authoring import InputError, ModelError, Subject, checked, shipped_path
from interp.data import tensor_file
from interp.data.tensor_file import reading, require_same_weights

_FORMAT = "interp tuned lens 1"


@checked
@dataclass(frozen=True, eq=False)
class TunedLens:
    """A tuned lens: maps h -> h + W h + b of the residuals entering each block, to be read by the model's own head.

    Attributes:
        weight: W, float32 [L, d_model, d_model]; where W and b are zero, the tuned lens is the logit lens.
        bias: b, float32 [L, d_model].
        model: name of the model it was trained for.
        fingerprint: of that model, see `Subject.fingerprint`; None if the lens came without one.
        training: how it was trained, as far as known.
    """

    made_by: ClassVar[str] = "tuned_lens"
    kind: ClassVar[str] = "tuned"

    weight: Tensor
    bias: Tensor
    model: str
    fingerprint: str | None
    training: dict[str, Any]

    def __post_init__(self) -> None:
        shapes = tuple(self.weight.shape), tuple(self.bias.shape)
        n_layers, width = (*shapes[1], 0, 0)[:2]
        floats = self.weight.dtype == self.bias.dtype == torch.float32
        if not floats or shapes != ((n_layers, width, width), (n_layers, width)):
            raise InputError(
                f"weight {self.weight.dtype} {list(shapes[0])} and bias {self.bias.dtype} {list(shapes[1])} are not a "
                "tuned lens; give float32 [L, d_model, d_model] and [L, d_model]."
            )

    @property
    def digest(self) -> str:
        """Hash of the translators, 16 hex digits."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.weight, self.bias):
            digest.update(part.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def n_layers(self) -> int:
        """Number of layers that are translated: 0..L-1."""
        return len(self.weight)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are translated."""
        return tuple(range(self.n_layers))

    def translate(self, residual: Tensor, layer: int) -> Tensor:
        """Map the residual [..., d_model] at `layer` to an estimate of the last residual; layer L maps to itself.

        Raises:
            InputError: there is no such layer, or the residual has another width.
        """
        if not 0 <= layer <= self.n_layers:
            raise InputError(f"layer {layer} is not in this lens: layers run from 0 to {self.n_layers} here.")
        if residual.shape[-1:] != self.bias.shape[1:]:
            raise InputError(f"residual {list(residual.shape)}: give [..., {self.bias.shape[1]}], the lens's width.")
        if layer == self.n_layers:
            return residual
        return translate(residual, self.weight[layer].to(residual.device), self.bias[layer].to(residual.device))

    def check(self, subject: Subject) -> None:
        """Refuse any model but the one the lens was trained for.

        Raises:
            ModelError: the model is another one, or the same one with other weights or processing.
        """
        shape = subject.n_layers, subject.d_model
        if (self.n_layers, self.weight.shape[1]) != shape:
            raise ModelError(
                f"this tuned lens of {self.model!r} has {self.n_layers} layers of {self.weight.shape[1]} dimensions, "
                f"but {subject.name!r} has {shape[0]} of {shape[1]}; train one for it with probes.tuned_lens."
            )
        mend = "Train one for it with probes.tuned_lens."
        given = subject.name, subject.fingerprint
        require_same_weights("this tuned lens", (self.model, self.fingerprint), given, mend)

    def save(self, path: str | Path) -> Path:
        """Write the lens and its model's fingerprint to one safetensors file.

        Raises:
            InputError: the file cannot be written.
        """
        about = {"format": _FORMAT, "model": self.model, "fingerprint": self.fingerprint, "training": self.training}
        return tensor_file.write(path, "a tuned lens", {"weight": self.weight, "bias": self.bias}, about)


def translate(residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return h + W h + b of residuals [..., d_model], computed in float32, in the residuals' dtype."""
    wide = residual.float()
    return (wide + wide @ weight.T + bias).to(residual.dtype)


@checked
def load_tuned_lens(path: str | Path) -> TunedLens:
    """Read a tuned lens: a shipped one by its model's name, a file of `TunedLens.save`, or AlignmentResearch's folder.

    `load_tuned_lens("reference")` is the lens of the shipped model, trained by the small recipe on the shipped stories
    from the 61st on (`datasets/lenses`).

    AlignmentResearch's folder holds `params.pt`, a state dict with `0.weight`, `0.bias`, `1.weight`, ... , and
    `config.json`. Only tensors are read from it (`torch.load(weights_only=True)`): a pickle that holds anything else is
    refused. It holds no fingerprint, so only the sizes can be checked against a model; its lens is for raw weights.

    Args:
        path: the file or folder, or the name of a shipped lens; a shipped name comes before a file of that name.

    Raises:
        InputError: there is no such lens, or it cannot be read.

    >>> load_tuned_lens("reference").weight.shape
    torch.Size([8, 256, 256])
    """
    shipped = {file.stem: file for file in shipped_path("lenses").glob("*.safetensors")}
    path = shipped.get(str(path), Path(path))
    if path.is_dir():
        return _from_folder(path)
    about, tensors = tensor_file.read(path, "tuned lens", _FORMAT, f"Shipped: {', '.join(shipped)}.")
    with reading(path, "tuned lens", "Save it again."):
        return TunedLens(**tensors, model=about["model"], fingerprint=about["fingerprint"], training=about["training"])


def _from_folder(folder: Path) -> TunedLens:
    try:
        config = json.loads((folder / "config.json").read_text())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about odd pickles: refused, or read as tensors
            state = torch.load(folder / "params.pt", map_location="cpu", weights_only=True)
        layers = range(int(config["num_hidden_layers"]))
        weight = torch.stack([state[f"{layer}.weight"] for layer in layers]).float()
        biases = [state.get(f"{layer}.bias", weight.new_zeros(weight.shape[1])) for layer in layers]
    except Exception as error:  # unpickling raises errors of many kinds; all mean that this is not a lens
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{str(folder)!r} holds no tuned lens in AlignmentResearch's format (config.json and params.pt, tensors "
            f"only): {type(error).__name__}, {reason}."
        ) from error
    name = str(config.get("base_model_name_or_path", "unknown"))
    return TunedLens(weight, torch.stack(biases).float(), name, None, {"source": "AlignmentResearch/tuned-lens"})
