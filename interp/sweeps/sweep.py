"""`interp.sweep`: run a probe over very many prompts, in shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from interp.checks import checked
from interp.data.folders import Folder
from interp.errors import InputError, InterpError, warn
from interp.model.loading import Source, load
from interp.model.tokens import Texts
from interp.options import options
from interp.runs import arguments, registry
from interp.runs.code import hash_of
from interp.runs.progress import progress_bar
from interp.runs.rehearsal import rehearse
from interp.runs.run import Run, kept_as
from interp.runs.streams import Sums
from interp.sweeps.engines.choice import Engine, Executor
from interp.sweeps.manifest import Manifest, alone, read_manifest, write_manifest
from interp.sweeps.plan import Each, divide, prompt_hashes, selector
from interp.sweeps.result import Sweep
from interp.sweeps.shard import Done, Shard, Task
from interp.sweeps.sums import write_rows
from interp.sweeps.work import Work

# What a run's identity holds that does not decide the rows of a prompt.
_NOT_OF_A_PROMPT = ("device", "data_sha256")
_NOT_OF_SUMS = ("device",)


@checked
def sweep(
    probe: str | Callable[..., pd.DataFrame],
    source: Source,
    texts: Texts,
    *,
    out: str | Path,
    executor: Executor = "local",
    workers: int | None = None,
    num_gpus: float = 0,
    address: str | None = None,
    slurm: Mapping[str, Any] | None = None,
    loading: Mapping[str, Any] | None = None,
    shard_tokens: int = 65536,
    per_prompt: Mapping[str, Sequence[Any]] | None = None,
    **parameters: Any,
) -> Sweep:
    """Run a probe over prompts in shards, each a Parquet file in a folder, computed once and by whoever comes first.

    A shard's name is a hash of what decides its rows: probe, parameters, code and versions, the model's weights and
    dtype, its prompts and your columns. So an interrupted sweep goes on where it stopped, more prompts add shards, and
    several processes may sweep into one folder at once. A damaged shard is computed again. Rows are those of the probe
    itself; their last bits depend on the division into shards and on a worker's number of threads, as sums are divided
    otherwise. Where a probe draws at random among prompts (the donors of `layer_robustness`), it draws within a shard.

    A probe about all prompts together (`next_token_law`, `microscope`) is swept if it adds up sums: a shard keeps its
    own in the folder's `_sums`, and at the end they are merged into the probe's rows. Since which prompts are held out
    or drawn depends on all of them, more prompts need another folder.

    Args:
        probe: the name of a probe whose rows are about single prompts, or come from sums over them; or the function.
        source: anything `interp.load` takes; for workers in other processes a name or path that they can load too.
        texts: anything `Subject.tokens` takes. A frame with a column `prompt_id` may come in any order.
        out: a folder, or a URL such as "s3://bucket/runs" that fsspec knows. One folder holds one sweep.
        executor: "local" (this process), "processes" (several on this machine), "ray" (actors on this machine or on a
            cluster; needs `interp-probes[ray]`) or "submitit" (a job array of Slurm; needs `interp-probes[slurm]`).
        workers: processes, actors or jobs; by default one for every two cores or, on Ray, for every `num_gpus`.
        num_gpus: GPUs of each actor or job, on which it loads the model unless `loading` says otherwise.
        address: of a Ray cluster; by default one that Ray finds, or else Ray is started on this machine.
        slurm: parameters of submitit's executor, such as {"slurm_partition": "gpu", "timeout_min": 600}. A job that
            runs out of time, 4 hours by default, is asked for again. Without Slurm the jobs run on this machine.
        loading: further arguments of `interp.load` for the workers, such as {"dtype": "bfloat16"}.
        shard_tokens: tokens of a shard; a killed worker loses one shard at most.
        per_prompt: parameters of the probe that have one value for each prompt, in the order of the texts, such as
            {"targets": [[" Paris"], [" Rome"]]}; each shard is given its own prompts' values.
        **parameters: the probe's own.

    Returns:
        The sweep: `.summary()`, `.frame(columns=, where=)`, `.dataset` (pyarrow), `.status()`.

    Raises:
        InputError: what the probe refuses, before anything is computed; the folder holds another sweep; the probe's
            rows are about all prompts and not made of sums; the executor's library is not installed.
        InterpError: workers die over a shard again and again, or keep shards in a folder of their own.

    >>> import interp, tempfile
    >>> done = interp.sweep("logit_lens", "reference", ["Once upon a time", "The cat"], out=tempfile.mkdtemp())
    >>> done.status()["shards_done"], len(done.frame(columns=["prompt_id", "kl_to_final"], where="layer == 8"))
    (1, 8)
    """
    name, function = _probe(probe)
    engine = Engine(executor, workers, num_gpus, address, slurm)
    engine.require_loadable(source)
    if shard_tokens < 1:
        raise InputError(f"shard_tokens={shard_tokens}: give at least 1.")
    loading = dict(loading or {})
    folder = Folder(str(out))
    subject = load(source, **engine.planning(loading))
    each = Each(per_prompt or {})
    if each.whole and not function.probe.of_single_prompts:  # type: ignore[attr-defined]
        raise InputError(f"per_prompt={list(each.whole)} is for rows about single prompts; those of {name!r} are not.")
    planned: Run = rehearse(function, name, subject, texts, parameters | each.whole)
    each.fit(planned.tokens)
    total = _sums(function.probe, planned)  # type: ignore[attr-defined]
    manifest = _plan(planned, folder, shard_tokens, each, together=total is not None)
    found = Sweep(out, prompt_ids=planned.tokens.table["prompt_id"].tolist())
    missing = found.missing()
    if missing:
        select = selector(texts)
        work = Work(
            probe=probe if isinstance(probe, str) else function,
            source=subject if executor == "local" else source,
            loading={} if executor == "local" else engine.loading(loading),
            arguments=parameters,
            run_id=manifest.provenance["run_id"],
            parameters=manifest.provenance["parameters"],
            fingerprint=subject.fingerprint,
            out=str(out),
            kept_as=manifest.kept_as,
            memory=options.memory,
            tokens=None if total is None else planned.tokens,
        )
        tasks = [
            Task(shard, [] if total is not None else select(shard.prompt_ids), each.of(shard.prompt_ids))
            for shard in missing
        ]
        with _hinting(parameters, len(planned.tokens)):
            _wait_for(engine.run(work, tasks), missing, name)
        if executor != "local" and (lost := found.missing()):
            raise InterpError(
                f"workers computed all shards, and {len(lost):,} of them are not in out={str(out)!r}; give a folder "
                "that all machines share, or a URL."
            )
    if total is not None and not found.has_rows():
        write_rows(manifest, str(out), planned, total)
    return found


def _sums(probe: registry.Probe, planned: Run) -> Sums | None:
    """Return empty sums of a probe whose rows are about all prompts together; None where they are about single ones."""
    if probe.of_single_prompts:
        return None
    if probe.sums is None:
        raise InputError(
            f"rows of {probe.name!r} are about all texts together, not about single prompts, and it does not add up "
            "sums; call it itself."
        )
    sums: Sums = probe.sums(planned)
    return sums


def _probe(probe: str | Callable[..., pd.DataFrame]) -> tuple[str, Callable[..., pd.DataFrame]]:
    found = registry.get(probe) if isinstance(probe, str) else getattr(probe, "probe", None)
    if not isinstance(found, registry.Probe):
        raise InputError(f"{getattr(probe, '__name__', probe)!r} is not a probe; mark it with @interp.probe.")
    if not arguments.takes_texts(found.function):
        raise InputError(f"{found.name!r} reads no texts, so there is nothing to sweep over; call the probe itself.")
    return found.name, found.function


@contextmanager
def _hinting(parameters: Mapping[str, Any], n_prompts: int) -> Iterator[None]:
    """Add to the error of a shard what may be wrong with a parameter that has as many values as there are prompts."""
    try:
        yield
    except InputError as error:
        lists = [name for name, value in parameters.items() if isinstance(value, list | tuple)]
        long = [name for name in lists if len(parameters[name]) == n_prompts > 1]
        if not long:
            raise
        hint = f"in a shard; if {long[0]} has a value for each prompt, pass it in per_prompt="
        raise InputError(f"{str(error).rstrip('.')} ({hint}).") from error


def _plan(planned: Run, folder: Folder, shard_tokens: int, each: Each, *, together: bool) -> Manifest:
    """Read or begin the folder's plan, and add the prompts that are not in it."""
    left_out = _NOT_OF_SUMS if together else _NOT_OF_A_PROMPT
    identity = {name: value for name, value in planned.identity.items() if name not in left_out}
    identity["parameters"] = {name: value for name, value in identity["parameters"].items() if name not in each.whole}
    run_id = hash_of(identity)
    provenance = json.loads(json.dumps(planned.provenance(), default=str)) | identity | {"run_id": run_id}
    for name in left_out if together else (*left_out, "n_prompts", "n_tokens", "n_tokens_cut"):
        provenance.pop(name, None)
    name = f"{planned.schema.probe}-{kept_as(run_id, planned.subject, planned.schema)}"
    hashes = prompt_hashes(planned.tokens, each)
    with alone(folder):
        new = Manifest(planned.schema.probe, name, provenance, together=together)
        manifest = read_manifest(folder) or new
        manifest.require_same(new, folder.location)
        manifest.require_same_prompts(hashes, folder.location)
        # An unfinished shard of which some prompts are not given now cannot be computed: the given ones move on.
        partly = {one.name for one in manifest.shards if not hashes.keys() >= set(one.prompt_ids)}
        torn = [one for one in manifest.unfinished(folder) if one.name in partly] if partly else []
        manifest.drop(torn)
        n_tokens = dict(zip(hashes, map(len, planned.tokens.ids), strict=True))
        more = {number: n for number, n in n_tokens.items() if number not in manifest.hashes}
        if more or torn:
            manifest.add(divide(more, hashes, name, shard_tokens), {number: hashes[number] for number in more})
            write_manifest(folder, manifest)
    return manifest


def _wait_for(done: Iterator[Done], missing: Sequence[Shard], label: str) -> None:
    """Let an engine work, with one bar over all prompts; what several shards warn of is said once."""
    sizes = {shard.name: len(shard.prompt_ids) for shard in missing}
    with progress_bar(sum(sizes.values()), "prompt", label, n_steps=len(sizes)) as bar:
        said: set[str] = set()
        for one in done:
            bar.update(sizes[one.name])
            for message in one.warnings:
                if message not in said:
                    warn(message)
                    said.add(message)
