"""The check, on a few tokens and before any measurement, that a model can be studied."""

from __future__ import annotations

import torch
from torch import Tensor

from interp.errors import InterpError, ModelError, NumericalError
from interp.model.backends.arguments import Sizes, Unrepeatable, growth, require_unchanged, sizes, tensors
from interp.model.backends.base import Backend
from interp.model.readout import CPU_WIDTH
from interp.model.tape import Tape

# Share of the logits' scale by which rounding to 8 bits may change them; other tokens were seen to change them by .006.
_QUANTISED = 0.05


def verify(backend: Backend, ids: Tensor) -> None:
    """Refuse a model whose replay is not exact or whose tokens attend to later ones.

    Args:
        backend: the model to check.
        ids: a few tokens, int64 [batch, pos].

    Raises:
        ModelError: its replay or its read-out (in tiles or at single positions) differs from its own logits, it is not
            causal, or the backend cannot run it or rebuilds it as another model.
        NumericalError: its logits hold NaN or infinity.
    """
    name, architecture = backend.facts.name, backend.facts.architecture
    if ids.shape[1] == 1 and backend.facts.n_ctx > 1:
        ids = ids.expand(-1, 2)  # a single token has no later token to attend to
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % backend.facts.n_ids
    rows = torch.arange(len(ids))
    ends = (ids.shape[1] - 1 - rows) % ids.shape[1]  # the last position of row 0, the one before it of row 1
    try:
        learn_growth(backend, ids)
        own = backend.logits(ids).float()
        original = backend.original_logits(ids)
        replayed, in_tiles = backend.run(ids, lambda tape: (_replayed(tape), _in_tiles(tape)), mids=False)
        earlier = backend.logits(changed)[:, :-1]
        at_ends = backend.next_token_logits(ids, ends, lambda logits: logits)
    except Unrepeatable as error:
        raise ModelError(
            f"{name!r} ({architecture}) cannot be replayed by the {backend.kind} backend: {error}"
        ) from error
    except (InterpError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a library can raise anything on an architecture it does not know
        raise ModelError(
            f"{name!r} ({architecture}) cannot be run by the {backend.kind} backend: "
            f"{str(error).strip().partition(chr(10))[0]}"
        ) from error
    if own.isnan().any() or own.isposinf().any() or own.isneginf().all():
        raise NumericalError(f"the logits of {name!r} hold NaN or infinity: check the model's weights and its dtype.")
    scale = float(own[own.isfinite()].abs().amax())
    # The same kernels on the same shapes give the same bits; 1e-3 of the logits' scale allows for GPUs.
    tolerance = 1e-3 * scale
    difference = _difference(replayed, own.repeat(2, 1, 1))
    if in_tiles is not None:
        difference = max(difference, _difference(in_tiles.view_as(own), own))
    if not difference <= tolerance:
        raise ModelError(
            f"replaying {name!r} ({architecture}) differs from its own logits by {difference:.2g}: "
            "its blocks or its read-out are not what interp takes them for, so all results would be wrong."
        )
    # Quantised activations are rounded by the largest of a batch, so that other tokens change a logit a little.
    rounding = _QUANTISED if "quantised" in backend.form else 0.0
    if not _difference(earlier, own[:, :-1]) <= max(tolerance, rounding * scale):
        raise ModelError(f"{name!r} is not causal: its logits depend on later tokens.")
    # A bridge computes attention with other kernels: allow some roundings of the model's dtype in all its blocks.
    tolerance = max(1e-3, 10 * torch.finfo(backend.dtype).eps, rounding) * scale
    difference = 0.0 if original is None else _difference(original, own)
    if not difference <= tolerance:
        raise ModelError(
            f"TransformerLens rebuilds {name!r} ({architecture}) as another model, whose logits "
            f"differ by {difference:.2g}{backend.alternative()}"
        )
    difference = _difference(at_ends, own[rows, ends])
    if not difference <= tolerance:
        raise ModelError(
            f"unembedding single positions of {name!r} ({architecture}) differs from its own logits by "
            f"{difference:.2g}: its unembedding is not where interp takes it to be."
        )


def learn_growth(backend: Backend, ids: Tensor) -> None:
    """Learn from two batches of one text, int64 [batch, pos], how the arguments of each block grow with the batch.

    Raises:
        Unrepeatable: the blocks cannot be run by themselves.
    """
    small = backend.run(ids[:1], _sizes_of_runnable, mids=False)
    large = backend.run(ids[:1].expand(2, -1), _sizes, mids=False)
    backend.growth = [growth(*of_block, (1, 2)) for of_block in zip(small, large, strict=True)]


def _sizes_of_runnable(tape: Tape) -> list[Sizes]:
    for block, call in enumerate(tape.calls):
        before = tensors(call.others)
        tape.run_block(block, call.residual)
        require_unchanged(before, tensors(call.others))
    if tape.last.ndim != 3:
        raise Unrepeatable(f"its blocks pass on a tensor {list(tape.last.shape)}, not one residual for each token.")
    return _sizes(tape)


def _sizes(tape: Tape) -> list[Sizes]:
    return [sizes(call.others) for call in tape.calls]


def _replayed(tape: Tape) -> Tensor:
    """Return logits after running all blocks again from layer 0; two variants are stacked as one batch."""
    residual = tape.residual(0).repeat(2, 1, 1)
    for block in range(tape.n_layers):
        residual = tape.run_block(block, residual)
    return tape.head(residual)


def _in_tiles(tape: Tape) -> Tensor | None:
    """Return logits as the read-out computes them, one range of the vocabulary at a time."""
    head, last = tape.head, tape.last.flatten(0, 1)
    if head.weight is None:
        return None
    d_vocab = len(head.weight)
    stretches = ((start, min(start + CPU_WIDTH, d_vocab)) for start in range(0, d_vocab, CPU_WIDTH))
    normed = head.norm(last)
    return torch.cat([head.tile(normed, *at, torch.empty(len(last), at[1] - at[0])) for at in stretches], dim=1)


def _difference(left: Tensor, right: Tensor) -> float:
    """Return the largest absolute difference: 0 for two equal infinities, NaN if either is NaN."""
    if not left.numel():
        return 0.0
    left, right = left.float(), right.float().to(left.device)
    return float(torch.where(left == right, 0.0, (left - right).abs()).amax())
