"""`tracr`: causal programs whose weights Tracr compiled (Lindner et al., arXiv 2301.05062)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from interp.checks import checked
from interp.data.shipped import shipped_path
from interp.errors import InputError
from interp.planted._build import Planted
from interp.planted._weights import Affine, Block, weights_of, zero
from interp.planted.tokenizer import tokenizer_of

Program = Literal["hist", "previous", "induction", "reverse"]
START = 0  # the id of BOS, the word that stands first in every text
END = "end"  # the word from which "reverse" writes backwards
# Blocks whose attention, and whose MLP, the program needs; what the others hold is zero.
_ATTENTION: dict[str, tuple[int, ...]] = {"hist": (0,), "previous": (1,), "induction": (1, 2), "reverse": (1, 2)}
_MLP: dict[str, tuple[int, ...]] = {"hist": (0,), "previous": (0,), "induction": (0,), "reverse": (0, 1, 2)}


@dataclass(frozen=True)
class TracrTruth:
    """The answers of `tracr`.

    Attributes:
        program: its name.
        words: word of each token id.
        attention: blocks whose only head the program needs.
        mlp: blocks whose MLP it needs.
        a: logit of the answer; every other word has 0.
    """

    program: str
    words: tuple[str, ...]
    attention: tuple[int, ...]
    mlp: tuple[int, ...]
    a: float

    def answer(self, ids: Tensor) -> Tensor:
        """Return the program's token id at each position, [..., pos]; -1 where it has no one answer.

        Computed from the words alone, in plain Python.

        Raises:
            InputError: a text does not begin with BOS, or has it again.
        """
        rows = [self._of_text(row) for row in ids.reshape(-1, ids.shape[-1]).tolist()]
        return torch.tensor(rows).reshape(ids.shape)

    def _of_text(self, ids: Sequence[int]) -> list[int]:
        if [at for at, one in enumerate(ids) if one == START] != [0]:
            shown = " ".join(self.words[one] for one in ids)
            raise InputError(f"{shown!r} must begin with BOS and have it nowhere else.")
        return [-1, *(self._at(ids[: end + 1]) for end in range(1, len(ids)))]

    def _at(self, read: Sequence[int]) -> int:
        """Return the answer at the last of the words read."""
        if self.program == "hist":
            return self.words.index(str(read.count(read[-1])))
        if self.program == "previous":
            found = {read[-2]}
        elif self.program == "reverse":
            found = set(self._mirrored(read))
        else:
            found = {after for before, after in pairwise(read) if before == read[-1]}
        return found.pop() if len(found) == 1 and START not in found else -1

    def _mirrored(self, read: Sequence[int]) -> Iterator[int]:
        """Yield the capital of the word as far before the one "end" as the last word is behind it, counted from it."""
        ends = [at for at, one in enumerate(read) if self.words[one] == END]
        place = 2 * ends[0] - len(read) if len(ends) == 1 else START
        capital = self.words[read[place]].upper() if place > START else ""
        if capital in self.words and capital != self.words[read[place]]:
            yield self.words.index(capital)


@checked
def tracr(
    program: Program = "induction",
    *,
    a: float = 10.0,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Planted[TracrTruth]:
    """Build a model from weights that Tracr compiled of a causal program over the words a, b, c and d.

    Texts begin with the word BOS, then have up to 8 words. "hist" writes how often the current word was read so far;
    the words 0 to 8 are only written. "previous" writes the word before. "induction" writes the word that followed the
    current one earlier, by a head that reads the word before and a head that finds the current one again. "reverse"
    also reads the word end, and from there on writes the words before it backwards, in the capitals A to D, which are
    only written: one head finds the end, the other the mirrored place. Blocks have one head, and no norms.

    Args:
        program: its name.
        a: logit given to the answer.
        device: of the model; None is the CPU.
        dtype: of the model.

    Raises:
        UnknownName: there is no such program.
        InputError: `a` is not above 0.

    >>> planted = tracr("induction")
    >>> ids = torch.tensor([planted.tokenizer("BOS a b c a")["input_ids"]])
    >>> planted.truth.words[planted.model(ids)[0, -1].argmax()]
    'b'
    >>> planted.truth.attention, planted.truth.mlp
    ((1, 2), (0,))
    """
    if not a > 0:
        raise InputError(f"a={a}: give a logit above 0.")
    with np.load(shipped_path("tracr") / f"{program}.npz") as file:
        compiled = {name: torch.from_numpy(file[name]) for name in file.files if name != "words"}
        words = tuple(file["words"].tolist())
    n_layers = sum(name.endswith("q.weight") for name in compiled)
    n_ctx, d_model = compiled["pos"].shape
    config = TransformerBridgeConfig(
        d_model=d_model,
        n_layers=n_layers,
        n_heads=1,
        d_head=len(compiled["0.q.bias"]),
        d_mlp=len(compiled["0.fc_in.bias"]),
        n_ctx=n_ctx,
        d_vocab=len(words),
        act_fn="relu",
        normalization_type=None,
        architecture="TransformerLensNative",
        seed=0,
    )
    model = TransformerBridge.boot_native(
        config, device=device, dtype=dtype, model_name=f"planted/tracr_{program}"
    ).eval()
    model.tokenizer = tokenizer_of(words)
    model.cfg.tokenizer_prepends_bos = False
    model.cfg.default_prepend_bos = False
    zero(model)
    weights = weights_of(model, n_layers)
    weights.tok_embed[: len(compiled["tok_embed"])] = compiled["tok_embed"].to(weights.tok_embed)
    weights.pos.copy_(compiled["pos"])
    weights.head.copy_(a * compiled["head"])
    for layer, block in enumerate(weights.blocks):
        _fill(block, compiled, layer)
    truth = TracrTruth(program, words, _ATTENTION[program], _MLP[program], float(a))
    return Planted(model, model.tokenizer, truth)


def _fill(block: Block, compiled: dict[str, Tensor], layer: int) -> None:
    for name in ("q", "k", "v", "o", "fc_in", "fc_out"):
        affine: Affine = getattr(block, name)
        affine.weight.copy_(compiled[f"{layer}.{name}.weight"])
        affine.bias.copy_(compiled[f"{layer}.{name}.bias"])


PROGRAMS: tuple[str, ...] = get_args(Program)
