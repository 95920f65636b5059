"""A subnetwork: the weights of attention and MLP that a model keeps; all others are set to 0.

Biases, norms, embeddings and the unembedding are always kept, so an empty subnetwork still predicts something.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from interp.authoring import InputError, ModelError, Subject, checked
from interp.data import tensor_file
from interp.data.tensor_file import reading, require_same_weights
from interp.model.weights import COMPONENTS, Component, WeightMatrix, replaced
from probes.subnetworks._bits import bits_of, mask_of

_NAME = re.compile(r"blocks\.\d+\.(attn\.[qkvo]|mlp\.(in|gate|out))\.weight")
_FORMAT = "interp subnetwork 1"
_SAME = 0.01  # nats of cross-entropy that are no difference


@dataclass(frozen=True)
class Maskable:
    """A weight matrix that a subnetwork can mask.

    Attributes:
        name: such as "blocks.3.mlp.in.weight".
        layer: its block.
        component: q, k, v, o, mlp_in, mlp_gate or mlp_out.
        shape: [out, in].
    """

    name: str
    layer: int
    component: Component
    shape: tuple[int, int]


@checked
def maskable(subject: Subject) -> tuple[Maskable, ...]:
    """Return every weight matrix of attention and MLP, block by block; nothing else is ever masked.

    Raises:
        ModelError: a block has no single MLP.

    >>> import interp
    >>> [one.component for one in maskable(interp.load("reference"))[:6]]
    ['q', 'k', 'v', 'o', 'mlp_in', 'mlp_out']
    """
    return tuple(Maskable(one.name, one.layer, one.component, one.shape) for one in subject.weight_matrices())


@checked
@dataclass(frozen=True, eq=False, repr=False)
class Subnetwork:
    """One mask for every weight matrix of a model.

    Attributes:
        masks: by the names of `maskable`, bool [out, in], on the CPU; True keeps the weight. Every matrix has one.
        model: name of the model.
        fingerprint: of that model, see `Subject.fingerprint`; None if the masks came without one.
        origin: how it was made, as JSON.
    """

    made_by: ClassVar[str] = "find_subnetwork"

    masks: Mapping[str, Tensor]
    model: str
    fingerprint: str | None
    origin: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not self.masks:
            raise InputError("a subnetwork has a mask for every weight matrix, and none was given; see maskable.")
        for name, mask in self.masks.items():
            if mask.dtype != torch.bool or mask.ndim != 2:
                raise InputError(f"the mask of {name} is {mask.dtype} {list(mask.shape)}; give bool [out, in].")
            if not _NAME.fullmatch(name):
                raise InputError(f"{name!r} is not the name of a weight matrix; see maskable.")
        object.__setattr__(self, "masks", MappingProxyType(dict(self.masks)))

    @classmethod
    def full(cls, subject: Subject) -> Subnetwork:
        """Return the subnetwork that keeps every weight."""
        masks = {one.name: torch.ones(one.shape, dtype=torch.bool) for one in maskable(subject)}
        return cls(masks, subject.name, subject.fingerprint, {"made": "full"})

    @classmethod
    def empty(cls, subject: Subject) -> Subnetwork:
        """Return the subnetwork that keeps no weight."""
        masks = {one.name: torch.zeros(one.shape, dtype=torch.bool) for one in maskable(subject)}
        return cls(masks, subject.name, subject.fingerprint, {"made": "empty"})

    def __repr__(self) -> str:
        worse = f", {self.worse_by:.3f} nats worse than the full model" if self.worse_by > 0 else ""
        return (
            f"Subnetwork({self.model!r}, {self.n_kept:,} of {self.n_total:,} weights, {self.kept_fraction:.2%}{worse})"
        )

    @property
    def worse_by(self) -> float:
        """Nats by which it predicts its target worse than the full model; 0 if not so, or if that is the target."""
        told = self.origin.get("held_out_nats")
        if told is None or self.origin.get("target") == "model":
            return 0.0
        excess = float(told["xent"] - told["xent_full_model"])
        return excess if excess > _SAME else 0.0

    @cached_property
    def n_kept(self) -> int:
        """Number of weights it keeps."""
        return sum(int(mask.sum()) for mask in self.masks.values())

    @property
    def n_total(self) -> int:
        """Number of weights that can be kept."""
        return sum(mask.numel() for mask in self.masks.values())

    @property
    def kept_fraction(self) -> float:
        """`n_kept` / `n_total`."""
        return self.n_kept / self.n_total

    @property
    def digest(self) -> str:
        """Hash of the masks, 16 hex digits."""
        digest = hashlib.blake2b(digest_size=8)
        for name, mask in sorted(self.masks.items()):
            digest.update(f"{name} {tuple(mask.shape)}".encode() + bits_of(mask).tobytes())
        return digest.hexdigest()

    def counts(self) -> pd.DataFrame:
        """Count by matrix: `layer`, `component`, `kept_count`, `total_count`, `kept_fraction`, `share_of_kept`."""
        rows = []
        for name, mask in self.masks.items():
            layer, component = _place(name)
            rows.append((layer, component, int(mask.sum()), mask.numel()))
        frame = pd.DataFrame(rows, columns=["layer", "component", "kept_count", "total_count"])
        frame["kept_fraction"] = frame["kept_count"] / frame["total_count"]
        frame["share_of_kept"] = frame["kept_count"] / max(1, self.n_kept)
        return frame

    def complement(self) -> Subnetwork:
        """Return the subnetwork of all other weights: the model without this one."""
        return self._made("complement", lambda name, mask: ~mask)

    def random_like(self, seed: int, *, structured: bool = False) -> Subnetwork:
        """Draw a random subnetwork with the same number of weights in every matrix.

        Args:
            seed: of the draw.
            structured: put the rows (outputs) of each mask in a random order, a stronger control than weights drawn one
                by one. Every column (input) keeps its number of weights, and every row its pattern, but belongs to
                another output: which outputs are dense is not kept.
        """
        generator = torch.Generator().manual_seed(seed)

        def drawn(name: str, mask: Tensor) -> Tensor:
            if structured:
                return mask[torch.randperm(len(mask), generator=generator)]
            return mask.flatten()[torch.randperm(mask.numel(), generator=generator)].view(mask.shape)

        return self._made("random rows" if structured else "random weights", drawn, seed=seed)

    def __and__(self, other: Subnetwork) -> Subnetwork:
        """Return the subnetwork of the weights that both keep."""
        self._require_same_model(other)
        return self._made("and", lambda name, mask: mask & other.masks[name], other=dict(other.origin))

    def __or__(self, other: Subnetwork) -> Subnetwork:
        """Return the subnetwork of the weights that at least one keeps."""
        self._require_same_model(other)
        return self._made("or", lambda name, mask: mask | other.masks[name], other=dict(other.origin))

    @contextmanager
    def applied(self, subject: Subject) -> Iterator[Subject]:
        """Set all weights that are not kept to 0 inside this context; every frame made in it records the subnetwork.

        The model's own tensors are not written to: masked copies replace them until the context ends.

        Args:
            subject: the loaded model the masks belong to; it is also what is yielded.

        Raises:
            ModelError: the subject is another model.

        >>> import interp
        >>> subject = interp.load("reference")
        >>> whole = subject.logits(["Once upon a time"])[0]
        >>> with Subnetwork.empty(subject).applied(subject) as empty:
        ...     bool((empty.logits(["Once upon a time"])[0] == whole).all())
        False
        >>> bool((subject.logits(["Once upon a time"])[0] == whole).all())
        True
        """
        self.check(subject)
        note = {"subnetwork": self.digest, "kept_count": self.n_kept, "total_count": self.n_total}
        with subject.edited([], note), replaced(_masked(subject.weight_matrices(), self.masks)):
            yield subject

    def check(self, subject: Subject) -> None:
        """Check that a model is the one the masks belong to.

        Raises:
            ModelError: its matrices have other names or shapes, or its weights differ.
        """
        mend = "Find one for it with probes.find_subnetwork."
        theirs = {one.name: one.shape for one in maskable(subject)}
        ours = {name: tuple(mask.shape) for name, mask in self.masks.items()}
        differing = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
        if differing:
            name = differing[0]
            raise ModelError(
                f"{name} is {ours.get(name, 'missing')} in this subnetwork of {self.model!r} and "
                f"{theirs.get(name, 'missing')} in {subject.name!r}: it is of another model. {mend}"
            )
        given = subject.name, subject.fingerprint
        require_same_weights("this subnetwork", (self.model, self.fingerprint), given, mend)

    def save(self, path: str | Path) -> Path:
        """Write the masks to one safetensors file, one bit per weight, with the model's fingerprint and the origin.

        Raises:
            InputError: the file cannot be written.
        """
        tensors = {name: torch.from_numpy(bits_of(mask)) for name, mask in self.masks.items()}
        about = {
            "format": _FORMAT,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "origin": dict(self.origin),
            "shapes": {name: list(mask.shape) for name, mask in self.masks.items()},
        }
        return tensor_file.write(path, "a subnetwork", tensors, about)

    @classmethod
    def load(cls, path: str | Path) -> Subnetwork:
        """Read a file written by `save`.

        Raises:
            InputError: the file is missing or holds something else.
        """
        about, packed = tensor_file.read(path, "subnetwork", _FORMAT)
        with reading(path, "subnetwork", "Save it again."):
            if set(packed) != set(about["shapes"]):
                raise InputError(f"{str(path)!r} has shapes of other masks than it holds; save the subnetwork again.")
            masks = {name: mask_of(name, packed[name], shape) for name, shape in about["shapes"].items()}
            return cls(masks, about["model"], about["fingerprint"], about["origin"])

    def _made(self, how: str, change: Callable[[str, Tensor], Tensor], **note: Any) -> Subnetwork:
        masks = {name: change(name, mask) for name, mask in self.masks.items()}
        return Subnetwork(masks, self.model, self.fingerprint, {"made": how, "of": dict(self.origin), **note})

    def _require_same_model(self, other: Subnetwork) -> None:
        shapes, theirs = ({name: mask.shape for name, mask in one.masks.items()} for one in (self, other))
        known = None not in (self.fingerprint, other.fingerprint)
        if shapes != theirs or (known and self.fingerprint != other.fingerprint):
            raise ModelError(f"{self!r} and {other!r} are subnetworks of different models; combine those of one model.")


def _masked(matrices: list[WeightMatrix], masks: Mapping[str, Tensor]) -> dict[nn.Module, nn.Parameter]:
    """Return one parameter per module, with the weights that are not kept set to 0."""
    weights: dict[nn.Module, nn.Parameter] = {}
    for matrix in matrices:
        if matrix.module not in weights:
            copied = matrix.module.weight.detach().clone()  # type: ignore[operator]
            weights[matrix.module] = nn.Parameter(copied, requires_grad=False)
        part = matrix.view(weights[matrix.module].detach())
        # Filled, not multiplied: 0 times an infinite weight would be NaN.
        part.masked_fill_(~masks[matrix.name].to(part.device).view(part.shape), 0)
    return weights


def _place(name: str) -> tuple[int, Component]:
    _, layer, part, which, _ = name.split(".")
    component = which if part == "attn" else f"mlp_{which}"
    return int(layer), COMPONENTS[COMPONENTS.index(component)]  # type: ignore[arg-type]


def shares(subnetwork: Subnetwork, kept: np.ndarray, total: np.ndarray | int) -> dict[str, Any]:
    """Return the columns that describe parts of a subnetwork, from their numbers of kept and of all weights."""
    return {
        "kept_count": kept,
        "total_count": total,
        "kept_fraction": kept / total,
        "share_of_kept": kept / max(1, subnetwork.n_kept),
    }
