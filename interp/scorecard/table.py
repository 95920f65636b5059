"""Score tokenizers on texts, by metrics that have one definition and need no outside data."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from interp.frames.build import build
from interp.frames.schema import VOCABULARY, Column, Schema, columns
from interp.runs.accessor import attach, concat
from interp.runs.code import code_digest_of_probe, hash_of, versions
from interp.runs.progress import progress_bar
from interp.runs.registry import probe
from interp.scorecard import plot
from interp.scorecard.given import aligned_texts, digest, named_texts, named_tokenizers
from interp.scorecard.reading import Reader
from interp.stats import check_resampling, ratio_over_prompts
from interp.stats.resampling import check_seed
from interp.tokenization.entropy import renyi_efficiency

RATIOS = {  # metric: what is added up over texts, and what its sum is divided by
    "tokens_per_byte": ("tokens", "bytes"),
    "tokens_per_word": ("tokens", "words"),
    "whole_words": ("whole_words", "words"),
    "shortest_gap": ("spelt_tokens", "fewest"),
    "log10_encodings_per_byte": ("log10_encodings", "spelt_bytes"),
}
ORDERS = (1.0, 2.5, 3.0)
PAPER = (
    "Zouhar et al. (2023), arXiv 2306.16842; Petrov et al. (2023), arXiv 2305.15425; Schmidt et al. (2024), "
    "arXiv 2402.18376"
)

SCORECARD = Schema(
    probe="tokenizer_scorecard",
    paper=PAPER,
    rows="one per tokenizer, set of texts and metric",
    columns=columns(
        Column("tokenizer", "str", "name of the tokenizer"),
        VOCABULARY["run_id"].with_(meaning="short hash of tokenizer, texts and settings; finds the provenance again"),
        Column("texts", "str", "name of the texts, or of a side of the parallel ones; empty for the vocabulary alone"),
        Column("metric", "str", "what was measured"),
        Column("value", "float", "its value", missing=True),
        Column("low", "float", "lower end of its 95 % interval over texts; missing if it is not a mean", missing=True),
        Column("high", "float", "upper end", missing=True),
        Column("n", "int", "texts, or pairs of them; of the vocabulary, its tokens", low=0),
    ),
)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Return values as a table: a row per set of texts and metric, a column per tokenizer."""
    names = frame.drop_duplicates("run_id")["tokenizer"]
    several = set(names[names.duplicated(keep=False)])
    labels = [
        f"{name} {run}" if name in several else name for name, run in zip(frame.tokenizer, frame.run_id, strict=True)
    ]
    rows = pd.MultiIndex.from_frame(frame[["texts", "metric"]].drop_duplicates())
    wide = frame.assign(label=labels).pivot(index=["texts", "metric"], columns="label", values="value")
    wide = wide.reindex(index=rows, columns=list(dict.fromkeys(labels))).reset_index()
    wide.columns.name = None
    return wide


