"""Identities by which a block shows that a site of the residual stream is what its name says, and fails elsewhere.

Each function runs one block of a tape and returns what is wrong, without a full stop, or an empty string.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeAlias

import torch
from torch import Tensor

from interp.model.sites.hooks import editing, recording
from interp.model.sites.site import Edit, Site, SiteName
from interp.model.tape import Tape

Named: TypeAlias = Callable[[SiteName], Site]
Identity: TypeAlias = Callable[[Tape, int, Named], str]


def enters(tape: Tape, layer: int, named: Named) -> str:
    """`resid_pre` is the residual that a block runs on: set to another one, the block runs on that."""
    residual = tape.residual(layer)
    with recording([named("resid_pre")]) as seen, editing(named("resid_pre"), torch.neg):
        changed = tape.run_block(layer, residual)
    difference = off(seen[0], residual) or off(changed, tape.run_block(layer, -residual))
    return f"what enters it is off by {difference:.2g}" if difference else ""


def leaves(tape: Tape, layer: int, named: Named) -> str:
    """`resid_post` is what the next block reads: set to another one, that is what the block returns."""
    with editing(named("resid_post"), torch.neg), recording([named("resid_post")]) as seen:
        changed = tape.run_block(layer, tape.residual(layer))
    left = tape.residual(layer + 1)
    difference = off(changed, -left) or off(seen[0], changed)
    return f"what leaves it is off by {difference:.2g}" if difference else ""


def stands_between(tape: Tape, layer: int, named: Named) -> str:
    """`resid_mid` is all that follows reads: while it is held, another residual before it changes nothing after it.

    An MLP that runs beside the attention reads what enters the block, and would write something else.
    """
    residual, wrote = tape.residual(layer), [named("resid_mid"), named("mlp_out")]
    with recording(wrote) as clean:
        tape.run_block(layer, residual)
    held, by_mlp = clean
    assert held is not None and by_mlp is not None
    with editing(wrote[0], lambda _: held), recording(wrote[1:]) as seen:
        left = tape.run_block(layer, -residual)
    if differ(seen[0], by_mlp, by_mlp):
        return "its MLP does not read the residual after its attention (the two run in parallel)"
    return "what leaves it depends on more than this" if differ(left, tape.residual(layer + 1), left - held) else ""


def is_read_by_attention(tape: Tape, layer: int, named: Named) -> str:
    """`norm1` is all that the attention reads, and has lost the residual's scale."""
    return _is_norm(tape, layer, named("norm1"), named("attn_out"), [])


def is_read_by_mlp(tape: Tape, layer: int, named: Named) -> str:
    """`norm2` is all that the MLP reads, and has lost the residual's scale."""
    return _is_norm(tape, layer, named("norm2"), named("mlp_out"), [(named("attn_out"), torch.zeros_like)])


def _is_norm(tape: Tape, layer: int, norm: Site, branch: Site, edits: list[tuple[Site, Edit]]) -> str:
    residual = tape.residual(layer)
    held, wrote = run(tape, layer, residual, [norm, branch])
    (again,) = run(tape, layer, -residual, [branch], [(norm, lambda _: held)])
    if differ(again, wrote, wrote):
        return f"{branch.name} depends on more than the norm before it"
    (once,), (twice,) = (run(tape, layer, by * residual, [norm], edits) for by in (1, 2))
    # A norm adds a small number to the variance, which matters where that is small.
    return "it keeps the scale of what it reads" if differ(twice, once, once, share=2e-2) else ""


def activates(tape: Tape, layer: int, named: Named) -> str:
    """Each of `neurons_pre` moves its own of `neurons`, and by an activation: turned around, it is not just negated."""

    def turned(value: Tensor) -> Tensor:
        value = value.clone()
        value[..., ::2] *= -1
        return value

    residual, neurons = tape.residual(layer), [named("neurons")]
    (clean,) = run(tape, layer, residual, neurons)
    (changed,) = run(tape, layer, residual, neurons, [(named("neurons_pre"), turned)])
    if differ(changed[..., 1::2], clean[..., 1::2], clean):
        return "each of it moves other neurons than its own"
    if any(not differ(changed[..., ::2], sign * clean[..., ::2], clean) for sign in (1, -1)):
        return "no activation makes the neurons of it"
    return ""


def routes(tape: Tape, layer: int, named: Named) -> str:
    """`router` is an affine map of what the MLP reads, and where it is turned around the MLP writes something else."""
    residual, router, norm = tape.residual(layer), named("router"), named("norm2")
    none, once, twice = (
        run(tape, layer, residual, [router], [(norm, lambda value, by=by: by * value)])[0]  # type: ignore[misc]
        for by in (0.0, 1.0, 2.0)
    )
    if differ(twice - once, once - none, twice):
        return "it is not an affine map of norm2"
    (clean,) = run(tape, layer, residual, [named("mlp_out")])
    (changed,) = run(tape, layer, residual, [named("mlp_out")], [(router, torch.neg)])
    return "" if differ(changed, clean, clean) else "the MLP does not depend on it"


def run(
    tape: Tape, layer: int, residual: Tensor, sites: list[Site], edits: Sequence[tuple[Site, Edit]] = ()
) -> list[Tensor]:
    """Run a block on a residual with edits, and return what passed through sites."""
    with ExitStack() as hooks:
        for edit in edits:
            hooks.enter_context(editing(*edit))
        seen = hooks.enter_context(recording(sites))
        tape.run_block(layer, residual)
    return [value for value in seen if value is not None]


def differ(one: Tensor | None, other: Tensor, scale: Tensor, share: float = 1e-3) -> bool:
    """Tell whether two values [..., d] differ by more than a share of a scale that rounding may change them by."""
    assert one is not None
    eps = torch.finfo(other.dtype).eps  # which the norm before an MLP may magnify a little
    allowed = max(share, 16 * eps) * _largest(scale) + 4 * eps * _largest(other)
    return not bool((_largest(one - other) <= allowed).all())


def _largest(value: Tensor) -> Tensor:
    return value.abs().amax(dim=-1).float()


def off(whole: Tensor | None, *parts: Tensor | None) -> float:
    """Return the largest difference of a tensor [..., d] from a sum; 0 where it is a matter of rounding."""
    assert whole is not None
    eps = torch.finfo(whole.dtype).eps
    terms = torch.stack([part.reshape(whole.shape).float() for part in (whole, *parts) if part is not None])
    # Two sums round, each to the dtype's eps / 2 of its largest term; blocks may add in another order.
    allowed = max(4 * eps, 1e-5) * terms.abs().amax(dim=(0, -1))
    difference = (terms[0] - terms[1:].sum(dim=0)).abs().amax(dim=-1)
    return 0.0 if bool((difference <= allowed).all()) else float(difference.amax())
