"""ReAGent's recursion run on a model, with warnings if its stop rule cannot work."""

from __future__ import annotations

from interp.authoring import Subject, progress_bar, warn
from probes.attribution._targets import Targets
from probes.attribution.reagent._cases import cases_of, reader_of
from probes.attribution.reagent._recursion import Case, ProbeOutcome
from probes.attribution.reagent._settings import ReagentSettings

# On a CPU larger batches are not faster, and steps computed beyond a stop are wasted.
_CPU_ROUND = 1024


def explain(
    subject: Subject,
    targets: Targets,
    settings: ReagentSettings,
) -> tuple[list[Case], list[ProbeOutcome]]:
    """Run all probes of all targets, and warn about unreliable scores.

    Args:
        subject: the model.
        targets: the targets to explain.
        settings: of the recursion; the implementation "inseq" also warns if no probe of a target stopped.

    Returns:
        The targets as cases, and the outcomes of their probes.
    """
    found = cases_of(subject, targets, settings.sampler, protect_bos=settings.protect_bos, usable=settings.usable)
    cases = found.all
    short = sum(int(case.free.sum()) <= settings.keep for case in cases)
    if short:
        warn(
            f"{short} of {len(cases)} targets follow at most keep={settings.keep} tokens that may be replaced: their "
            "stop test replaces nothing, so their probes stop at once and their scores are noise; lower keep, or give "
            "longer prompts.",
        )
    unlikely = int((found.ranks >= settings.tolerance).sum())
    if unlikely:
        warn(
            f"{unlikely} of {len(cases)} targets are not among the {settings.tolerance} likeliest tokens even after "
            f"the intact prompt: their probes may run for all {settings.max_steps} steps; raise tolerance, or lower "
            "max_steps.",
        )
    n, mean = len(cases) * settings.n_probes, round(float((targets.pos + 1).double().mean()))
    of_a_step = found.cost(2 * settings.n_probes)
    cost = f"2 passes of {mean} tokens a probe and step, {2 * n * settings.max_steps:,} at most"
    cost += of_a_step and f"; {of_a_step} a step of all probes, which take a few each"
    with progress_bar(n, "probe", f"reagent ({cost})") as bar:
        outcomes = settings.run(
            cases, reader_of(subject, targets), tokens_per_round=_tokens_per_round(subject), stopped=bar.update
        )
    stuck = sum(not outcome.converged.any() for outcome in outcomes)
    if stuck and settings.implementation == "inseq":
        warn(
            f"no probe of {stuck} of {len(cases)} targets stopped; their scores are means over all probes.",
        )
    return cases, outcomes


def _tokens_per_round(subject: Subject) -> int:
    budget = subject.batch_tokens()
    return min(budget, _CPU_ROUND) if subject.device.type == "cpu" else budget
