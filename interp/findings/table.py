"""Test all claims on a model, in one table."""

from __future__ import annotations

import fnmatch
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import InputError, UnknownName
from interp.findings import claim as installed
from interp.findings import plot
from interp.findings.claim import Claim
from interp.findings.row import parameters_of, rows_of
from interp.frames.schema import Column, Schema, columns
from interp.model.loading import Source
from interp.model.texts.forms import frame_of_texts
from interp.model.tokens import Texts
from interp.runs import registry
from interp.runs.accessor import concat
from interp.runs.code import code_digest, hash_of
from interp.runs.progress import progress_bar
from interp.runs.registry import probe
from interp.runs.run import Run, kept_as
from interp.runs.store import Store
from interp.stats import check_resampling, holm

_LOG = logging.getLogger("interp.findings")

FINDINGS = Schema(
    probe="findings",
    paper="each claim's own",
    rows="one per model and claim",
    columns=columns(
        "model",
        "run_id",
        Column("claim", "str", "id of the claim; `interp.findings.get(id)` returns all of it"),
        Column("statement", "str", "the claim in a few words"),
        Column("paper", "str", "the paper it comes from"),
        Column("says", "str", "what the paper reports and with which control, in our own words"),
        Column("effect", "float", "mean over units, in the statistic's own unit", missing=True),
        Column("low", "float", "lower end of the effect's interval", missing=True),
        Column("high", "float", "upper end of the effect's interval", missing=True),
        Column("level", "float", "confidence level of the intervals", "0..1", 0.0, 1.0),
        Column("comparison", "str", "what the effect was compared with"),
        Column(
            "threshold", "float", "the number compared with; the control's mean if that was the control", missing=True
        ),
        Column("p", "float", "two-sided p-value of the effect being the threshold", "0..1", 0.0, 1.0, missing=True),
        Column("p_holm", "float", "p after Holm's correction over the model's claims in this call", "0..1", 0, 1, True),
        Column("control_effect", "float", "mean of the control", missing=True),
        Column("difference", "float", "mean over units of effect - control", missing=True),
        Column("difference_low", "float", "lower end of the difference's interval", missing=True),
        Column("difference_high", "float", "upper end of the difference's interval", missing=True),
        Column("unit", "str", "what was resampled: prompts, letters, ..."),
        Column("n", "int", "units with a value", low=0),
        Column("n_skipped", "int", "units without a value, of prompts also those that gave no rows", low=0),
        Column(
            "state", "str", "holds, fails or undecided; skipped if it could not be tested; error if its code failed"
        ),
        Column("reason", "str", "why it is not decided, what the interval does not show, and all caveats; else empty"),
        Column("caveats", "str", "what the probe warned of, and the share of tokens that were cut"),
        Column("note", "str", "how the check differs from the paper"),
        Column("probe", "str", "the probe that measured it"),
        Column("probe_run_id", "str", "run_id of the probe's run; empty if it did not run"),
        Column("data", "str", "the texts and their number; empty for a probe of weights"),
        Column("data_sha256", "str", "hash of the texts' tokens and prompt numbers; empty for a probe of weights"),
        Column("n_tokens_cut", "int", "tokens of the texts cut off for the model's context", low=0),
    ),
)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the matrix: a row per claim, with its state on each model in a column named after the model.

    Args:
        frame: of `findings`. Two models with one name are distinguished by their run_id.
    """
    names = frame.drop_duplicates("run_id")["model"]
    several = set(names[names.duplicated(keep=False)])
    labels = [f"{name} {run}" if name in several else name for name, run in zip(frame.model, frame.run_id, strict=True)]
    matrix = frame.assign(label=labels).pivot(index="claim", columns="label", values="state")
    matrix = matrix.reindex(index=frame["claim"].unique(), columns=list(dict.fromkeys(labels)))
    facts = frame.drop_duplicates("claim").set_index("claim")[["statement", "paper"]]
    joined = facts.join(matrix).reset_index()
    joined.columns.name = None
    return joined


@probe(FINDINGS, plot=plot.findings, summarise=summarise, listed=False)
def findings(
    models: Source | Sequence[Source],
    claims: str | Claim | Sequence[str | Claim] | None = None,
    *,
    texts: Texts | None = None,
    seed: int = 0,
    level: float = 0.95,
    n_resamples: int = 9999,
    out: str | Path | None = None,
    train: bool | str | Path = False,
) -> pd.DataFrame:
    """Test claims on models.

    The interval of the effect over units decides a claim, never the effect alone. The decision stands only if its
    p-value survives Holm's correction across the claims tested on the model in this call. Claims on the same probe,
    texts and parameters share one run. A claim that cannot be tested on a model (no tokenizer, no MLP neurons, too
    short a context) is "skipped", with the reason; one whose own code fails is an "error", and the others go on. What a
    probe warns of is shown once and is part of the verdict's reason. The logger "interp.findings" is told of each run
    as it begins, and of each verdict.

    Args:
        models: anything `interp.load` takes, or a list of such.
        claims: claims or their ids, in which `*` matches anything: "robustness.*". None takes all installed ones.
        texts: used in place of the shipped stories, which the shipped model wrote itself: in any form that a probe
            takes, except token ids.
        seed: of the bootstrap, and of every probe that takes one.
        level: of the intervals.
        n_resamples: bootstrap draws.
        out: a folder where verdicts are kept as they are reached; an interrupted call resumes there.
        train: make what claims need of a model first, such as masks, which takes minutes; claims that need it are
            skipped otherwise. It is kept by the model's fingerprint in the user's cache (`INTERP_CACHE`), where an
            interrupted training resumes. A file or folder of .txt files trains on these in place of the shipped texts.

    Returns:
        One row per model and claim. `.interp.summary()` is the matrix of claims by models.

    Raises:
        InputError: there are no models or claims, two claims have one id, an argument is out of range, or there are
            no texts to train on.
        UnknownName: there is no such claim.

    >>> frame = findings("reference", "neurons.prediction")
    >>> frame[["model", "claim", "unit"]].values.tolist()
    [['reference', 'neurons.prediction', 'neurons']]
    """
    chosen = _chosen(claims)
    sources = list(models) if isinstance(models, list | tuple) else [models]
    if not sources:
        raise InputError("no models were given; pass at least one.")
    check_resampling(level, n_resamples, least=99)
    if not isinstance(train, bool) and not Path(train).exists():
        raise InputError(f"train={str(train)!r}: there is no such file; give one, a folder of .txt files, or True.")
    own_texts = None if texts is None else frame_of_texts(texts)["text"].tolist()
    settings = {"seed": seed, "level": level, "n_resamples": n_resamples, "texts": own_texts}
    shown: set[Any] = set()  # warnings that the user has seen in this call
    return concat([_of_model(source, chosen, settings, out, shown, train) for source in sources])


def _chosen(claims: str | Claim | Sequence[str | Claim] | None) -> list[Claim]:
    asked = ["*"] if claims is None else [claims] if isinstance(claims, str | Claim) else list(claims)
    chosen: dict[str, Claim] = {}
    for one in asked:
        found = [one] if isinstance(one, Claim) else [installed.get(id) for id in _ids(one)]
        for claim in found:
            if chosen.setdefault(claim.id, claim) is not claim:
                raise InputError(f"two claims have the id {claim.id!r}; rename one.")
    if not chosen:
        raise InputError("no claims were given, and none are installed; pass at least one.")
    return list(chosen.values())


def _ids(pattern: str) -> list[str]:
    known = installed.names()
    found = [id for id in known if fnmatch.fnmatchcase(id, pattern)]
    if not found and pattern != "*":
        raise UnknownName("claim", pattern, known)
    return found


def _of_model(
    source: Source,
    chosen: Sequence[Claim],
    settings: Mapping[str, Any],
    out: str | Path | None,
    shown: set[Any],
    train: bool | str | Path,
) -> pd.DataFrame:
    parameters = {"claims": {claim.id: claim.digest() for claim in chosen}} | dict(settings)
    if train is not False:
        parameters["train"] = str(train)
    run = Run(FINDINGS, source, None, parameters=parameters, seed=settings["seed"])
    store = None if out is None else Store(out, _kept_as(run, settings), key="digest")
    keys = {} if store is None else {claim.id: _key_of(claim, train) for claim in chosen}
    rows: dict[str, dict[str, Any]] = {}
    if store:
        kept = {row["digest"]: row for row in store.read().to_dict("records")}
        rows = {claim.id: kept[keys[claim.id]] for claim in chosen if keys[claim.id] in kept}
    runs: dict[str, list[Claim]] = {}
    for claim in chosen:
        if claim.id not in rows:
            runs.setdefault(claim.run_key(), []).append(claim)
    kept_before = f", {len(rows)} of them kept from an earlier call" if rows else ""
    _LOG.info("%s: %d claims in %d runs%s", run.subject.name, len(chosen), len(runs), kept_before)
    started = time.monotonic()
    with progress_bar(len(runs), "run", run.subject.name) as bar:
        for n_done, sharing in enumerate(runs.values()):
            bar.set_postfix_str(sharing[0].probe)
            _LOG.info("run %d of %d: %s for %s", n_done + 1, len(runs), sharing[0].probe, _ids_of(sharing))
            for claim, row in rows_of(run.subject, sharing, {**settings, "train": train}, shown):
                rows[claim.id] = row
                # A claim that was not tested is not kept: the cause may be fixed before the next call.
                if store is not None and row["state"] not in ("skipped", "error"):
                    store.write(hash_of({"verdict": keys[claim.id]}), pd.DataFrame([row | {"digest": keys[claim.id]}]))
                _LOG.info("  %s %s after %.0f s", claim.id, row["state"], time.monotonic() - started)
            bar.update()
    return run.frame([_after_holm([rows[claim.id] for claim in chosen], settings["level"])])


def _ids_of(claims: Sequence[Claim]) -> str:
    return ", ".join(claim.id for claim in claims)


def _kept_as(run: Run, settings: Mapping[str, Any]) -> str:
    """Hash what all verdicts of a call share; each verdict's own key holds the rest."""
    identity = {name: run.identity[name] for name in ("fingerprint", "dtype", "backend", "device", "edits")}
    return kept_as(hash_of(identity | dict(settings)), run.subject, FINDINGS)


