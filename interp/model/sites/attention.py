"""Identities of an attention's sites: its pattern mixes the values of each head to `z`, whose outputs are summed.

Each function runs one block of a tape and returns what is wrong, without a full stop, or an empty string.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from interp.model.sites.hooks import editing, recording
from interp.model.sites.identities import Named, differ, run
from interp.model.sites.site import Edit, Site, SiteName
from interp.model.tape import Tape


def mixes(tape: Tape, layer: int, named: Named) -> str:
    """`pattern` @ v = `z`, head by head, with the v that `z` shows while each position attends to itself alone."""
    pattern, z = _run(tape, layer, [named("pattern"), named("z")])
    mixed = torch.einsum("bhqk,bkhd->bqhd", pattern.to(z), _own_values(tape, layer, named))
    return "pattern @ v is not z, head by head" if differ(z, mixed, _own_values(tape, layer, named)) else ""


def carries(tape: Tape, layer: int, named: Named) -> str:
    """`z` is all of the attention that `attn_out` comes from: while it is held, other states change nothing of it."""
    held, wrote = _run(tape, layer, [named("z"), named("attn_out")])
    with editing(named("z"), lambda _: held), recording([named("attn_out")]) as seen:
        tape.run_block(layer, -tape.residual(layer))
    return "attn_out depends on more than z" if differ(seen[0], wrote, wrote) else ""


def holds_values(tape: Tape, layer: int, named: Named) -> str:
    """`v` is what each head reads at a position: `z`, while each position attends to itself alone."""
    (v,) = _run(tape, layer, [named("v")])
    own = _own_values(tape, layer, named)
    if own.shape[2] % v.shape[2] or own.shape[3] != v.shape[3]:
        return f"{list(v.shape[2:])} values are not for {list(own.shape[2:])} heads"
    read = v.repeat_interleave(own.shape[2] // v.shape[2], dim=2)
    return "it is not what the heads read at a position" if differ(own, read, read) else ""


def softens(tape: Tape, layer: int, named: Named) -> str:
    """`softmax(scores)` = `pattern`, also where the scores are set (GPT-OSS leaves a share of it to its sinks)."""

    def opposite(scores: Tensor) -> Tensor:
        return torch.where(scores.isinf(), scores, -scores)

    (scores,) = _run(tape, layer, [named("scores")])
    (pattern,) = _run(tape, layer, [named("pattern")], (named("scores"), opposite))
    shares = pattern.float() / pattern.float().sum(dim=-1, keepdim=True)
    expected = opposite(scores).float().softmax(dim=-1)
    share = max(1e-3, 16 * torch.finfo(pattern.dtype).eps)  # the model's softmax may round to its own dtype
    return "softmax(scores) is not pattern" if differ(shares, expected, expected, share) else ""


def asks(tape: Tape, layer: int, named: Named) -> str:
    """`q` of a head at a position moves that row of that head's `scores`, and nothing else of them."""
    return _moves(tape, layer, named, "q")


def answers(tape: Tape, layer: int, named: Named) -> str:
    """`k` of a head at a position moves that column of the `scores` of the heads that read it, and nothing else."""
    return _moves(tape, layer, named, "k")


def sums(tape: Tape, layer: int, named: Named) -> str:
    """`head_out` of all heads is what their projection gives but for its bias, the same at every position."""
    outputs = named("head_out")
    whole, heads = _run(tape, layer, [replace(outputs, view=None, beside=None), outputs])
    rest = whole - heads.sum(dim=2)
    constant = rest[:1, :1].expand_as(rest)
    return "the heads' outputs do not sum to attn_out minus a bias" if differ(rest, constant, whole) else ""


def _run(tape: Tape, layer: int, sites: list[Site], *edits: tuple[Site, Edit]) -> list[Tensor]:
    """Run a block on the residual that it ran on, with edits, and return what passed through sites."""
    return run(tape, layer, tape.residual(layer), sites, edits)


def _own_values(tape: Tape, layer: int, named: Named) -> Tensor:
    """Return `z` [batch, pos, head, d_head] while each position attends to itself alone."""

    def alone(pattern: Tensor) -> Tensor:
        return torch.eye(*pattern.shape[-2:], dtype=pattern.dtype, device=pattern.device).expand_as(pattern)

    return _run(tape, layer, [named("z")], (named("pattern"), alone))[0]


def _moves(tape: Tape, layer: int, named: Named, name: SiteName) -> str:
    """Turn the sign of each head at one position, which norms, rotations and caps after it keep to that place."""
    (before,) = _run(tape, layer, [named("scores")])
    places: list[Tensor] = []

    def turned(value: Tensor) -> Tensor:
        heads = torch.arange(value.shape[2], device=value.device)
        places[:] = [1 % value.shape[1] + heads % max(1, value.shape[1] - 1)]
        value = value.clone()
        value[:, places[0], heads] *= -1
        return value

    (after,) = _run(tape, layer, [named("scores")], (named(name), turned))
    change = (after - before).nan_to_num(0.0, 0.0, 0.0).abs().float().amax(dim=0)
    finite = torch.where(before.isinf(), 0.0, before).abs().float().amax(dim=(0, 2, 3))
    moved = change > max(1e-4, 8 * torch.finfo(before.dtype).eps) * finite[:, None, None]
    if len(moved) % len(places[0]):
        return f"there are {len(places[0])} heads of it for {len(moved)} of scores"
    at = places[0].repeat_interleave(len(moved) // len(places[0]))
    expected = torch.nn.functional.one_hot(at, moved.shape[-1]).bool()
    along = expected[:, :, None] if name == "q" else expected[:, None, :]
    if bool((moved & ~along).any()) or not bool((moved & along).flatten(1).any(dim=1).all()):
        return f"it moves other scores than those of its {'queries' if name == 'q' else 'keys'}"
    return ""
