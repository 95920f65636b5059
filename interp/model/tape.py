"""The tape: one recorded clean forward pass, from which blocks can be run again exactly, in any order.

A `Tape` holds the residual that entered each block and the block's other arguments (masks, rotary embeddings,
positions), so that a block can be run on any residual. Masks stay with their block: a sliding-window block keeps its
window wherever a schedule puts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from interp.errors import InputError
from interp.model.backends.arguments import Growth, repeated
from interp.model.head import Head
from interp.model.managed import managed
from interp.model.memory import MOST_TOKENS_AT_ONCE
from interp.model.schedules import Plan, Root, Schedule, check_schedules, plan


class HeadReached(Exception):
    """A signal that ends a recording before the logits of all positions, which are not needed, are computed."""


def leaving(out: Any) -> Tensor:
    """Return the residual among what a block returns: the first of a sequence, or the tensor itself."""
    residual: Tensor = out[0] if isinstance(out, tuple | list) else out
    return residual


@managed
def leaving_hooks(block: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list that gets the residual which leaves a block, after all hooks that were there before."""
    left: list[Tensor] = []
    with block.register_forward_hook(lambda module, args, out: left.append(leaving(out))):
        yield left


@dataclass(frozen=True)
class Call:
    """The arguments a block was called with; the first positional one, or `hidden_states`, is the residual.

    Attributes:
        args: the positional ones.
        kwargs: those by name.
        grows: how they grow with the batch, see `interp.model.backends.arguments`.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    grows: Growth = field(default_factory=dict)

    @property
    def residual(self) -> Tensor:
        """The residual that entered the block, [batch, pos, d_model]."""
        residual: Tensor = self.args[0] if self.args else self.kwargs["hidden_states"]
        return residual

    @property
    def others(self) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """All arguments but the residual."""
        return self.args[1:], {key: value for key, value in self.kwargs.items() if self.args or key != "hidden_states"}

    def growing(self, growth: Sequence[Growth], block: int) -> Call:
        """Return the call with what was learned, if anything, of how the arguments of its block grow."""
        return replace(self, grows=growth[block]) if growth else self

    def on(self, block: Callable[..., Any], residual: Tensor) -> Tensor:
        """Run `block` on another residual with all other arguments as recorded, repeated for several variants.

        Raises:
            ModelError: it is not known how to repeat an argument.
        """
        args, kwargs = self.others
        if len(residual) != len(self.residual):
            batch = len(self.residual)
            args, kwargs = repeated((args, kwargs), batch, len(residual) // batch, self.grows)
        return leaving(block(residual, *args, **kwargs) if self.args else block(**kwargs, hidden_states=residual))


@dataclass(frozen=True)
class Tape:
    """A recorded forward pass.

    Attributes:
        calls: the arguments of each block, length n_layers.
        last: the residual that leaves the last block, [batch, pos, d_model].
        mids: the residual between attention and MLP of each block, [batch, pos, d_model]; empty unless requested.
        blocks: the blocks themselves.
        head: residual [..., d_model] -> logits [..., d_vocab]: final norm, unembedding, and the transform of logits.
        raw_head: the same without the final norm.
    """

    calls: Sequence[Call]
    last: Tensor
    mids: Sequence[Tensor]
    blocks: Sequence[Callable[..., Any]]
    head: Head
    raw_head: Head

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.calls)

    def residual(self, layer: int) -> Tensor:
        """Return the residual at `layer`, [batch, pos, d_model]: 0 enters the first block, n_layers leaves the last.

        Raises:
            InputError: `layer` is not in 0..n_layers.
        """
        if not 0 <= layer <= self.n_layers:
            raise InputError(f"layer {layer} is not on the tape: its residuals run from 0 to {self.n_layers}.")
        return self.last if layer == self.n_layers else self.calls[layer].residual

    def run_block(self, index: int, residual: Tensor) -> Tensor:
        """Run block `index` on a residual [batch, pos, d_model] for the recorded batch.

        Several variants of the batch can be stacked along it, [n * batch, pos, d_model].
        """
        return self.calls[index].on(self.blocks[index], residual)

    def replay(self, schedule: Schedule) -> Tensor:
        """Return the residual after running the blocks in this order, [batch, pos, d_model]."""
        return self.replay_all([schedule])[0]

    def replay_all(self, schedules: Sequence[Schedule]) -> list[Tensor]:
        """Run many schedules by their `plan`: shared prefixes once, runs of the same block as one batch.

        Returns:
            The residual after each schedule, [batch, pos, d_model].

        Raises:
            InputError: a schedule names a block that does not exist.
        """
        check_schedules(schedules, self.n_layers)
        return self.execute(plan(schedules), {})

    def execute(
        self,
        plan: Plan,
        starts: Mapping[Root, Callable[[], Tensor]],
        *,
        keep: Callable[[Tensor], Tensor] | None = None,
        tokens_at_once: int = MOST_TOKENS_AT_ONCE,
    ) -> list[Tensor]:
        """Execute a plan whose roots are layers of this tape or names in `starts`.

        Args:
            plan: the runs.
            starts: functions that return a residual [batch, pos, d_model], called when a run begins.
            keep: applied to each residual before the next is taken, to keep less of it.
            tokens_at_once: in one call of a block, but at least one run's; see `Subject.block_tokens`.

        Returns:
            The residual after each run, [batch, pos, d_model], or what `keep` made of it.
        """
        tokens = max(1, self.last[..., 0].numel())
        return plan.execute(
            lambda root: starts[root]() if root in starts else self.residual(int(root)),  # type: ignore[call-overload]
            self.run_block,
            max(1, tokens_at_once // tokens),
            keep,
        )
