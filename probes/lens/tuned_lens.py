"""The tuned lens (Belrose et al., arXiv 2303.08112): the logit lens through a trained affine map per layer.

Each map is trained so that its layer's residual predicts what the model predicts at the end. With d² + d parameters
a map can know more than its layer: the control for capacity is the tuned lens of layer 0, which reads each token
through the embedding alone. Training starts from the logit lens.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from interp.authoring import (
    InputError,
    Source,
    Subject,
    Texts,
    Tokens,
    checked,
    code_digest,
    content_order,
    context_windows,
    hash_of,
    held_out_prompts,
    load,
    progress_bar,
)
from probes.lens._checkpoint import Checkpoint
from probes.lens._maps import TunedLens, load_tuned_lens
from probes.lens._training import LensTrainer

LensRecipe = Literal["small", "paper"]
# Steps, tokens per step, learning rate, weight decay. The paper takes 2**18 tokens a step, lr 1 x (1 - momentum 0.9).
_RECIPES: dict[str, tuple[int, int, float, float]] = {
    "small": (40, 512, 1e-3, 0.0),
    "paper": (250, 2**18, 0.1, 1e-3),
}
_EVALUATIONS = 5  # of the held-out divergence per training; each reads 2,048 tokens and costs about two small steps


@checked
def tuned_lens(
    subject: Source,
    corpus: Texts,
    *,
    recipe: LensRecipe = "small",
    steps: int | None = None,
    tokens_per_step: int | None = None,
    held_out: float = 0.1,
    patience: int = 2,
    seed: int = 0,
    out: str | Path | None = None,
    truncate: bool = False,
) -> TunedLens:
    """Train the translators of all layers together to match the model's own output.

    A map of d² numbers fits few tokens without error and all others badly. So a layer gets a map only if it reads
    held-out tokens better than the logit lens does, and that map has the ridge penalty that reads them best.

    Args:
        subject: anything `interp.load` takes.
        corpus: anything `Subject.tokens` takes. Texts longer than the context are cut into windows of it: one text of
            many megabytes will do.
        recipe: "paper" starts from zero, the logit lens, and takes 250 steps of 2**18 tokens by SGD with Nesterov
            momentum 0.9, learning rate 0.1 and weight decay 1e-3. "small" (ours, for a laptop) starts from the least
            squares of the last residual on each layer's, in closed form from at most 32 d_model tokens with a ridge
            penalty chosen on held-out texts, and takes 40 steps of 512 tokens by Adam at 1e-3. In both the rate falls
            linearly to 0, gradients are clipped to norm 1, and each layer's loss is KL(model || lens), mean over
            tokens.
        steps: number of steps, instead of the recipe's.
        tokens_per_step: instead of the recipe's; texts are drawn again, in random order, as often as needed.
        held_out: share of the texts (or windows) held out to choose the penalty and to decide when to stop.
        patience: training stops after this many of the five evaluations in a row without an improvement. Each layer
            keeps the translator of its own best evaluation, which may be the first: the logit lens.
        seed: of the order of texts and of the choice of held-out texts.
        out: a folder where the state is kept every minute and after every evaluation, and the lens at the end; an
            interrupted call with the same arguments resumes there, and a finished one is read from there.
        truncate: read only the first window of each text.

    Returns:
        A `TunedLens`; `logit_lens(subject, texts, lens=...)` reads through it. Its `training` holds the recipe, the
        held-out KL of every layer before and after, in nats, and the ridge penalty of its start (None: the logit lens).

    Raises:
        InputError: there are too few texts or tokens, or an argument is out of range.
        UnknownName: there is no such recipe.

    Cost: per step one forward pass, and an unembedding with its gradient per layer and token. The small recipe adds a
    forward pass over its first tokens, float64 sums of 16 d² bytes per layer, and three to seven evaluations. Memory of
    six times the lens.

    >>> lens = tuned_lens("reference", "prompts", steps=4, tokens_per_step=16)
    >>> lens.weight.shape, all(after <= before for before, after in lens.training["held_out_kl"])
    (torch.Size([8, 256, 256]), True)
    """
    loaded = load(subject)
    tokens = loaded.tokens(corpus, truncate=True) if truncate else context_windows(loaded, corpus)
    n_steps, per_step, rate, decay = _RECIPES[recipe]
    n_steps = n_steps if steps is None else steps
    per_step = per_step if tokens_per_step is None else tokens_per_step
    if len(tokens) < 2 or not 0 < held_out < 1 or n_steps < 1 or per_step < 1 or patience < 1:
        raise InputError(
            f"{len(tokens)} texts, held_out={held_out}, steps={n_steps}, tokens_per_step={per_step}, "
            f"patience={patience}: give at least two texts, a share between 0 and 1, and numbers of at least 1."
        )
    measured, fitted = _split(loaded, tokens, held_out, seed)
    about: dict[str, Any] = {
        "recipe": recipe, "steps": n_steps, "tokens_per_step": per_step, "seed": seed, "data_sha256": tokens.digest,
    }  # fmt: skip
    model = [loaded.fingerprint, loaded.backend.kind, str(loaded.device), loaded.edits]
    settings = about | {"held_out": held_out, "patience": patience, "model": model}
    checkpoint = Checkpoint(out, hash_of(settings | {"code": code_digest(tuned_lens)}))
    finished = checkpoint.finished()
    if finished is not None:
        return finished
    trainer = LensTrainer(loaded, tokens, measured)
    optimiser = _optimiser(recipe, trainer.parameters, rate, decay)
    at = checkpoint.resume(trainer, optimiser)
    if not trainer.before:
        trainer.start(fitted, least_squares=recipe == "small")
        checkpoint.keep(trainer, optimiser, at, due=True)
    stream = _endless(fitted, seed)
    for _ in range(at.taken):
        next(stream)
    every = max(1, n_steps // _EVALUATIONS)
    with progress_bar(n_steps, "step", "tuned_lens", done=at.step) as bar:
        while at.step < n_steps and at.waited < patience:
            at.taken += trainer.accumulate(stream, per_step)
            torch.nn.utils.clip_grad_norm_(trainer.parameters, 1.0)
            optimiser.param_groups[0]["lr"] = rate * (1 - at.step / n_steps)
            optimiser.step()
            at.step += 1
            due = at.step % every == 0 or at.step == n_steps
            if due:
                best = list(trainer.best)
                trainer.evaluate()
                at.waited = 0 if trainer.best != best else at.waited + 1
            checkpoint.keep(trainer, optimiser, at, due)
            bar.update()
    about |= {
        "steps": at.step, "ridge": trainer.penalties,
        "held_out_kl": [list(pair) for pair in zip(trainer.before, trainer.best, strict=True)],
    }  # fmt: skip
    weight, bias = (part.cpu() for part in trainer.kept)
    lens = TunedLens(weight, bias, model=loaded.name, fingerprint=loaded.fingerprint, training=about)
    checkpoint.finish(lens)
    return lens


def _split(subject: Subject, tokens: Tokens, held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the texts to measure on and those to fit, each in a random order that their contents decide.

    Raises:
        InputError: the texts to fit have fewer tokens than a map has inputs.
    """
    chosen = held_out_prompts(tokens.ids, held_out, seed)
    measured, fitted = (
        [index for index in content_order(tokens.ids, seed) if chosen[index] == part] for part in (1, 0)
    )
    n_tokens = sum(len(tokens.ids[index]) for index in fitted)
    if n_tokens < subject.d_model + 2:
        raise InputError(
            f"{n_tokens} tokens are too few to fit maps of {subject.d_model} dimensions with {len(measured)} of "
            f"{len(tokens)} texts held out; give texts of at least {subject.d_model + 2} tokens beside those, and "
            f"better {20 * subject.d_model}."
        )
    return measured, fitted


def _optimiser(recipe: str, parameters: list[Tensor], rate: float, decay: float) -> torch.optim.Optimizer:
    if recipe == "small":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)


def _endless(prompts: list[int], seed: int) -> Iterator[int]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        for index in torch.randperm(len(prompts), generator=generator).tolist():
            yield prompts[index]


__all__ = ["TunedLens", "load_tuned_lens", "tuned_lens"]
