"""A direction of the residual stream that stands for a concept: its places, its origin, and steering along it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import InputError, Layers, Subject, Texts, checked, layers_of
from interp.data import tensor_file
from probes.neurons._concept_words import ConceptWords, concept_words
from probes.neurons.steering._doses import AlphaUnit, Mode, Positions, check_doses, steered
from probes.neurons.steering._pushes import Push, coordinates

_FORMAT = "interp-direction-1"


@checked
@dataclass(frozen=True, eq=False, repr=False)
class Direction:
    """One vector per layer under one name, made by `contrast_direction`, or by `Direction.of` from any vectors.

    `nearest_contexts(subject, states=direction, bank=bank)` names the contexts of a `StateBank` that it points to.

    Attributes:
        concept: the name.
        words: those that found the direction, those held out to measure it, and those dropped; None if none measure it.
        by_layer: a vector float32 [d_model] for each layer of the residual stream, 0..L. Its length is one unit of a
            dose.
        shuffled: for each layer the vector that the same contrast gives between halves of its own groups; empty where
            nothing was contrasted.
        model: name of the model.
        fingerprint: of the model.
        how: how the direction was found, as JSON: its provenance.
        frame: one row per layer: `norm`, `shuffled_norm` and `auroc`; None if nothing was contrasted.
    """

    made_by: ClassVar[str] = "contrast_direction"

    concept: str
    words: ConceptWords | None
    by_layer: Mapping[int, Tensor]
    shuffled: Mapping[int, Tensor]
    model: str
    fingerprint: str
    how: Mapping[str, Any]
    frame: pd.DataFrame | None = None

    @classmethod
    def of(
        cls,
        subject: Subject,
        vector: Tensor | np.ndarray | Sequence[float],
        layers: Layers,
        *,
        concept: str,
        words: Sequence[str] | None = None,
    ) -> Direction:
        """Make a direction from a vector of your own: a row of a weight, a probe's coefficients, a published vector.

        Args:
            subject: the loaded model.
            vector: [d_model]. Its length is one unit of a dose.
            layers: of the residual stream, 0..L, where it stands; the same vector at each.
            concept: its name.
            words: which measure its effect; None makes a direction that `steer` cannot measure.

        Raises:
            InputError: the vector is zero, or has other numbers or another length; a layer or word that is not there.

        >>> import interp
        >>> subject = interp.load("reference")
        >>> Direction.of(subject, subject.W_U[:, 42], 6, concept="a token")
        Direction('a token', layers 6, no words to measure it by)
        """
        found = torch.as_tensor(np.asarray(vector) if not isinstance(vector, Tensor) else vector).detach().float().cpu()
        if found.shape != (subject.d_model,) or not bool(found.isfinite().all()) or not bool(found.any()):
            raise InputError(
                f"vector {list(found.shape)} with a norm of {float(found.norm()):.2g}: give {subject.d_model} finite "
                f"numbers for {subject.name!r}, not all of them 0."
            )
        split = None if words is None else concept_words(subject, words, held_out=1)
        chosen = layers_of(layers, subject.n_layers, subject.name)
        by_layer = dict.fromkeys(chosen, found)
        return cls(concept, split, by_layer, {}, subject.name, subject.fingerprint, {"found": "Direction.of"})

    def at(self, layers: Layers) -> Direction:
        """Return the direction at some of its layers only.

        Raises:
            InputError: it has no vector at a layer.
        """
        n_layers = max(self.by_layer)
        chosen = layers_of(layers, n_layers, self.model)
        for layer in chosen:
            if layer not in self.by_layer:
                raise InputError(f"{self.concept!r} has no vector at layer {layer}; choose from {list(self.by_layer)}.")
        parts = [{layer: of[layer] for layer in chosen if layer in of} for of in (self.by_layer, self.shuffled)]
        frame = None if self.frame is None else self.frame[self.frame["layer"].isin(chosen)].reset_index(drop=True)
        return replace(self, by_layer=parts[0], shuffled=parts[1], frame=frame)

    def vectors_at(self, subject: Subject, layers: Sequence[int]) -> dict[int, Tensor]:
        """Return its vector, float32 [d_model], at each of these layers that it has one at.

        Raises:
            ModelError: the direction is of another model.
        """
        self.check(subject)
        return {layer: self.by_layer[layer] for layer in layers if layer in self.by_layer}

    @property
    def digest(self) -> str:
        """Hash of the vectors and of those of the shuffled groups, 16 hex digits."""
        digest = hashlib.blake2b(digest_size=8)
        for vectors in (self.by_layer, self.shuffled):
            digest.update(json.dumps(list(vectors)).encode())
            for vector in vectors.values():
                digest.update(vector.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def check(self, subject: Subject) -> None:
        """Refuse any model but the one that the direction was found in.

        Raises:
            ModelError: the model is another one, or the same one with other weights or processing.
        """
        tensor_file.require_same_weights(
            "this direction", (self.model, self.fingerprint), (subject.name, subject.fingerprint),
            "Find it there with contrast_direction, or carry its vector over with Direction.of.",
        )  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write vectors, words and provenance to one safetensors file, bound to the model.

        Raises:
            InputError: the file cannot be written.

        >>> import interp, tempfile
        >>> subject = interp.load("reference")
        >>> one = Direction.of(subject, subject.W_U[:, 42], 6, concept="a token")
        >>> Direction.load(one.save(f"{tempfile.mkdtemp()}/token.safetensors")).digest == one.digest
        True
        """
        tensors = {
            f"{kind}.{layer}": vector.clone()
            for kind, of in (("vector", self.by_layer), ("shuffled", self.shuffled))
            for layer, vector in of.items()
        }
        words, ids = ({}, {}) if self.words is None else self.words.to_file()
        about = {
            "format": _FORMAT, "concept": self.concept, "model": self.model, "fingerprint": self.fingerprint,
            "how": dict(self.how), "words": words or None,
            "frame": None if self.frame is None else self.frame.to_dict("list"),
        }  # fmt: skip
        return tensor_file.write(path, "a direction", tensors | ids, about)

    @classmethod
    def load(cls, path: str | Path) -> Direction:
        """Read a file written by `save`.

        Raises:
            InputError: the file is missing or holds something else.
        """
        about, tensors = tensor_file.read(path, "direction", _FORMAT)
        with tensor_file.reading(path, "direction", "Save it again."):
            words = None if about["words"] is None else ConceptWords.from_file(about["words"], tensors)
            by_layer, shuffled = (
                {
                    int(name.partition(".")[2]): tensors[name]
                    for name in sorted(tensors, key=lambda name: (len(name), name))
                    if name.startswith(f"{kind}.")
                }
                for kind in ("vector", "shuffled")
            )
            frame = None if about["frame"] is None else pd.DataFrame(about["frame"])
            identity = about["model"], about["fingerprint"], about["how"]
            return cls(about["concept"], words, by_layer, shuffled, *identity, frame)

    def __repr__(self) -> str:
        layers = ", ".join(map(str, self.by_layer))
        if self.words is None:
            return f"Direction({self.concept!r}, layers {layers}, no words to measure it by{self._separation()})"
        dropped = f", dropped: {', '.join(self.words.dropped)}" if self.words.dropped else ""
        held_out = ", ".join(self.words.held_out) or "none"
        return f"Direction({self.concept!r}, layers {layers}, held out: {held_out}{dropped}{self._separation()})"

    def _separation(self) -> str:
        """Say how well the direction orders pairs that did not find it, at its best layer."""
        if self.frame is None or not self.frame["auroc"].notna().any():
            return ""
        best = self.frame.loc[self.frame["auroc"].idxmax()]
        return f", AUROC of left-out pairs {best['auroc']:.2f} at layer {int(best['layer'])}"

    @contextmanager
    def steering(
        self,
        subject: Subject,
        alpha: float | Sequence[float],
        *,
        mode: Mode = "add",
        alpha_unit: AlphaUnit = "raw",
        positions: Positions = "all",
        skip_bos: bool = True,
        reference: Texts = "prompts",
    ) -> Iterator[None]:
        """Steer along this direction in every forward pass within the context: of logits, `generate` and every probe.

        Frames made within the context record the steering in their provenance.

        Args:
            subject: the loaded model.
            alpha: how many times the vector is added (mode "add"), the coordinate along it is set to ("override"), or
                multiplied by ("scale"; 0 takes the direction out). A list gives one for each text of `generate`, and
                works there only.
            mode: see `alpha`.
            alpha_unit: "raw": the vector's own length; or "sd": standard deviations of the coordinate on `reference`.
            positions: "all"; "generated": tokens that `generate` added; "last": the prompt's last token and generated
                ones.
            skip_bos: leave position 0, an attention sink, unchanged.
            reference: texts for `alpha_unit="sd"`; position 0 is left out.

        Raises:
            InputError: an argument that cannot be used.
            ModelError: the direction is of another model, or no forward pass was made within the context.

        >>> import interp
        >>> from probes import contrast_direction
        >>> subject = interp.load("reference")
        >>> joy = contrast_direction(subject, ["happy", "glad", "smiled"], ["sad", "cried", "angry"], layers=5)
        >>> with joy.steering(subject, alpha=2):
        ...     text = subject.generate("Once upon a time", max_new_tokens=5)
        >>> text.startswith("Once upon a time")
        True
        """
        # Here, because the module of controls reads this one.
        from probes.neurons.steering._direction_controls import pushes_of

        alphas = [float(one) for one in np.atleast_1d(alpha)]
        check_doses(alphas, mode, alpha_unit)
        self.check(subject)
        self.require_steerable()
        sd = None
        if alpha_unit == "sd":
            known = coordinates(subject, subject.tokens(reference, truncate=True), self.by_layer, 0)
            sd = {layer: of.sd for layer, of in known.items()}
        pushes: list[Push] = pushes_of(self, alphas, mode=mode, sd=sd)
        note: dict[str, Any] = {
            "steering": self.concept,
            "direction": self.digest,
            "layers": list(self.by_layer),
            "how": dict(self.how),
            "alpha": alphas if len(alphas) > 1 else alphas[0],
            "mode": mode,
            "alpha_unit": alpha_unit,
            "positions": positions,
            "skip_bos": skip_bos,
        }
        with steered(subject, pushes, positions=positions, skip_bos=skip_bos, note=note):
            yield

    def require_steerable(self) -> None:
        """Refuse layer 0, before any block.

        Raises:
            InputError: the direction stands at layer 0.
        """
        if 0 in self.by_layer:
            raise InputError(
                f"{self.concept!r} stands at layer 0, before any block: steer at later ones, with direction.at([...])."
            )
