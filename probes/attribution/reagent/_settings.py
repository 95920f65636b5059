"""The settings of ReAGent: types, defaults and checks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeAlias, TypedDict, get_args

from interp.authoring import InputError, Positions, UnknownName, Usable
from probes.attribution._checks import check_counts
from probes.attribution._finding import Continuation
from probes.attribution._replacements import OwnSampler, SamplerName, sampler_name
from probes.attribution._target_ids import Target
from probes.attribution._unigram import Counts
from probes.attribution.reagent._frames import Implementation
from probes.attribution.reagent._recursion import Recursion
from probes.attribution.reagent.masked_lm import MaskedLM

Sampler: TypeAlias = SamplerName | MaskedLM | OwnSampler | Counts


class ReagentOptions(TypedDict, total=False):
    """The types of ReAGent's options as a method of `attribute`; see `probes.reagent`."""

    replace_ratio: float
    keep: int
    tolerance: int
    max_steps: int
    n_probes: int
    sampler: Sampler
    implementation: Implementation
    protect_bos: bool
    usable: Usable


class ReagentArguments(ReagentOptions, total=False):
    """The types of the arguments that `reagent` and `reagent_probes` share."""

    target: Target
    continuation: Continuation | None
    target_pos: Positions
    seed: int
    truncate: bool


@dataclass(frozen=True)
class ReagentSettings(Recursion):
    """The settings of the recursion, plus the sampler and the treatment of its results; see `probes.reagent`.

    Raises:
        InputError: a setting is out of range.
        UnknownName: there is no such implementation.
    """

    sampler: Sampler = "unigram"
    implementation: Implementation = "paper"
    protect_bos: bool = True
    usable: Usable = None

    def __post_init__(self) -> None:
        check_counts(keep=self.keep, tolerance=self.tolerance, max_steps=self.max_steps, n_probes=self.n_probes)
        if not 0 < self.replace_ratio < 1:
            raise InputError(f"replace_ratio={self.replace_ratio}; give a share above 0 and below 1.")
        if self.implementation not in get_args(Implementation):
            raise UnknownName("implementation", str(self.implementation), get_args(Implementation))

    def parameters(self) -> dict[str, Any]:
        """Return all settings but the seed and the usable tokens, for provenance; see `sampler_facts` for these."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("seed", "usable")}
        return own | {"sampler": sampler_name(self.sampler)}
