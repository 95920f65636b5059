"""The tuned lens (Belrose et al., arXiv 2303.08112): the logit lens through a trained affine map per layer.

Each map is trained so that its layer's residual predicts what the model predicts at the end. With d² + d parameters
a map can know more than its layer: the control for capacity is the tuned lens of layer 0, which reads each token
through the embedding alone. Training starts from the logit lens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from interp.authoring import InputError, Source, Subject, Texts, Tokens, UnknownName, load, options, select_positions
from interp.model.tape import Tape
from interp.stats.least_squares import Moments
from probes.lens._maps import TunedLens, load_tuned_lens, translate

LensRecipe = Literal["small", "paper"]
# Steps, tokens per step, learning rate, weight decay. The paper takes 2**18 tokens a step, lr 1 x (1 - momentum 0.9).
_RECIPES: dict[str, tuple[int, int, float, float]] = {
    "small": (40, 512, 1e-3, 0.0),
    "paper": (250, 2**18, 0.1, 1e-3),
}
_EVALUATIONS = 5  # of the held-out divergence per training; each reads 2,048 tokens and costs about two small steps
_HELD_OUT_TOKENS = 2048
_START_TOKENS = 32  # at most, per dimension of the residual stream, for the least squares


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
    truncate: bool = False,
) -> TunedLens:
    """Train the translators of all layers together to match the model's own output.

    Args:
        subject: anything `interp.load` takes.
        corpus: anything `Subject.tokens` takes; at least two texts.
        recipe: "paper" starts from zero, the logit lens, and takes 250 steps of 2**18 tokens by SGD with Nesterov
            momentum 0.9, learning rate 0.1 and weight decay 1e-3. "small" (ours, for a laptop) starts from the least
            squares of the last residual on each layer's, in closed form from at most 32 d_model tokens, and takes 40
            steps of 512 tokens by Adam at 1e-3. In both the rate falls linearly to 0, gradients are clipped to norm 1,
            and each layer's loss is KL(model || lens), mean over tokens.
        steps: number of steps, instead of the recipe's.
        tokens_per_step: instead of the recipe's; texts are drawn again, in random order, as often as needed.
        held_out: share of the texts held out to decide when to stop.
        patience: training stops after this many of the five evaluations in a row without an improvement. Each layer
            keeps the translator of its own best evaluation, which may be the first: the logit lens.
        seed: of the order of texts and of the choice of held-out texts.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        A `TunedLens`; `logit_lens(subject, texts, lens=...)` reads through it. Its `training` holds the recipe and the
        held-out KL of every layer before and after, in nats.

    Raises:
        InputError: there is a single text, or an argument is out of range.
        UnknownName: there is no such recipe.

    Cost: per step one forward pass, and an unembedding with its gradient per layer and token. The small recipe adds a
    forward pass over its first tokens and float64 sums of 16 d² bytes per layer.

    >>> lens = tuned_lens("reference", ["Once upon a time", "The cat sat"] * 4, steps=4, tokens_per_step=16)
    >>> lens.weight.shape, all(after <= before for before, after in lens.training["held_out_kl"])
    (torch.Size([8, 256, 256]), True)
    """
    loaded = load(subject)
    tokens = loaded.tokens(corpus, truncate=truncate)
    if recipe not in get_args(LensRecipe):
        raise UnknownName("recipe", recipe, get_args(LensRecipe))
    n_steps, per_step, rate, decay = _RECIPES[recipe]
    n_steps = n_steps if steps is None else steps
    per_step = per_step if tokens_per_step is None else tokens_per_step
    if len(tokens) < 2 or not 0 < held_out < 1 or n_steps < 1 or per_step < 1 or patience < 1:
        raise InputError(
            f"{len(tokens)} texts, held_out={held_out}, steps={n_steps}, tokens_per_step={per_step}, "
            f"patience={patience}: give at least two texts, a share between 0 and 1, and numbers of at least 1."
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(tokens), generator=generator).tolist()
    n_held_out = min(max(1, round(held_out * len(tokens))), len(tokens) - 1)
    trainer = _Trainer(loaded, tokens, order[:n_held_out])
    if recipe == "small":
        trainer.start_from_least_squares(order[n_held_out:])
    optimiser = _optimiser(recipe, trainer.parameters, rate, decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / n_steps)
    stream = _endless(order[n_held_out:], generator)
    every, waited = max(1, n_steps // _EVALUATIONS), 0
    for step in range(n_steps):
        trainer.accumulate(stream, per_step)
        torch.nn.utils.clip_grad_norm_(trainer.parameters, 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % every == 0 or step + 1 == n_steps:
            waited = 0 if trainer.evaluate() else waited + 1
            if waited == patience:
                break
    about = {
        "recipe": recipe, "steps": step + 1, "tokens_per_step": per_step, "seed": seed, "data_sha256": tokens.digest,
        "held_out_kl": [list(pair) for pair in zip(trainer.before, trainer.best, strict=True)],
    }  # fmt: skip
    weight, bias = (part.cpu() for part in trainer.kept)
    return TunedLens(weight, bias, model=loaded.name, fingerprint=loaded.fingerprint, training=about)


def _optimiser(recipe: str, parameters: list[Tensor], rate: float, decay: float) -> torch.optim.Optimizer:
    if recipe == "small":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)


def _endless(prompts: list[int], generator: torch.Generator) -> Iterator[int]:
    while True:
        for index in torch.randperm(len(prompts), generator=generator).tolist():
            yield prompts[index]


class _Trainer:
    """A trainer of all layers' translators that keeps each layer's best on held-out texts.

    Attributes:
        parameters: weight [L, d, d] and bias [L, d].
        before: held-out KL of the logit lens, nats, per layer.
        best: the lowest held-out KL seen, nats, per layer.
        kept: weight and bias of each layer's best evaluation.
    """

    def __init__(self, subject: Subject, tokens: Tokens, held_out: list[int]) -> None:
        self._subject, self._tokens = subject, tokens
        n, d = subject.n_layers, subject.d_model
        self.parameters = [torch.zeros(shape, device=subject.device) for shape in ((n, d, d), (n, d))]
        self._held_out = self._up_to(iter(held_out), _HELD_OUT_TOKENS)
        self.kept = [parameter.clone() for parameter in self.parameters]
        self.best = [float("inf")] * n
        self.evaluate()
        self.before = list(self.best)

    def start_from_least_squares(self, prompts: list[int]) -> None:
        """Set each layer's translator to the best affine map to the last residual, if that beats the logit lens.

        The response is the last residual minus this one: where the tokens say nothing of it, the map is the identity.
        """
        n, d = self.parameters[1].shape
        moments = [Moments.zeros(d, d, self._subject.device) for _ in range(n)]

        def add(row: Tensor, pos: Tensor, tape: Tape) -> None:
            last = tape.last[row, pos].double()
            for layer, one in enumerate(moments):
                state = tape.residual(layer)[row, pos].double()
                one.add(state, last - state)

        self._over(self._up_to(iter(prompts), _START_TOKENS * d), add)
        weight, bias = self.parameters
        for layer, one in enumerate(moments):
            coefficients = one.centred().fit().coefficients
            weight[layer] = coefficients.T
            bias[layer] = (one.y - one.x @ coefficients) / one.n
        self.evaluate()
        for parameter, kept in zip(self.parameters, self.kept, strict=True):
            parameter.copy_(kept)

    def accumulate(self, stream: Iterator[int], n_tokens: int) -> None:
        """Set the gradients to those of the mean loss over the next `n_tokens` tokens, or a few more."""
        chosen = self._up_to(stream, n_tokens)
        total = sum(len(self._tokens.ids[index]) for index in chosen)
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self._read(chosen, 1 / total, gradients=True)

    def evaluate(self) -> bool:
        """Keep each layer's translator if it is its best on held-out texts; return whether any is."""
        total = sum(len(self._tokens.ids[index]) for index in self._held_out)
        found = self._read(self._held_out, 1 / total, gradients=False).tolist()
        better = [layer for layer, kl in enumerate(found) if kl < self.best[layer]]
        for layer in better:
            self.best[layer] = found[layer]
            for kept, parameter in zip(self.kept, self.parameters, strict=True):
                kept[layer] = parameter[layer]
        return bool(better)

    def _up_to(self, stream: Iterator[int], n_tokens: int) -> list[int]:
        chosen: list[int] = []
        total = 0
        for index in stream:
            chosen.append(index)
            total += len(self._tokens.ids[index])
            if total >= n_tokens:
                break
        return chosen

    def _over(self, prompts: list[int], add: Callable[[Tensor, Tensor, Tape], None]) -> None:
        """Run these prompts in batches; call `add` with the rows and positions of a batch's tokens, and the tape."""
        subset = Tokens([self._tokens.ids[index] for index in prompts], self._tokens.table, None, self._tokens.n_cut)
        for batch in subset.batches(self._subject.batch_tokens(2)):
            row, pos = (one.to(self._subject.device) for one in select_positions(batch, None))
            self._subject.run(batch.ids, partial(add, row, pos))

    def _read(self, prompts: list[int], share: float, *, gradients: bool) -> Tensor:
        """Return every layer's KL, summed over tokens times `share`, float64 [L]; or add its gradients, return 0s."""
        losses = torch.zeros(self._subject.n_layers, dtype=torch.float64)
        self._over(prompts, partial(self._add, losses, share=share, gradients=gradients))
        return losses

    def _add(self, losses: Tensor, row: Tensor, pos: Tensor, tape: Tape, *, share: float, gradients: bool) -> None:
        # Logits, their softmax, the model's own and the gradient of the logits are in memory at once; tensors larger
        # than a CPU's cache cost more time than the products.
        most = 256 if row.device.type == "cpu" else 4096
        n_rows = max(1, min(most, options.memory // 2 // (5 * 4 * self._subject.d_vocab)))
        for start in range(0, len(row), n_rows):
            where = row[start : start + n_rows], pos[start : start + n_rows]
            log_p = tape.head(tape.last[where]).float().log_softmax(-1)
            p = log_p.exp()
            for layer in range(tape.n_layers):
                state = tape.residual(layer)[where]
                if gradients:
                    self._add_gradient(tape, state, layer, p, share)
                else:
                    log_q = tape.head(self._translated(state, layer)).float().log_softmax(-1)
                    losses[layer] += float((log_p - log_q).mul_(p).sum()) * share

    def _add_gradient(self, tape: Tape, state: Tensor, layer: int, p: Tensor, share: float) -> None:
        # The leaves are this layer's alone: a gradient of the whole stack would be L times as large, for every layer.
        leaves = [parameter[layer].detach().requires_grad_() for parameter in self.parameters]
        with torch.enable_grad():
            logits = tape.head(translate(state, *leaves))
        # The gradient of KL(p || softmax(logits)) with respect to the logits; no graph through the softmax is kept.
        outer = logits.detach().float().softmax(-1).sub_(p).to(logits.dtype)
        found = torch.autograd.grad(logits, leaves, outer)
        for parameter, gradient in zip(self.parameters, found, strict=True):
            assert parameter.grad is not None
            parameter.grad[layer].add_(gradient, alpha=share)

    def _translated(self, state: Tensor, layer: int) -> Tensor:
        return translate(state, *(parameter[layer] for parameter in self.parameters))


__all__ = ["TunedLens", "load_tuned_lens", "tuned_lens"]
