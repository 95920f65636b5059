"""`StateBank`: residuals of many texts, kept to be searched for those that are most like another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from interp.authoring import (
    InputError,
    Layers,
    Source,
    Subject,
    Texts,
    checked,
    load,
    options,
)
from interp.data import tensor_file
from probes.contexts._bank_file import packed, unpacked
from probes.contexts._building import BankDtype, layers_kept, mean_of, record
from probes.contexts._layer_states import LayerStates
from probes.contexts._merging import merged
from probes.contexts._occurrences import Occurrences, next_ids, occurrences

_FORMAT = "interp state bank 1"


@checked
@dataclass(frozen=True, eq=False, repr=False)
class StateBank:
    """States of a model in context, made by `StateBank.of`: layer by layer, each with its place in a text.

    Attributes:
        layers: of the residual stream that are kept.
        by_layer: the states of each of them.
        places: of the states, in the order of texts and positions.
        texts: token ids of the texts that they stand in.
        usual: mean and standard deviation of the cosine of two random states, raw and centred, float64 [layers, 2, 2].
        model, fingerprint: of the model.
        about: how it was made.
    """

    made_by: ClassVar[str] = "StateBank.of"

    layers: tuple[int, ...]
    by_layer: tuple[LayerStates, ...]
    places: Occurrences
    texts: tuple[Tensor, ...]
    usual: np.ndarray
    model: str
    fingerprint: str
    about: dict[str, Any]

    @classmethod
    def of(
        cls,
        subject: Source,
        texts: Texts,
        *,
        layers: Layers = None,
        max_per_token: int = 50,
        skip: int = 2,
        dtype: BankDtype = "float16",
        seed: int = 0,
        truncate: bool = False,
    ) -> StateBank:
        """Keep the states of texts, each context once.

        A causal model has equal states wherever two texts begin alike, so that an equal beginning is kept once. Of a
        token's occurrences a random choice stays, which depends neither on the order of texts nor on other tokens.

        Args:
            subject: anything `interp.load` takes.
            texts: anything `Subject.tokens` takes.
            layers: 0 enters the first block, L leaves the last, before the final norm; "all" keeps all, and None
                those of 1, 2, 4, 8, 16, 24, L-2 and L-1 that there are, as the authors do.
            max_per_token: occurrences of a token that stay.
            skip: positions left out at the start of each text, where attention rests whatever the text.
            dtype: of the directions that are kept; lengths are kept apart.
            seed: of the choice.
            truncate: cut texts longer than the context instead of refusing them.

        Raises:
            InputError: an argument is out of range, fewer than three states would be kept, or they would take more than
                `interp.options.memory`.

        Cost: one forward pass over the texts. Memory of two bytes a number: states times layers times dimensions.

        >>> from probes import StateBank
        >>> bank = StateBank.of("reference", ["Once upon a time there was a cat.", "The cat sat."], layers=[4, 8])
        >>> bank
        StateBank('reference', 11 states of 2 texts, layers 4, 8)
        """
        loaded = load(subject)
        tokens = loaded.tokens(texts, truncate=truncate)
        chosen = layers_kept(loaded, layers)
        if max_per_token < 1 or skip < 0:
            raise InputError(f"max_per_token={max_per_token}, skip={skip}: give at least 1, and at least 0.")
        every = occurrences(tokens.ids, skip=skip, seed=seed)
        places = every.at(every.few(max_per_token))
        if len(places) < 3:
            raise InputError(
                f"{len(places)} states are too few for a bank: give texts with more tokens from position {skip} on, or "
                "lower skip."
            )
        units, norms = record(loaded, tokens, places, chosen, dtype)
        about = {"max_per_token": max_per_token, "skip": skip, "dtype": dtype, "seed": seed}
        return cls._made(chosen, units, norms, places, tokens.ids, loaded.name, loaded.fingerprint, about)

    @classmethod
    def _made(
        cls,
        layers: Sequence[int],
        units: Tensor,
        norms: Tensor,
        places: Occurrences,
        texts: Sequence[Tensor],
        model: str,
        fingerprint: str,
        about: dict[str, Any],
    ) -> StateBank:
        kept, text = np.unique(places.text, return_inverse=True)
        places = Occurrences(text.astype(np.int64), places.pos, places.token_id, places.key)
        means = [mean_of(one, own) for one, own in zip(units, norms, strict=True)]
        by_layer = tuple(LayerStates(*of_layer) for of_layer in zip(units, norms, means, strict=True))
        usual = [[one.usual_cosine(about["seed"], centre=centre) for centre in (False, True)] for one in by_layer]
        whole = tuple(texts[index] for index in kept)
        return cls(tuple(layers), by_layer, places, whole, np.array(usual), model, fingerprint, about)

    def __len__(self) -> int:
        return len(self.places)

    def __repr__(self) -> str:
        layers = ", ".join(map(str, self.layers))
        return f"StateBank({self.model!r}, {len(self):,} states of {len(self.texts):,} texts, layers {layers})"

    @cached_property
    def digest(self) -> str:
        """Hash of the model, the layers and the contexts, which decide the states, 16 hex digits."""
        facts = json.dumps([self.fingerprint, self.layers, self.about], sort_keys=True).encode()
        return hashlib.blake2b(facts + self.places.key.tobytes(), digest_size=8).hexdigest()

    @cached_property
    def next_id(self) -> np.ndarray:
        """The token after each state's, int64 [n]; -1 at the end of a text."""
        return next_ids(self.places, self.texts)

    def at(self, layer: int) -> LayerStates:
        """Return the states of a layer.

        Raises:
            InputError: the layer is not kept.
        """
        if layer not in self.layers:
            raise InputError(f"layer {layer} is not in this bank, which keeps {list(self.layers)}; choose one of them.")
        return self.by_layer[self.layers.index(layer)]

    def search(
        self, vectors: Tensor | np.ndarray, layer: int, *, k: int = 5, centre: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Find the states of a layer that are most like any vectors; `nearest_contexts(states=)` names their contexts.

        Args:
            vectors: [n, d_model].
            layer: of the bank.
            k: number of states.
            centre: take the bank's mean state of the layer off vectors and states; False compares them as they are. A
                direction, which is no state, has no mean to take off: ask for it with False.

        Returns:
            Cosines, float32 [n, k], the best first, and the states' indices, int64 [n, k].

        Raises:
            InputError: the layer is not kept, or the vectors or `k` do not fit.

        >>> import torch; from probes import StateBank
        >>> bank = StateBank.of("reference", ["Once upon a time there was a cat."], layers=4)
        >>> cosine, index = bank.search(bank.at(4).states(torch.tensor([3])), 4, k=2)
        >>> int(index[0, 0]), round(float(cosine[0, 0]), 3)
        (3, 1.0)
        """
        states = self.at(layer)
        self.check_k(k)
        return states.search(states.checked(vectors), k, centre=centre, numbers=options.available // 16)

    def check_k(self, k: int) -> None:
        """Refuse a number of neighbours that the bank does not have."""
        if not 1 <= k <= len(self):
            raise InputError(f"k={k}: give a number from 1 to {len(self)}, the number of states.")

    def merged(self, *others: StateBank) -> StateBank:
        """Return the bank of all texts together, as `StateBank.of` would have made it.

        Raises:
            InputError: a bank has another model, other layers or settings; or the whole would take too much memory.

        >>> from probes import StateBank
        >>> one, other = (StateBank.of("reference", [text], layers=4) for text in ("A cat sat down.", "A dog ran off."))
        >>> len(one.merged(other)) == len(one) + len(other)
        True
        """
        for other in others:
            for name in ("fingerprint", "layers", "about"):
                if getattr(self, name) != getattr(other, name):
                    raise InputError(
                        f"banks of {name} {getattr(self, name)!r} and {getattr(other, name)!r} cannot be merged; make "
                        "them of one model with the same arguments."
                    )
        parts = [(one.by_layer, one.places, one.texts) for one in (self, *others)]
        found = merged(parts, self.about["max_per_token"])
        return self._made(self.layers, *found, self.model, self.fingerprint, self.about)

    def check(self, subject: Subject) -> None:
        """Refuse any model but the one the states are of.

        Raises:
            ModelError: the model is another one, or the same one with other weights or processing.
        """
        tensor_file.require_same_weights(
            "this state bank", (self.model, self.fingerprint), (subject.name, subject.fingerprint),
            "Make one for it with StateBank.of.",
        )  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write the bank to a safetensors file, which `StateBank.load` reads; missing folders are created.

        Raises:
            InputError: the file cannot be written.
        """
        tensors = packed(self.layers, self.by_layer, self.places, self.texts)
        about = {
            "format": _FORMAT, "layers": self.layers, "usual": self.usual.tolist(), "model": self.model,
            "fingerprint": self.fingerprint, "about": self.about,
        }  # fmt: skip
        return tensor_file.write(path, "a state bank", tensors, about)

    @classmethod
    def load(cls, path: str | Path) -> StateBank:
        """Read a bank that `save` wrote; its states stay in the file until they are searched.

        Raises:
            InputError: there is no such file, or it holds something else.
        """
        what = "state bank"
        about, tensors = tensor_file.read(path, what, _FORMAT)
        with tensor_file.reading(path, what):
            layers = tuple(about["layers"])
            usual = np.array(about["usual"]).reshape(len(layers), 2, 2)
            return cls(
                layers, *unpacked(layers, tensors), usual, about["model"], about["fingerprint"], dict(about["about"])
            )
