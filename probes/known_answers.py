"""Score probes of layers, patching and attribution on models whose answer is known: planted by us, and by Tracr.

    python -m probes.known_answers

prints the table: which share of the blocks, parts or tokens that an answer needs a probe puts first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import InputError, UnknownName
from interp.planted import bigram, copying, cue, tracr, two_step
from probes.attribution.known_answers.compiled_scores import PROGRAMS, compiled_scores, found_first, prompt, rates
from probes.attribution.known_answers.planted_scores import hit_rates, planted_scores, table_lines
from probes.layers.layer_robustness import layer_robustness
from probes.patching.attribution_patch import attribution_patch
from probes.patching.patch import patch

Part = tuple[str, int]  # a site and its block

PLANTED: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "copying": (copying, ("attn_out",)),
    "cue": (cue, ("attn_out",)),
    "bigram": (bigram, ("mlp_out",)),
    "two_step": (two_step, ("mlp_out", "mlp_out")),
}
"""Our models, each with the part that every planted block needs; two blocks of noise stand beside them."""
_METHODS = (
    "normxlogit", "norm", "logit", "input_x_gradient", "integrated_gradients", "gradient_norm", "occlusion", "rollout",
)  # fmt: skip
_VOCAB, _LENGTH = 12, 8
_WORDS = _VOCAB - 2  # neither the cue nor its answer


@dataclass(frozen=True)
class Known:
    """A model with pairs of prompts, and what its answers need.

    Attributes:
        model: the bridge.
        clean: token ids of each prompt.
        corrupt: those of another prompt as long, with another answer.
        needed: parts without which the answer is lost.
    """

    model: Any
    clean: list[Tensor]
    corrupt: list[Tensor]
    needed: frozenset[Part]

    @property
    def blocks(self) -> list[int]:
        """The blocks of the needed parts."""
        return sorted({layer for _, layer in self.needed})


def known(name: str, *, n_prompts: int = 20, seed: int = 0) -> Known:
    """Return a model by its name, one of `PLANTED` or of Tracr's programs, with prompts.

    Raises:
        InputError: there is no prompt.
        UnknownName: there is no such model.

    >>> sorted(known("induction", n_prompts=1).needed)
    [('attn_out', 1), ('attn_out', 2), ('mlp_out', 0)]
    """
    if n_prompts < 1:
        raise InputError(f"n_prompts={n_prompts}: give at least 1.")
    if name not in (*PLANTED, *PROGRAMS):
        raise UnknownName("model", name, (*PLANTED, *PROGRAMS))
    draw = np.random.default_rng(seed)
    return _planted(name, draw, n_prompts) if name in PLANTED else _compiled(name, draw, n_prompts)


def _planted(name: str, draw: np.random.Generator, n_prompts: int) -> Known:
    build, parts = PLANTED[name]
    planted = build(vocab=_VOCAB, noise_blocks=2)
    pairs = torch.tensor(draw.integers(2, _VOCAB, (2, n_prompts, _LENGTH)))
    if name == "cue":
        pairs[0, torch.arange(n_prompts), torch.tensor(draw.integers(0, _LENGTH - 1, n_prompts))] = planted.truth.cue
    else:  # without the last token, which copying predicts and whose successor the others do
        pairs[1] = 2 + (pairs[0, :, -1:] - 2 + torch.tensor(draw.integers(1, _WORDS, (n_prompts, _LENGTH)))) % _WORDS
    needed = frozenset(zip(parts, planted.truth.layout.planted, strict=True))
    return Known(planted.model, list(pairs[0]), list(pairs[1]), needed)


def _compiled(name: Any, draw: np.random.Generator, n_prompts: int) -> Known:
    planted = tracr(name)

    def ids() -> Tensor:
        return torch.tensor(planted.tokenizer(prompt(name, draw)[0])["input_ids"])

    def other(one: Tensor) -> Tensor:
        answer = planted.truth.answer(one)[-1]
        while len(found := ids()) != len(one) or planted.truth.answer(found)[-1] == answer:
            pass
        return found

    clean = [ids() for _ in range(n_prompts)]
    needed = {("attn_out", layer) for layer in planted.truth.attention}
    needed |= {("mlp_out", layer) for layer in planted.truth.mlp}
    return Known(planted.model, clean, [other(one) for one in clean], frozenset(needed))


def measured(model: Known, seed: int = 0) -> Iterator[tuple[str, pd.DataFrame, bool]]:
    """Yield what each measurement gives, by `prompt_id`, `layer` and, if it tells parts apart, `site`, in `size`.

    Blocks are deleted one by one. Parts are patched at all positions together, by what they are on another prompt or
    under noise on the embeddings, and the same is estimated from gradients. Sizes are without sign.

    Yields:
        The measurement's name, its frame, and whether it tells parts apart.
    """
    deleted = layer_robustness(model.model, model.clean, interventions=("delete",), positions=-1, controls=())
    yield "layer_robustness, delete", deleted.assign(size=deleted["kl"]), False
    asked: dict[str, Any] = {"sites": ("attn_out", "mlp_out"), "positions": "all", "metric": "log_prob", "seed": seed}
    for mode in ("denoise", "noise"):
        frame = patch(model.model, model.clean, model.corrupt, mode=mode, controls=(), **asked)
        yield f"patch, {mode}", frame.assign(size=frame["effect"].abs()), True
    frame = patch(model.model, model.clean, None, corruption="noise", mode="noise", controls=(), **asked)
    yield "patch, noise on the embeddings", frame.assign(size=frame["effect"].abs()), True
    frame = attribution_patch(model.model, model.clean, model.corrupt, mode="noise", exact=0, **asked)
    for method in ("gradient", "path"):
        rows = frame[(frame["method"] == method) & (frame["control"] == "none")]
        yield f"attribution_patch, {method}", rows.assign(size=rows["estimate"].abs()), True


def part_scores(models: Sequence[str] | None = None, *, n_prompts: int = 20, seed: int = 0) -> pd.DataFrame:
    """Count needed blocks or parts among as many of the largest effects.

    Args:
        models: names of `PLANTED` and of Tracr's programs; None takes all.
        n_prompts: of each model.
        seed: of prompts and noise.

    Returns:
        One row per model, measurement and prompt: `needed`, how many are `found`, the `share`, and the one that a
        random order finds on average, `chance`. Effects within 1 % of the largest one tie, and a tie is broken in all
        ways.

    Raises:
        InputError: there is no prompt.
        UnknownName: there is no such model.

    >>> table(part_scores(["cue"], n_prompts=2))["cue"].round(2).to_dict()["patch, noise"]
    1.0
    """
    rows = []
    for name in (*PLANTED, *PROGRAMS) if models is None else models:
        model = known(name, n_prompts=n_prompts, seed=seed)
        for measurement, frame, by_part in measured(model, seed):
            for number, of in frame.groupby("prompt_id"):
                keys = zip(of["site"], of["layer"], strict=True) if by_part else of["layer"]
                wanted = np.array([key in (model.needed if by_part else model.blocks) for key in keys])
                counts = found_first(of["size"].to_numpy(), wanted)
                rows.append({"model": name, "measurement": measurement, "prompt_id": number} | counts)
    return pd.DataFrame(rows)


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean shares of `part_scores`: a column per model, a row per measurement, and those of a random order."""
    columns = list(frame["model"].unique())
    means = frame.pivot_table(index="measurement", columns="model", values=["share", "chance"], sort=False)
    shares, chance = means["share"][columns], means["chance"][columns]
    blocks, parts = chance.iloc[[0]], chance.iloc[[1]]
    blocks.index, parts.index = ["a random order of blocks"], ["a random order of parts"]
    return pd.concat([shares.iloc[:1], blocks, shares.iloc[1:], parts])


def tokens() -> pd.DataFrame:
    """Return the shares of needed tokens that methods of `attribute` put first: those that draw nothing."""
    both = hit_rates(planted_scores(_METHODS, length=_LENGTH)), rates(compiled_scores(_METHODS))
    found = pd.concat(both, axis=1)[[*PLANTED, *PROGRAMS]].fillna(1 / _LENGTH)  # one token is needed in ours
    *methods, chance = found.index
    return found.rename(index={**{name: f"attribute, {name}" for name in methods}, chance: f"{chance} of tokens"})


if __name__ == "__main__":
    print("\n".join(table_lines(pd.concat([table(part_scores()), tokens()]))))
