"""The check that a block adds its branches up: its output is its input plus `attn_out` plus `mlp_out`.

Blocks that normalise after the sum (OPT-350m), scale it, or add a third branch (Gemma 4, Falcon-H1) do not, and nothing
about a model's names tells. So the identity is tried on a few tokens before a site is first offered.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import Tensor

from interp.errors import ModelError
from interp.model.backends.base import Backend
from interp.model.sites import Site, SiteName, recording
from interp.model.tape import Tape

T = TypeVar("T")

BRANCHES: tuple[SiteName, ...] = ("attn_out", "mlp_out")


class Branches:
    """What has been found out about the branches of a model's blocks; each is tried once."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._faults: list[str] | None = None
        self._faults_between: list[str] | None = None
        self._running: ContextVar[Tape | None] = ContextVar("running", default=None)

    def noting(self, program: Callable[[Tape], T], *, mids: bool) -> Callable[[Tape], T]:
        """Return a program in which a site can be asked for the first time; the same one if it is sent away.

        Raises:
            ModelError: with `mids`, there is no residual between attention and MLP that is input + attn_out.
        """
        if mids:
            self._require_mids()
        if self._backend.remote or self._faults is not None:
            return program

        def noted(tape: Tape) -> T:
            token = self._running.set(tape)
            try:
                return program(tape)
            finally:
                self._running.reset(token)

        return noted

    def checked(self, site: Site, name: SiteName, layer: int) -> Site:
        """Return a site, after the check of its block if it is one of the branches.

        Raises:
            ModelError: the block is not the sum of its input and its branches.
        """
        if name not in BRANCHES:
            return site
        if self._faults is None:
            tape = self._running.get()
            # A program may run inside a trace, where no other pass can start.
            self._faults = self._tried(tape) if tape is not None and tape.calls else self._run(mids=False)
        if self._faults[layer]:
            raise ModelError(self._faults[layer] + ("." if self._running.get() is not None else self._instead(layer)))
        return site

    def added(self, vectors: Tensor, layer: int) -> Tensor:
        """Return what a block adds to the residual stream for vectors that its MLP's last matrix writes."""
        site = self._site("mlp_out", layer)
        return vectors if site is None or site.scale == 1.0 else vectors * site.scale

    def _require_mids(self) -> None:
        if self._backend.remote:  # where no site can be read
            return
        if self._faults_between is None:
            self._faults_between = self._run(mids=True)
        for fault in self._faults_between:
            if fault:
                raise ModelError(fault)

    def _run(self, *, mids: bool) -> list[str]:
        ids = self._backend.facts.trial_ids()
        return self._backend.run(ids, self._tried_between if mids else self._tried, mids=mids)

    def _tried(self, tape: Tape) -> list[str]:
        """Return what is wrong with each block; an empty string if nothing is."""
        found = []
        for layer in range(tape.n_layers):
            entered = tape.residual(layer)
            left, parts = self._parts(tape, layer)
            difference = _off(left, entered, *parts.values())
            found.append(
                f"{self._block(layer)} is not its input + attn_out + mlp_out: it is off by {difference:.2g} where it "
                f"adds {_largest(left - entered):.2g}, so neither can be read or changed there"
                if difference
                else ""
            )
        return found

    def _tried_between(self, tape: Tape) -> list[str]:
        found = []
        for layer, mid in enumerate(tape.mids):
            entered = tape.residual(layer)
            left, parts = self._parts(tape, layer)
            differences = [_off(mid, entered, parts["attn_out"])] if "attn_out" in parts else []
            differences += [_off(left, mid, parts["mlp_out"])] if "mlp_out" in parts else []
            found.append(
                ""
                if differences and not min(differences)
                else f"{self._block(layer)} has no residual between attention and MLP that is its input + attn_out; "
                "pass sublayers=False."
            )
        return found

    def _parts(self, tape: Tape, layer: int) -> tuple[Tensor, dict[SiteName, Tensor]]:
        """Return the output of a block, and its branches, those that it shows."""
        sites = {name: site for name in BRANCHES if (site := self._site(name, layer)) is not None}
        left, seen = tape.residual(layer + 1), []
        try:
            with recording(list(sites.values())) as seen:
                left = tape.run_block(layer, tape.residual(layer))
        except ModelError:  # nothing passes through a site: the sum will show it
            pass
        return left, {name: value for name, value in zip(sites, seen, strict=True) if value is not None}

    def _site(self, name: SiteName, layer: int) -> Site | None:
        try:
            return self._backend.site(name, layer)
        except ModelError:
            return None

    def _instead(self, layer: int) -> str:
        """Return the end of a refusal: the other backend, if the block adds up there."""
        own = self._backend
        if own.original is own.running:  # the owner's bridge or nnsight model, which nothing else can run
            return "."
        try:
            other = _other(own)
            shown = [other.site(name, layer) for name in BRANCHES]  # both, or an error
            holds = bool(shown) and not Branches(other)._run(mids=False)[layer]
        except Exception:  # a library can raise anything on an architecture it does not know
            return "."
        return f"; use backend={other.kind!r}." if holds else "."

    def _block(self, layer: int) -> str:
        facts = self._backend.facts
        return f"block {layer} of {facts.name!r} ({facts.architecture}, {self._backend.kind} backend)"


def _other(backend: Backend) -> Backend:
    """Return the model of a backend in the other one."""
    if backend.kind == "bridge":
        from interp.model.backends.nnsight import NNsightBackend

        return NNsightBackend.around(backend.original, backend.facts.name, None)
    from interp.model.backends.bridge import BridgeBackend

    return BridgeBackend.around(backend.original, backend.facts.name, None)


def _off(whole: Tensor, *parts: Tensor) -> float:
    """Return the largest difference of a sum from its parts; 0 where it is a matter of rounding."""
    eps = torch.finfo(whole.dtype).eps
    terms = torch.stack([part.reshape(whole.shape).float() for part in (whole, *parts)])
    # Two sums round, each to the dtype's eps / 2 of its largest term; blocks may add in another order.
    allowed = max(4 * eps, 1e-5) * terms.abs().amax(dim=(0, -1))
    difference = (terms[0] - terms[1:].sum(dim=0)).abs().amax(dim=-1)
    return 0.0 if bool((difference <= allowed).all()) else float(difference.amax())


def _largest(value: Tensor) -> float:
    return float(value.abs().amax())
