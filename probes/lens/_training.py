"""The training of a tuned lens: all layers' translators together, each kept at its best on held-out tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from interp.authoring import Subject, Tokens, in_batches, options, progress_bar, select_positions
from interp.model.tape import Tape
from interp.stats.least_squares import Moments, Path
from probes.lens._maps import translate

PENALTIES = (0.0, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 1e9)
"""Ridge penalties of the least squares, see `Path.coefficients`; the last leaves nothing but an offset."""
_HELD_OUT_TOKENS = 2048
_START_TOKENS = 32  # at most, per dimension of the residual stream, for the least squares


class LensTrainer:
    """A trainer of all layers' translators that keeps each layer's best on held-out texts.

    Args:
        subject: the model.
        tokens: texts that fit its context.
        held_out: indices of the texts to measure on; at most 2,048 of their tokens are read.

    Attributes:
        parameters: weight [L, d, d] and bias [L, d].
        kept: weight and bias of each layer's best evaluation.
        before: held-out KL of the logit lens, nats, per layer; empty before the first evaluation.
        best: the lowest held-out KL seen, nats, per layer.
        penalties: ridge penalty of the least squares that each layer starts from; None where that is the logit lens.
    """

    def __init__(self, subject: Subject, tokens: Tokens, held_out: Sequence[int]) -> None:
        self._subject, self._tokens = subject, tokens
        n, d = subject.n_layers, subject.d_model
        self.parameters = [torch.zeros(shape, device=subject.device) for shape in ((n, d, d), (n, d))]
        self.kept = [parameter.clone() for parameter in self.parameters]
        self.before: list[float] = []
        self.best = [float("inf")] * n
        self.penalties: list[float | None] = [None] * n
        self._held_out = self._up_to(iter(held_out), _HELD_OUT_TOKENS)

    def start(self, prompts: Sequence[int], *, least_squares: bool) -> None:
        """Measure the logit lens and set the translators to it, or to the best affine map if that is better.

        The map's response is the last residual minus this one: a ridge penalty shrinks the map towards the logit lens
        with an offset. Each layer has the penalty of the lowest KL on held-out texts. Penalties grow until two in a row
        are worse: with many tokens plain least squares is the best, and the larger ones are not tried.
        """
        self.evaluate()
        self.before = list(self.best)
        if not least_squares:
            return
        fits = self._fits(prompts)
        lowest, n_worse = [float("inf")] * len(fits), [0] * len(fits)
        with progress_bar(len(PENALTIES), "penalty", "tuned_lens, ridge") as bar:
            for penalty in PENALTIES:
                active = [layer for layer, n in enumerate(n_worse) if n < 2]
                for layer in active:
                    for parameter, value in zip(self.parameters, fits[layer](penalty), strict=True):
                        parameter[layer] = value
                before = list(self.best)
                found = self.evaluate(active)
                for layer, kl in zip(active, found, strict=True):
                    n_worse[layer] = 0 if kl < lowest[layer] else n_worse[layer] + 1
                    lowest[layer] = min(lowest[layer], kl)
                    if kl < before[layer]:
                        self.penalties[layer] = penalty
                bar.update()
        for parameter, kept in zip(self.parameters, self.kept, strict=True):
            parameter.copy_(kept)

    def accumulate(self, stream: Iterator[int], n_tokens: int) -> int:
        """Set the gradients to those of the mean loss over the next `n_tokens` tokens, or a few more.

        Returns:
            The number of texts taken from the stream.
        """
        chosen = self._up_to(stream, n_tokens)
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self._read(chosen, range(self._subject.n_layers), 1 / self._count(chosen), gradients=True)
        return len(chosen)

    def evaluate(self, layers: Sequence[int] | None = None) -> list[float]:
        """Return the held-out KL of layers (None: all), and keep each translator that is its layer's best so far."""
        chosen = list(range(self._subject.n_layers)) if layers is None else list(layers)
        share = 1 / self._count(self._held_out)
        found: list[float] = self._read(self._held_out, chosen, share, gradients=False)[chosen].tolist()
        for layer, kl in zip(chosen, found, strict=True):
            if kl < self.best[layer]:
                self.best[layer] = kl
                for kept, parameter in zip(self.kept, self.parameters, strict=True):
                    kept[layer] = parameter[layer]
        return found

    def _fits(self, prompts: Sequence[int]) -> list[Callable[[float], tuple[Tensor, Tensor]]]:
        """Return, for every layer, a function from a ridge penalty to the weight [d, d] and bias [d]."""
        n, d = self.parameters[1].shape
        moments = [Moments.zeros(d, d, self._subject.device) for _ in range(n)]

        def add(row: Tensor, pos: Tensor, tape: Tape) -> None:
            last = tape.last[row, pos].double()
            for layer, one in enumerate(moments):
                state = tape.residual(layer)[row, pos].double()
                one.add(state, last - state)

        self._over(self._up_to(iter(prompts), _START_TOKENS * d), add, "tuned_lens, least squares")
        fits: list[Callable[[float], tuple[Tensor, Tensor]]] = []
        while moments:  # a layer's decomposition is as large as its moments, and takes their place
            one = moments.pop(0)
            fits.append(partial(_affine, one.centred().path(), one.x / one.n, one.y / one.n))
        return fits

    def _up_to(self, stream: Iterator[int], n_tokens: int) -> list[int]:
        chosen: list[int] = []
        total = 0
        for index in stream:
            chosen.append(index)
            total += len(self._tokens.ids[index])
            if total >= n_tokens:
                break
        return chosen

    def _count(self, prompts: Sequence[int]) -> int:
        return sum(len(self._tokens.ids[index]) for index in prompts)

    def _over(self, prompts: Sequence[int], add: Callable[[Tensor, Tensor, Tape], None], label: str = "") -> None:
        """Run these prompts in batches; call `add` with the rows and positions of a batch's tokens, and the tape."""
        subset = Tokens([self._tokens.ids[index] for index in prompts], self._tokens.table, None, self._tokens.n_cut)
        # Translators, those kept, gradients and Adam's two means, or the first two and least squares in float64.
        with options.reserving(6 * self.parameters[0].nbytes):
            n_tokens = self._subject.batch_tokens(2)
            for batch in in_batches(subset, n_tokens, label) if label else subset.batches(n_tokens):
                row, pos = (one.to(self._subject.device) for one in select_positions(batch, None))
                self._subject.run(batch.ids, partial(add, row, pos))

    def _read(self, prompts: Sequence[int], layers: Sequence[int], share: float, *, gradients: bool) -> Tensor:
        """Return each layer's KL, summed over tokens times `share`, float64 [L]; or add its gradients, return 0s."""
        losses = torch.zeros(self._subject.n_layers, dtype=torch.float64)
        self._over(prompts, partial(self._add, losses, layers=layers, share=share, gradients=gradients))
        return losses

    def _add(
        self,
        losses: Tensor,
        row: Tensor,
        pos: Tensor,
        tape: Tape,
        *,
        layers: Sequence[int],
        share: float,
        gradients: bool,
    ) -> None:
        # Logits, their softmax, the model's own and the gradient of the logits are in memory at once; tensors larger
        # than a CPU's cache cost more time than the products.
        most = 256 if row.device.type == "cpu" else 4096
        n_rows = max(1, min(most, options.available // 2 // (5 * 4 * self._subject.d_vocab)))
        for start in range(0, len(row), n_rows):
            where = row[start : start + n_rows], pos[start : start + n_rows]
            log_p = tape.head(tape.last[where]).float().log_softmax(-1)
            p = log_p.exp()
            for layer in layers:
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


def _affine(path: Path, x: Tensor, y: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the fit with a penalty, given the means of both sides."""
    coefficients = path.coefficients(penalty)
    return coefficients.T, y - x @ coefficients
