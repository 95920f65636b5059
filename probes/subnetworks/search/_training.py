"""The training of one subnetwork's masks: steps, stopping, and resuming after an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.authoring import NumericalError, Subject
from interp.data.tensor_file import reading
from interp.data.writing import written
from interp.model.tape import Tape
from probes.subnetworks.search._batches import Contexts
from probes.subnetworks.search._groups import decided
from probes.subnetworks.search._parameters import MaskParameters, MaskUnit
from probes.subnetworks.search._targets import MaskTarget, cross_entropy

_ROWS = 512  # positions whose logits are held at once on a CPU; more do not fit in its cache
_CHECKPOINT_SECONDS = 60.0
_LOG_EVERY = 10


def rows_at_once(device: torch.device) -> int:
    """Return the number of positions whose logits are held at once."""
    return _ROWS if device.type == "cpu" else 16 * _ROWS


@dataclass(frozen=True)
class MaskSchedule:
    """A schedule for annealing masks.

    Attributes:
        lr: of AdamW.
        growth: factor of the inverse temperature after every step.
        steps: at most.
        batch: sequences per step.
        length: tokens per sequence.
        retries: of an unstable training, with other batches.
    """

    lr: float
    growth: float
    steps: int
    batch: int
    length: int
    retries: int

    def within(self, steps: int) -> MaskSchedule:
        """Return the same annealing over fewer or more steps, so that T ends at the same value."""
        ratio = self.steps / steps
        return MaskSchedule(self.lr * ratio, self.growth**ratio, steps, self.batch, self.length, self.retries)


@dataclass(frozen=True)
class Logged:
    """One row of the log."""

    attempt: int
    step: int
    xent: float
    entropy: float
    soft_kept: float
    inverse_temperature: float
    n_mid: int
    n_hi: int
    seconds: float


@dataclass
class Progress:
    """The progress of a training, in plain values so that it can be saved to a file."""

    step: int = 0
    attempt: int = 0
    inverse_temperature: float = 1.0
    losses: list[float] = field(default_factory=list)
    log: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False


class MaskTraining:
    """The training of masks at one sparsity, from the start or from a checkpoint.

    Args:
        subject: the model whose weights are masked; never changed.
        target: the distribution to predict.
        contexts: returns the batches of an attempt.
        sparsity: lambda.
        unit: see `probes.subnetworks.search._parameters.MaskUnit`.
        schedule: see `MaskSchedule`.
        checkpoint: file where the state is saved now and then and resumed from; None saves nothing.
    """

    def __init__(
        self,
        subject: Subject,
        target: MaskTarget,
        contexts: Callable[[int], Contexts],
        *,
        sparsity: float,
        unit: MaskUnit,
        schedule: MaskSchedule,
        checkpoint: Path | None,
    ) -> None:
        self.subject, self.target, self.schedule, self.sparsity = subject, target, schedule, sparsity
        self._contexts, self._unit, self._checkpoint = contexts, unit, checkpoint
        self.progress, self._kept_at = Progress(), time.monotonic()
        self.masks = self._new_masks()
        self._resume()

    def run(self, report: Callable[[Logged], None]) -> None:
        """Train until the masks are decided or the steps are used up; unstable trainings are repeated.

        Raises:
            NumericalError: the loss is no longer finite.
        """
        while True:
            contexts = self._contexts(self.progress.attempt)
            while not self.progress.stopped and self.progress.step < self.schedule.steps:
                self._advance(contexts.batch(self.progress.step), report)
            if self.stable or self.progress.attempt >= self.schedule.retries:
                return
            self.progress = Progress(
                attempt=self.progress.attempt + 1, log=self.progress.log, seconds=self.progress.seconds
            )
            self.masks = self._new_masks()

    @property
    def stable(self) -> bool:
        """True if the loss recovered from every jump by 100 steps before the end, see `unstable`."""
        return not unstable(self.progress.losses)

    def measure(self, ids: Tensor) -> tuple[float, float]:
        """Return the subject's present cross-entropy with the target, and the target's entropy; nats, mean over ids."""
        rows = self.target.begin(ids)
        total = self.subject.run(ids, lambda tape: self._losses(tape, ids, rows, None), graph=True)
        return total[0] / ids.numel(), total[1] / ids.numel()

    def _new_masks(self) -> MaskParameters:
        subject = self.subject
        return MaskParameters(
            subject.weight_matrices(),
            unit=self._unit,
            n_heads=subject.n_heads,
            sparsity=self.sparsity,
            lr=self.schedule.lr,
        )

    def _advance(self, ids: Tensor, report: Callable[[Logged], None]) -> None:
        started, progress, masks = time.monotonic(), self.progress, self.masks
        masks.inverse_temperature = progress.inverse_temperature
        ids = ids.to(self.subject.device)
        rows = self.target.begin(ids)  # before masking: the target may be the full model itself
        kept, then = masks.refresh(), progress.inverse_temperature * self.schedule.growth
        # `edited` makes sure that the model is verified before it is masked; no frame is made here.
        with self.subject.edited([], {"masks": "soft"}), masks.masking(then) as leaves:
            sums = self.subject.run(ids, lambda tape: self._losses(tape, ids, rows, leaves), graph=True)
        xent, entropy = (value / ids.numel() for value in sums)
        if not xent < float("inf"):
            raise NumericalError(f"the loss is {xent} at step {progress.step}; lower lr=, or use float32 weights.")
        counts = masks.counts()
        progress.losses.append(xent + self.sparsity * kept)
        progress.stopped = decided(counts.n_mid, counts.n_hi)
        progress.seconds += time.monotonic() - started
        logged = Logged(
            progress.attempt, progress.step, xent, entropy, kept, progress.inverse_temperature,
            counts.n_mid, counts.n_hi, progress.seconds,
        )  # fmt: skip
        last = progress.stopped or progress.step + 1 == self.schedule.steps
        if last or progress.step % _LOG_EVERY == 0:
            progress.log.append(asdict(logged))
        progress.step += 1
        progress.inverse_temperature = then
        self._keep(last)
        report(logged)

    def _losses(self, tape: Tape, ids: Tensor, rows: Callable[[slice], Any], leaves: Any) -> tuple[float, float]:
        """Sum cross-entropy and entropy over positions; with leaves, also backpropagate the mean cross-entropy."""
        last = tape.last
        outer = torch.empty_like(last) if leaves is not None else None
        at_once = max(1, rows_at_once(last.device) // ids.shape[1])
        losses = entropies = 0.0
        for start in range(0, len(ids), at_once):
            some = slice(start, start + at_once)
            wanted = rows(some)
            state = last[some].detach().requires_grad_(leaves is not None)
            logits = tape.head(state)
            with torch.no_grad():
                found, gradient = cross_entropy(logits.flatten(0, 1), wanted, self.target.d_vocab)
                losses += float(found.double().sum())
                entropies += float(wanted.entropy().double().sum())
            if outer is not None:
                (outer[some],) = torch.autograd.grad(logits, state, gradient.div_(ids.numel()).view_as(logits))
            del logits, gradient
        if outer is not None:
            # Only to the effective weights, whose hooks update the masks: the model's own parameters get no gradient.
            torch.autograd.backward([last], [outer], inputs=leaves)
        return losses, entropies

    def _keep(self, last: bool) -> None:
        if self._checkpoint is None or not (last or time.monotonic() - self._kept_at >= _CHECKPOINT_SECONDS):
            return
        with written(self._checkpoint, "a checkpoint") as file:
            torch.save({"progress": asdict(self.progress), "masks": self.masks.state()}, file)
        self._kept_at = time.monotonic()

    def _resume(self) -> None:
        if self._checkpoint is not None and self._checkpoint.is_file():
            with reading(self._checkpoint, "checkpoint", "Delete it to start anew."):
                saved = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
                self.progress = Progress(**saved["progress"])
                self.masks.restore(saved["masks"])


def unstable(losses: list[float]) -> bool:
    """Return whether the loss jumped and did not recover, by Chang & Bergen's rule.

    A jump is a loss above the mean of the ten before it by 0.25 or by a quarter. The loss recovers if it reaches that
    mean again, at least 100 steps before the end.

    >>> unstable([2.0] * 200), unstable([2.0] * 50 + [3.0] + [2.0] * 150), unstable([2.0] * 50 + [3.0] * 150)
    (False, False, True)
    """
    values = torch.tensor(losses, dtype=torch.float64)
    if len(values) <= 10:
        return False
    before = values.unfold(0, 10, 1).mean(dim=1)[:-1]
    jumped = (values[10:] > before + 0.25) | (values[10:] > before * 1.25)
    for place in jumped.nonzero()[:, 0].tolist():
        later = values[10 + place : max(len(values) - 100, 0)]
        if not bool((later <= before[place]).any()):
            return True
    return False
