"""Identities by which a block shows that a site of the residual stream is what its name says, and fails elsewhere.

Each function runs one block of a tape and returns what is wrong, without a full stop, or an empty string.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from interp.model.sites.hooks import editing, recording
from interp.model.sites.site import Site, SiteName
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


def differ(one: Tensor | None, other: Tensor, scale: Tensor) -> bool:
    """Tell whether two values [..., d] differ by more than a residual that is held, and so rounded, may change them."""
    assert one is not None
    eps = torch.finfo(other.dtype).eps  # which the norm before an MLP may magnify a little
    allowed = max(1e-3, 16 * eps) * _largest(scale) + 4 * eps * _largest(other)
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