def _key_of(claim: Claim, train: bool | str | Path) -> str:
    """Return what a claim's verdict is kept by; what was trained on counts only for claims that train."""
    trained = ""
    with suppress(UnknownName):
        trained = f"-{train}" if train is not False and "train" in parameters_of(claim) else ""
    return f"{claim.digest()}-{_code_of(claim)}{trained}"


def _code_of(claim: Claim) -> str:
    """Hash the code that a verdict depends on: the probe's, the statistic's and `interp`."""
    with suppress(UnknownName):  # the verdict is "skipped" and not kept
        return code_digest(claim.statistic, claim.measure or registry.get(claim.probe).function)
    return code_digest(claim.statistic)


def _after_holm(rows: Sequence[Mapping[str, Any]], level: float) -> dict[str, np.ndarray]:
    """Apply Holm's correction, which may turn a verdict into "undecided", and build the frame's columns."""
    table = pd.DataFrame(list(rows))
    table["p_holm"] = holm(table["p"].to_numpy(dtype=float))
    lost = table["state"].isin(["holds", "fails"]) & ~(table["p_holm"] <= 1 - level)
    n_tested = int(table["p"].notna().sum())
    alone = table["state"] + f" alone, not after Holm over {n_tested} claims"
    table["reason"] = table["reason"].mask(lost, alone + table["reason"].map(lambda why: f"; {why}" if why else ""))
    table["state"] = table["state"].mask(lost, "undecided")
    names = [column.name for column in FINDINGS.columns if column.name not in ("model", "run_id")]
    return {name: table[name].to_numpy(dtype=object if FINDINGS[name].kind == "str" else None) for name in names}
