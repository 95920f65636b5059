"""The checks of a model's sites: each identity is tried on a few tokens of every block before a site is first offered.

Blocks that normalise after the sum of their branches (OPT-350m), scale it, or add a third branch (Gemma 4, Falcon-H1)
are not their input plus `attn_out` plus `mlp_out`, and nothing about a model's names tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import cached_property, partial
from typing import Any, TypeVar, get_args

from torch import Tensor

from interp.errors import ModelError
from interp.model.backends.base import Backend
from interp.model.sites.attention import answers, asks, carries, holds_values, mixes, softens, sums
from interp.model.sites.hooks import without_edits
from interp.model.sites.identities import (
    Identity,
    activates,
    enters,
    is_read_by_attention,
    is_read_by_mlp,
    leaves,
    routes,
    stands_between,
)
from interp.model.sites.site import Site, SiteName
from interp.model.sites.trials import BRANCHES, AllSites, NamedSite, faults_between, faults_of, faults_of_sums, shown
from interp.model.tape import Tape

T = TypeVar("T")

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

    def site(self, name: SiteName, layer: int) -> Site:
        """Return a site, after the check of its block by the identities of its name.

        Raises:
            ModelError: the block does not show it, or an identity does not hold there.
        """
        if self._backend.remote:
            self._first()  # which may replace the modules
        site = self._backend.site(name, layer)
        if name in _OF_THE_SUM:
            self._require("", self._sums, layer, name)
        for identity in IDENTITIES.get(name, ()):
            self._require(identity.__name__, partial(faults_of, identity, self._sites), layer, name)
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
        site = shown(self._backend.site, "mlp_out", layer)
        return vectors if site is None or site.scale == 1.0 else vectors * site.scale

    @cached_property
    def _sites(self) -> NamedSite:
        """The sites of the model's blocks; those of a model on another machine are sent there, found beforehand."""
        if not self._backend.remote:
            return self._backend.site
        return AllSites.of(self._backend.site, get_args(SiteName), self._backend.facts.n_layers)

    @cached_property
    def _blocks(self) -> list[str]:
        return [self._block(layer) for layer in range(self._backend.facts.n_layers)]

    @cached_property
    def _sums(self) -> Callable[[Tape], list[str]]:
        return partial(faults_of_sums, self._sites, self._blocks)

    def _require_mids(self) -> None:
        if self._faults_between is None:
            self._faults_between = self._run(partial(faults_between, self._sites, self._blocks), mids=True)
        for fault in self._faults_between:
            if fault:
                raise ModelError(fault)

    def _run(self, tried: Callable[[Tape], list[str]], *, mids: bool = False) -> list[str]:
        with without_edits(self._lock):  # a site may be asked for while others are edited
            self._first()
            return self._backend.run(self._backend.facts.trial_ids(), tried, mids=mids)

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
    return not checks._run(checks._sums)[layer]
