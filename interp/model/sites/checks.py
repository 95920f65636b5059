"""The checks of a model's sites: each identity is tried on a few tokens of every block before a site is first offered.

Blocks that normalise after the sum of their branches (OPT-350m), scale it, or add a third branch (Gemma 4, Falcon-H1)
are not their input plus `attn_out` plus `mlp_out`, and nothing about a model's names tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

from interp.errors import ModelError
from interp.model.backends.base import Backend
from interp.model.sites.attention import answers, asks, carries, holds_values, mixes, softens, sums
from interp.model.sites.hooks import recording, without_edits
from interp.model.sites.identities import (
    Identity,
    activates,
    enters,
    is_read_by_attention,
    is_read_by_mlp,
    leaves,
    off,
    routes,
    stands_between,
)
from interp.model.sites.site import Site, SiteName
from interp.model.tape import Tape

T = TypeVar("T")

BRANCHES: tuple[SiteName, ...] = ("attn_out", "mlp_out")
IDENTITIES: Mapping[SiteName, tuple[Identity, ...]] = {
    "resid_pre": (enters,),
    "resid_post": (leaves,),
    "resid_mid": (stands_between,),
    "norm1": (is_read_by_attention,),
    "norm2": (is_read_by_mlp,),
    "neurons_pre": (activates,),
    "router": (routes,),
    "pattern": (mixes,),
    "z": (mixes, carries),
    "v": (mixes, holds_values),
    "scores": (softens, mixes),
    "q": (softens, asks),
    "k": (softens, answers),
    "head_out": (mixes, carries, sums),
}
"""A condition on a site in a block, beside the sum of the block's branches."""
_OF_THE_SUM = (*BRANCHES, "resid_mid")  # which a bias beside `attn_out` would be missing from


class Checks:
    """The findings about the sites of a model's blocks; each is tried once.

    Args:
        backend: the model.
        first: called before a pass of a check, which must not be the model's first.
        lock: of the model.
    """

    def __init__(
        self, backend: Backend, first: Callable[[], object], lock: AbstractContextManager[Any] | None = None
    ) -> None:
        self._backend, self._lock = backend, nullcontext() if lock is None else lock
        self._first = first
        self._faults: dict[str, list[str]] = {}
        self._faults_between: list[str] | None = None
        self._running: ContextVar[Tape | None] = ContextVar("running", default=None)

    def noting(self, program: Callable[[Tape], T], *, mids: bool) -> Callable[[Tape], T]:
        """Return a program in which a site can be asked for the first time; the same one if it is sent away.

        Raises:
            ModelError: with `mids`, there is no residual between attention and MLP that is input + attn_out.
        """
        if mids:
            self._require_mids()
        if self._backend.remote:
            return program

        def noted(tape: Tape) -> T:
            token = self._running.set(tape)
            try:
                return program(tape)
            finally:
                self._running.reset(token)

        return noted

    def checked(self, site: Site, name: SiteName, layer: int) -> Site:
        """Return a site, after the check of its block by the identities of its name.

        Raises:
            ModelError: an identity does not hold there.
        """
        if name in _OF_THE_SUM:
            self._require("", self._tried, layer, name)
        for identity in IDENTITIES.get(name, ()):
            self._require(identity.__name__, partial(self._tried_identity, identity), layer, name)
        return site

    def _require(self, key: str, tried: Callable[[Tape], list[str]], layer: int, name: SiteName) -> None:
        tape = self._running.get()
        if key not in self._faults:
            # A program may run inside a trace, where no other pass can start.
            self._faults[key] = tried(tape) if tape is not None and tape.calls else self._run(tried)
        if fault := self._faults[key][layer]:
            if key:
                raise ModelError(f"{self._block(layer)} shows no {name}: {fault}.")
            raise ModelError(fault + (self._instead(layer) if tape is None else "."))

    def added(self, vectors: Tensor, layer: int) -> Tensor:
        """Return what a block adds to the residual stream for vectors that its MLP's last matrix writes."""
        site = self._site("mlp_out", layer)
        return vectors if site is None or site.scale == 1.0 else vectors * site.scale

    def _require_mids(self) -> None:
        if self._backend.remote:  # where no site can be read
            return
        if self._faults_between is None:
            self._faults_between = self._run(self._tried_between, mids=True)
        for fault in self._faults_between:
            if fault:
                raise ModelError(fault)

    def _run(self, tried: Callable[[Tape], list[str]], *, mids: bool = False) -> list[str]:
        with without_edits(self._lock):  # a site may be asked for while others are edited
            self._first()
            return self._backend.run(self._backend.facts.trial_ids(), tried, mids=mids)

    def _tried_identity(self, identity: Identity, tape: Tape) -> list[str]:
        """Return what is wrong in each block; an empty string where nothing is."""
        found = []
        for layer in range(tape.n_layers):
            try:
                found.append(identity(tape, layer, lambda one, at=layer: self._backend.site(one, at)))  # type: ignore[misc]
            except ModelError as error:  # the block lacks a site that the identity needs, or nothing passes through it
                found.append(str(error).removesuffix("."))
            except RuntimeError:  # a tensor has another shape than the site's
                found.append("its tensors have other shapes")
        return found

    def _tried(self, tape: Tape) -> list[str]:
        """Return what is wrong with each block; an empty string if nothing is."""
        found = []
        for layer in range(tape.n_layers):
            entered = tape.residual(layer)
            left, parts = self._parts(tape, layer)
            difference = off(left, entered, *parts.values())
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
            differences = [off(mid, entered, parts["attn_out"])] if "attn_out" in parts else []
            differences += [off(left, mid, parts["mlp_out"])] if "mlp_out" in parts else []
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
            holds = bool(shown) and _adds_up(other, layer)
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


def _adds_up(backend: Backend, layer: int) -> bool:
    checks = Checks(backend, lambda: None)
    return not checks._run(checks._tried)[layer]


def _largest(value: Tensor) -> float:
    return float(value.abs().amax())
