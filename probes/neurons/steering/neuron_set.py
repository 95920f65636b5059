"""A set of neurons that stands for a concept: its places, its words, and steering with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import InputError, Subject, Texts, checked, whole_numbers
from interp.data import tensor_file
from probes.neurons._concept_words import ConceptWords, concept_words
from probes.neurons.steering._doses import AlphaUnit, Mode, Positions, check_doses, doses_of, moments, steered

_FORMAT = "interp-neuron-set-1"


@checked
@dataclass(frozen=True, eq=False, repr=False)
class NeuronSet:
    """Neurons of a model under one name, made by `concept_neurons`, or by `NeuronSet.of` from neurons you chose.

    Attributes:
        concept: the name.
        words: those that chose the neurons, those held out to measure them, and those dropped.
        by_layer: neurons of each block, int64 [n] each.
        frame: the candidates, with provenance; None if you chose the neurons, or read them from a file.
        model: name of the model.
        fingerprint: of the model; None fits any.
    """

    made_by: ClassVar[str] = "concept_neurons"

    concept: str
    words: ConceptWords
    by_layer: Mapping[int, Tensor]
    frame: pd.DataFrame | None = None
    model: str = ""
    fingerprint: str | None = None

    @classmethod
    def of(
        cls,
        subject: Subject,
        neurons: Mapping[int, Sequence[int]],
        words: Sequence[str] | ConceptWords,
        *,
        concept: str | None = None,
        frame: pd.DataFrame | None = None,
    ) -> NeuronSet:
        """Make a set from neurons by block and the words that measure their effect.

        Raises:
            InputError: a block, neuron or word that is not there, or a neuron named twice.
        """
        split = words if isinstance(words, ConceptWords) else concept_words(subject, words, held_out=1)
        by_layer = {}
        for layer in sorted(neurons):
            chosen = whole_numbers(neurons[layer], f"neurons of block {layer}") if len(neurons[layer]) else []
            subject.check_layer(layer, subject.n_layers - 1)
            for neuron in chosen:
                if not 0 <= neuron < subject.d_mlp:
                    raise InputError(
                        f"neuron {neuron} is not in block {layer}: neurons run from 0 to {subject.d_mlp - 1}."
                    )
            if len(set(chosen)) < len(chosen):
                raise InputError(f"neurons {chosen} of block {layer} name one twice; name each once.")
            if chosen:
                by_layer[layer] = torch.tensor(chosen)
        name = concept or (*split.seeds, *split.held_out)[0]
        return cls(name, split, by_layer, frame, subject.name, subject.fingerprint)

    def check(self, subject: Subject) -> None:
        """Refuse any model but the one whose neurons these are.

        Raises:
            ModelError: the model is another one, or the same one with other weights or processing.
        """
        given = subject.name, subject.fingerprint
        mend = "Choose them there with concept_neurons, or with NeuronSet.of."
        tensor_file.require_same_weights("this set of neurons", (self.model, self.fingerprint), given, mend)

    def vectors_at(self, subject: Subject, layers: Sequence[int]) -> dict[int, Tensor]:
        """Return what its neurons have written together, float32 [d_model], at each of these layers.

        That is the sum of the value vectors of its neurons in the blocks before a layer, as if all were at 1; layers
        that none of its blocks comes before are left out.

        Raises:
            ModelError: the neurons are of another model.
        """
        self.check(subject)
        written = {
            block: subject.value_vectors(block)[chosen].float().sum(dim=0).cpu()
            for block, chosen in self.by_layer.items()
            if block < max(layers, default=0)
        }
        before = {layer: [one for block, one in written.items() if block < layer] for layer in layers}
        return {layer: torch.stack(of).sum(dim=0) for layer, of in before.items() if of}

    def save(self, path: str | Path) -> Path:
        """Write places and words to one safetensors file, with the model's fingerprint; the frame is not in it.

        Raises:
            InputError: the file cannot be written.

        >>> import interp, tempfile
        >>> of = NeuronSet.of(interp.load("reference"), {7: [3, 5]}, ["time", "day"])
        >>> NeuronSet.load(of.save(f"{tempfile.mkdtemp()}/time.safetensors"))
        NeuronSet('time', 2 neurons in blocks 7, held out: time, day)
        """
        tensors = {f"neurons.{layer}": neurons for layer, neurons in self.by_layer.items()}
        about = {"format": _FORMAT, "concept": self.concept, "model": self.model, "fingerprint": self.fingerprint}
        words, ids = self.words.to_file()
        return tensor_file.write(path, "a set of neurons", tensors | ids, about | words)

    @classmethod
    def load(cls, path: str | Path) -> NeuronSet:
        """Read a file written by `save`.

        Raises:
            InputError: the file is missing or holds something else.
        """
        about, tensors = tensor_file.read(path, "set of neurons", _FORMAT)
        with tensor_file.reading(path, "set of neurons", "Save it again."):
            words = ConceptWords.from_file(about, tensors)
            layers = sorted(int(name.partition(".")[2]) for name in tensors if name.startswith("neurons."))
            by_layer = {layer: tensors[f"neurons.{layer}"] for layer in layers}
            return cls(about["concept"], words, by_layer, None, about["model"], about["fingerprint"])

    def __len__(self) -> int:
        return sum(map(len, self.by_layer.values()))

    def __repr__(self) -> str:
        blocks = ", ".join(map(str, self.by_layer)) or "none"
        dropped = f", dropped: {', '.join(self.words.dropped)}" if self.words.dropped else ""
        return (
            f"NeuronSet({self.concept!r}, {len(self)} neurons in blocks {blocks}, "
            f"held out: {', '.join(self.words.held_out) or 'none'}{dropped}{self._beside_random_words()})"
        )

    def _beside_random_words(self) -> str:
        """Say what the best neuron's score is worth, if `concept_neurons` chose."""
        if self.frame is None or not (random := self.frame["control"] == "random_words").any():
            return ""
        own, chance = (self.frame.loc[of, "score"] for of in (~random, random))
        return f", best score {own.max():.2f}, of random words {chance.mean():.2f} (p = {self.frame['p'].min():.2g})"

    @contextmanager
    def steering(
        self,
        subject: Subject,
        alpha: float | Sequence[float],
        *,
        mode: Mode = "override",
        alpha_unit: AlphaUnit = "raw",
        positions: Positions = "all",
        skip_bos: bool = True,
        reference: Texts = "prompts",
    ) -> Iterator[None]:
        """Set these neurons in every forward pass within the context: of logits, `generate` and every probe.

        Frames made within the context record the steering in their provenance.

        Args:
            subject: the loaded model.
            alpha: the value that neurons are set to (mode "override", the paper's), that is added ("add") or multiplied
                ("scale"). A list gives one for each text of `generate`, and works there only.
            mode: see `alpha`.
            alpha_unit: "raw", or "sd": multiples of each neuron's standard deviation on `reference`, which makes
                neurons and layers comparable.
            positions: "all"; "generated": tokens that `generate` added; "last": the prompt's last token and
                generated ones.
            skip_bos: leave position 0, an attention sink, unchanged.
            reference: texts for `alpha_unit="sd"`; position 0 is left out.

        Raises:
            InputError: an argument that cannot be used.
            ModelError: the neurons are another model's, or no forward pass was made within the context.

        >>> import interp
        >>> from probes import concept_neurons
        >>> subject = interp.load("reference")
        >>> neurons = concept_neurons(subject, ["time", "day", "moment", "hour", "night", "week"], n=5)
        >>> with neurons.steering(subject, alpha=4):
        ...     text = subject.generate("Once upon a time", max_new_tokens=5)
        >>> text.startswith("Once upon a time")
        True
        """
        alphas = [float(one) for one in np.atleast_1d(alpha)]
        check_doses(alphas, mode, alpha_unit)
        self.check(subject)
        sd = None
        if alpha_unit == "sd":
            known = moments(subject, subject.tokens(reference, truncate=True), list(self.by_layer))
            sd = {layer: known[layer].sd[neurons] for layer, neurons in self.by_layer.items()}
        doses = doses_of(self.by_layer, alphas, mode=mode, alpha_unit=alpha_unit, sd=sd)
        note: dict[str, Any] = {
            "steering": self.concept,
            "neurons": {layer: neurons.tolist() for layer, neurons in self.by_layer.items()},
            "alpha": alphas if len(alphas) > 1 else alphas[0],
            "mode": mode,
            "alpha_unit": alpha_unit,
            "positions": positions,
            "skip_bos": skip_bos,
        }
        with steered(subject, doses, positions=positions, skip_bos=skip_bos, note=note):
            yield