@probe(SCORECARD, plot=plot.scorecard, summarise=summarise, listed=False)
def tokenizer_scorecard(
    tokenizers: Any, texts: Any, *, parallel: Any = None, n_resamples: int = 999, seed: int = 0
) -> pd.DataFrame:
    """Score tokenizers on texts: how short, how evenly and how fairly they write them. No model is run.

    Metrics, each with one definition:

    - `tokens_per_byte`, `tokens_per_word`: sums over all texts, words by white space. `whole_words`: the share of words
      that are one token where they stand, but for white space beside them.
    - `renyi_1`, `renyi_2.5`, `renyi_3`: see `interp.tokenization.renyi_efficiency`, over the tokens that occur.
      `eta_vocab`: Shannon's over all tokens of the vocabulary; the two rank vocabularies of other sizes differently.
    - `shortest_gap`: tokens, over the fewest that spell the same bytes with the same borders of pre-tokens; 1 or more.
    - `log10_encodings_per_byte`: in how many ways the texts could be cut into tokens of the vocabulary.
    - `dropped_bytes`: bytes of the texts that their tokens do not spell, each value counted as often as it is missing.
    - `token_share: Latin` and so on: the share of tokens whose first letter is of that Unicode script.
    - `bytes_missing`: single bytes, of 256, without a token. `vocabulary_share: Latin` and so on. Both are of the
      vocabulary alone.
    - `premium`: tokens of a side of `parallel` over those of the first side, a ratio of sums. `log_premium`: the mean
      over pairs of the logarithm of their ratio.

    Args:
        tokenizers: a tokenizer of transformers' fast kind, a loaded model that has one or a folder with its
            tokenizer.json; a list of these, or a dictionary of them by name.
        texts: a list of str, a frame with a column `text`, the name of a shipped dataset; or a dictionary of these by
            name, such as languages, each of which is scored.
        parallel: lists of translations by name, the same text at the same place of each, or a frame of such columns;
            the first is the reference.
        n_resamples: bootstrap draws, over texts or pairs.
        seed: of the draws.

    Returns:
        One row per tokenizer, set of texts and metric. What is averaged over texts has a 95 % interval, if there are
        two or more. `.interp.summary()` has a column for each tokenizer.

    Raises:
        InputError: there are no tokenizers or texts, one is not of these kinds, the sides of `parallel` differ in
            length, or a tokenizer cannot read a text.

    >>> import interp
    >>> frame = tokenizer_scorecard(interp.load("reference"), ["Once upon a time", "There was a girl."])
    >>> frame.set_index("metric")["value"].round(3)[["tokens_per_byte", "whole_words", "shortest_gap"]].tolist()
    [0.273, 0.875, 1.0]
    """
    chosen, given = named_tokenizers(tokenizers), named_texts(texts)
    sides = {} if parallel is None else aligned_texts(parallel)
    check_resampling(0.95, n_resamples, least=99)
    check_seed(seed)
    readers = {name: Reader(one) for name, one in chosen.items()}
    settings = {"n_resamples": n_resamples, "seed": seed}
    n_bytes = sum(len(one) for texts_ in (*given.values(), *sides.values()) for one in texts_)
    frames = []
    with progress_bar(len(readers) * n_bytes, "byte", SCORECARD.probe, n_steps=len(readers) * len(given)) as bar:
        for name, reader in readers.items():
            started = time.monotonic()
            read = {one: _Texts.of(reader, several, bar) for one, several in given.items()}
            aligned = {one: _Texts.of(reader, several, bar) for one, several in sides.items()}
            rows = pd.DataFrame(
                [*_rows(reader, read, aligned, settings)], columns=["texts", "metric", "value", "low", "high", "n"]
            )
            identity = {
                "probe": SCORECARD.probe,
                "model": name,
                "fingerprint": _fingerprint(chosen[name]),
                "texts": {one: digest(several) for one, several in given.items()},
                "parallel": {one: digest(several) for one, several in sides.items()},
                "parameters": settings,
            }
            run_id = hash_of(identity)
            frame = build(SCORECARD, {"tokenizer": name, "run_id": run_id, **{c: rows[c].to_numpy() for c in rows}})
            facts = {
                "paper": SCORECARD.paper,
                "versions": dict(versions()),
                "code_digest": code_digest_of_probe(SCORECARD.probe),
                "seconds": round(time.monotonic() - started, 3),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            frames.append(attach(SCORECARD.validate(frame), {"run_id": run_id} | identity | facts))
    return concat(frames)


@dataclass(frozen=True)
class _Texts:
    """Texts as a tokenizer reads them.

    Attributes:
        sums: see `Reader.read`, a row per text.
        counts: how often each token occurs in all, int64 [d_vocab].
    """

    sums: pd.DataFrame
    counts: np.ndarray

    @staticmethod
    def of(reader: Reader, texts: Sequence[str], bar: Any) -> _Texts:
        """Read texts."""
        sums, counts = [], np.zeros(len(reader.vocabulary.spelt), dtype=np.int64)
        for text, (one, ids) in zip(texts, reader.read(texts), strict=True):
            found = np.bincount(ids, minlength=len(counts))
            counts += found
            shares = pd.Series(found[found > 0]).groupby(reader.scripts[found > 0]).sum()
            sums.append(one | {f"token_share: {kind}": float(n) for kind, n in shares.items()})
            bar.update(len(text))
        return _Texts(pd.DataFrame.from_records(sums).fillna(0.0), counts)


def _rows(
    reader: Reader, read: Mapping[str, _Texts], aligned: Mapping[str, _Texts], settings: Mapping[str, Any]
) -> Iterator[tuple[Any, ...]]:
    """Yield texts, metric, value, low, high and n."""
    known = reader.vocabulary.order
    for name, texts in read.items():
        shares = sorted(column for column in texts.sums if column.startswith("token_share: "))
        parts = RATIOS | {share: (share, "tokens") for share in shares}
        n, drawn = len(texts.sums), _ratios(texts.sums, parts, settings)
        yield from ((name, metric, *drawn[metric], n) for metric in RATIOS)
        for order in ORDERS:
            yield name, f"renyi_{order:g}", renyi_efficiency(texts.counts, order), np.nan, np.nan, n
        of_all = renyi_efficiency(texts.counts, 1.0, n_types=reader.n_types)
        yield name, "eta_vocab", of_all, np.nan, np.nan, n
        yield name, "dropped_bytes", float(texts.sums["dropped_bytes"].sum()), np.nan, np.nan, n
        yield from ((name, metric, *drawn[metric], n) for metric in shares)
    single = {reader.vocabulary.spelt[index] for index in known.tolist() if reader.vocabulary.lengths[index] == 1}
    yield "", "bytes_missing", float(256 - len(single)), np.nan, np.nan, len(known)
    kinds = pd.Series(reader.scripts[known]).value_counts(normalize=True).sort_index()
    yield from (("", f"vocabulary_share: {kind}", float(of), np.nan, np.nan, len(known)) for kind, of in kinds.items())
    reference, *others = aligned or [""]
    for name in others:
        pairs = pd.DataFrame({"here": aligned[name].sums["tokens"], "there": aligned[reference].sums["tokens"]})
        pairs = pairs.assign(log=np.log(pairs["here"] / pairs["there"]), one=1.0)
        drawn = _ratios(pairs, {"premium": ("here", "there"), "log_premium": ("log", "one")}, settings)
        yield from ((name, metric, *found, len(pairs)) for metric, found in drawn.items())


def _ratios(
    sums: pd.DataFrame, parts: Mapping[str, tuple[str, str]], settings: Mapping[str, Any]
) -> dict[str, tuple[float, float, float]]:
    """Return ratios of sums over texts with their intervals; all share the resampled texts."""
    long = pd.concat(
        pd.DataFrame({"metric": name, "prompt_id": np.arange(len(sums)), "above": sums[above], "below": sums[below]})
        for name, (above, below) in parts.items()
    )
    found = ratio_over_prompts(long, ["metric"], "above", "below", "value", **settings).set_index("metric")
    return {name: tuple(found.loc[name, ["value", "value_low", "value_high"]]) for name in parts}


def _fingerprint(tokenizer: Any) -> str:
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()[:12]
