"""The Jacobian lens: one matrix per layer, its files, and the check that it fits a model."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.authoring import InputError, ModelError, Subject, checked, shipped_path
from interp.data import tensor_file
from interp.data.tensor_file import reading, require_same_weights

FORMAT = "interp Jacobian lens 1"


@checked
@dataclass(frozen=True, eq=False)
class JacobianLens:
    """A Jacobian lens: maps h -> J h of residuals to an estimate of the last residual, read by the model's own head.

    Attributes:
        matrix: J, float32 [n, d_model, d_model], one per layer of `layers`; the identity is the logit lens.
        layers: layers of 0..L-1, ascending: layer l enters block l. Transformer-lens counts from the output of block 0,
            which is layer 1 here.
        n_layers: L of the model; None if a file does not tell.
        model: name of the model it was made for.
        fingerprint: of that model, see `Subject.fingerprint`; None if the lens came without one.
        training: how it was made, as far as known.
    """

    made_by: ClassVar[str] = "jacobian_lens"
    kind: ClassVar[str] = "jacobian"

    matrix: Tensor
    layers: tuple[int, ...]
    n_layers: int | None
    model: str
    fingerprint: str | None
    training: dict[str, Any]

    def __post_init__(self) -> None:
        shape, layers = tuple(self.matrix.shape), tuple(self.layers)
        ascending = layers == tuple(sorted(set(layers))) and all(isinstance(layer, int) for layer in layers)
        width = shape[-1] if shape else 0
        if self.matrix.dtype != torch.float32 or shape != (len(layers), width, width) or not layers or not ascending:
            raise InputError(
                f"matrix {self.matrix.dtype} {list(shape)} of layers {list(layers)} is not a Jacobian lens; give "
                "float32 [n, d_model, d_model] and n layers in ascending order."
            )
        last = layers[-1] if self.n_layers is None else self.n_layers - 1
        if layers[0] < 0 or layers[-1] > last:
            raise InputError(f"layers {list(layers)} of a Jacobian lens: give layers from 0 to {last}.")

    @property
    def digest(self) -> str:
        """Hash of the layers and their matrices, 16 hex digits."""
        digest = hashlib.blake2b(repr(tuple(self.layers)).encode(), digest_size=8)
        digest.update(self.matrix.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def translate(self, residual: Tensor, layer: int) -> Tensor:
        """Map the residual [..., d_model] at `layer` to an estimate of the last residual; layer L maps to itself.

        Raises:
            InputError: the lens has no such layer, or the residual has another width.
        """
        if residual.shape[-1:] != self.matrix.shape[2:]:
            raise InputError(f"residual {list(residual.shape)}: give [..., {self.matrix.shape[2]}], the lens's width.")
        if layer == self.n_layers:
            return residual
        if layer not in self.layers:
            raise InputError(f"layer {layer} is not in this lens: it has layers {list(self.layers)}.")
        matrix = self.matrix[self.layers.index(layer)].to(residual.device)
        return (residual.float() @ matrix.T).to(residual.dtype)

    def check(self, subject: Subject) -> None:
        """Refuse any model but the one the lens was made for.

        Raises:
            ModelError: the model is another one, or the same one with other weights or processing.
        """
        mend = "Make one for it with probes.jacobian_lens."
        shape = subject.n_layers, subject.d_model
        fits = self.n_layers == shape[0] if self.n_layers is not None else self.layers[-1] < shape[0]
        if not fits or self.matrix.shape[1] != shape[1]:
            raise ModelError(
                f"this Jacobian lens of {self.model!r} is for {self.n_layers or 'unknown'} layers of "
                f"{self.matrix.shape[1]} dimensions, but {subject.name!r} has {shape[0]} of {shape[1]}; "
                f"{mend[0].lower()}{mend[1:]}"
            )
        given = subject.name, subject.fingerprint
        require_same_weights("this Jacobian lens", (self.model, self.fingerprint), given, mend)

    def save(self, path: str | Path) -> Path:
        """Write the lens and its model's fingerprint to one file.

        A name that ends in `.pt` is written in transformer-lens' format, in float32 and without layer 0, which that
        format cannot hold; any other is safetensors.

        Raises:
            InputError: the file cannot be written, or nothing but layer 0 would be.
        """
        path = Path(path)
        if path.suffix != ".pt":
            about = {"format": FORMAT, "layers": list(self.layers), "n_layers": self.n_layers} | self._about
            return tensor_file.write(path, "a Jacobian lens", {"matrix": self.matrix}, about)
        lens = self.to_transformer_lens()
        with tensor_file.creating(path, "a Jacobian lens") as file:
            lens.save(file, dtype=torch.float32)
        return path

    def to_transformer_lens(self) -> Any:
        """Return a `transformer_lens.tools.analysis.JacobianLens`, whose layer l is layer l + 1 here; 0 is left out.

        Raises:
            InputError: there is no other layer than 0.
        """
        from transformer_lens.tools.analysis import JacobianLens as Theirs

        kept = {layer - 1: self.matrix[index] for index, layer in enumerate(self.layers) if layer > 0}
        if not kept:
            raise InputError("layer 0 alone cannot be told in transformer-lens' format: make the lens of more layers.")
        about: dict[str, Any] = {"estimator": "jacobian_lens", "interp": self._about}
        if self.n_layers is not None:
            about["target_layer"] = self.n_layers - 1
        n_prompts = int(self.training.get("n_prompts", 0))
        return Theirs(kept, n_prompts=n_prompts, d_model=self.matrix.shape[1], metadata=about)

    @classmethod
    def from_transformer_lens(cls, lens: Any) -> JacobianLens:
        """Return the lens of a `transformer_lens.tools.analysis.JacobianLens`, such as its `from_pretrained` downloads.

        Raises:
            InputError: it is not such a lens.
        """
        from transformer_lens.tools.analysis import JacobianLens as Theirs

        if not isinstance(lens, Theirs):
            raise InputError(
                f"a {type(lens).__name__} is not a lens of transformer-lens; give what its JacobianLens.load returns."
            )
        theirs = lens.source_layers
        facts = dict(lens.metadata)
        ours = facts.pop("interp", {})
        # Lenses of the reference implementation do not tell their target: without gaps from the first block on, they
        # are of all layers.
        whole = theirs == list(range(len(theirs)))
        n_layers = facts["target_layer"] + 1 if "target_layer" in facts else len(theirs) + 1 if whole else None
        return cls(
            torch.stack([lens.jacobians[layer] for layer in theirs]),
            tuple(layer + 1 for layer in theirs),
            n_layers,
            ours.get("model", str(facts.get("model_name") or "unknown")),
            ours.get("fingerprint"),
            ours.get("training", {"source": "transformer-lens", "n_prompts": lens.n_prompts} | facts),
        )

    @property
    def _about(self) -> dict[str, Any]:
        return {"model": self.model, "fingerprint": self.fingerprint, "training": self.training}


@checked
def load_jacobian_lens(path: str | Path) -> JacobianLens:
    """Read a Jacobian lens: a shipped one by its model's name, a file of `JacobianLens.save`, or transformer-lens' .pt.

    `load_jacobian_lens("reference")` is the lens of the shipped model (`datasets/lenses`). The lenses that
    `neuronpedia/jacobian-lens` publishes are in transformer-lens' format, of raw weights: only tensors and plain values
    are read from it, and only the sizes can be checked against a model.

    Args:
        path: the file, or the name of a shipped lens; a shipped name comes before a file of that name.

    Raises:
        InputError: there is no such lens, or it cannot be read.

    >>> load_jacobian_lens("reference").matrix.shape
    torch.Size([8, 256, 256])
    """
    shipped = {file.stem: file for file in shipped_path("lenses/jacobian").glob("*.safetensors")}
    path = shipped.get(str(path), Path(path))
    if path.suffix == ".pt":
        from transformer_lens.tools.analysis import JacobianLens as Theirs

        with reading(path, "Jacobian lens", "Give a file in transformer-lens' format."), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about odd pickles: refused, or read as tensors
            return JacobianLens.from_transformer_lens(Theirs.load(str(path)))
    about, tensors = tensor_file.read(path, "Jacobian lens", FORMAT, f"Shipped: {', '.join(shipped)}.")
    with reading(path, "Jacobian lens", "Save it again."):
        facts: dict[str, Any] = {name: about[name] for name in ("n_layers", "model", "fingerprint", "training")}
        return JacobianLens(layers=tuple(about["layers"]), **facts, **dict[str, Any](tensors))
