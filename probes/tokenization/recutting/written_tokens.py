"""Ask whether a model writes the tokens that its tokenizer would write for the same text.

Text that reads the same can be of other tokens: a "phantom edit" (Ayoobi et al. 2026), which whoever reads the text
back does not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from interp.authoring import Column, InputError, Run, Schema, Source, Texts, columns, load, probe
from interp.tokenization import Lattice, lattice_of
from interp.tokenization.recutting import common_cuts
from probes import papers
from probes.tokenization._prompts import Prompt, read_prompts
from probes.tokenization.recutting import plots

WRITTEN_TOKENS = Schema(
    probe="written_tokens",
    paper=papers.PHANTOM_EDITS,
    rows="one per prompt and sample",
    columns=columns(
        *("model", "run_id", "prompt_id"),
        Column("sample", "int", "number of the sample", low=0),
        Column("n_judged", "int", "tokens of the sample's text that are judged", low=0),
        Column("all_canonical", "bool", "whether the tokenizer writes them all, too"),
        Column("share_canonical", "float", "share of them that the tokenizer writes, too; missing without any", "0..1",
               0.0, 1.0, True),
        Column("first_noncanonical", "id", "the first of them that it does not; missing if it writes all", "", 0,
               missing=True),
        Column("kind", "str", "how that differs: split (several tokens for one of the tokenizer's), merge (one for "
               "several), n→m; none if it does not"),
        Column("text", "str", "the sample"),
    ),
    summary_of=("all_canonical", "share_canonical", "n_judged"),
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """The tokens of a sample, held against the tokenizer's own for the same text.

    Attributes:
        n_tokens: how many.
        n_canonical: of them in the tokenizer's own sequence, too.
        first: the first that is not, or None.
        kind: see `WRITTEN_TOKENS`.
    """

    n_tokens: int
    n_canonical: int
    first: int | None
    kind: str


@probe(WRITTEN_TOKENS, plot=plots.written_tokens, costly=True)
def written_tokens(
    subject: Source,
    texts: Texts,
    *,
    max_new_tokens: int = 40,
    samples: int = 4,
    seed: int = 0,
    bos: bool | None = None,
    truncate: bool = False,
) -> pd.DataFrame:
    """Sample continuations, and ask whether the tokenizer would write their text in the same tokens.

    Args:
        subject: anything `interp.load` takes, with a tokenizer.
        texts: anything `Subject.tokens` takes.
        max_new_tokens: of each sample, at temperature 1; fewer if the model ends the text or the context is full.
        samples: of each prompt.
        seed: of the sampling.
        bos: see `Subject.tokens`.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt and sample. A sample that was cut short is judged up to its last word, which might go on; one
        with a special token up to that.

    Raises:
        InputError: the tokenizer loses a byte of a text or has none for its tokens.

    Cost: `samples` continuations of each prompt, with a key-value cache.

    Pitfall: one odd fragment makes a whole sample differ; `share_canonical` counts tokens.

    >>> frame = written_tokens("reference", ["Once upon a time"], max_new_tokens=20, samples=2)
    >>> frame[["n_judged", "all_canonical", "kind"]].values.tolist()
    [[19, True, 'none'], [19, True, 'none']]
    """
    if max_new_tokens < 1 or samples < 1:
        raise InputError(f"max_new_tokens={max_new_tokens}, samples={samples}: give at least 1 of both.")
    subject = load(subject)
    tokens = subject.tokens(texts, bos=bos, truncate=truncate)
    parameters = {"max_new_tokens": max_new_tokens, "samples": samples}
    run = Run(WRITTEN_TOKENS, subject, tokens, parameters=parameters, seed=seed)
    lattice = lattice_of(subject)
    prompts = read_prompts(tokens, lattice, texts)
    seeds = np.random.SeedSequence(seed).generate_state(samples).tolist()
    rows = []
    for batch in run.batches():
        given = [tokens.ids[index] for index in batch.prompts.tolist()]
        for sample, one_seed in enumerate(seeds):
            written = subject.continue_ids(given, max_new_tokens, seed=one_seed)
            for index, own, whole in zip(batch.prompts.tolist(), given, written, strict=True):
                rows.append(_row(lattice, prompts[index], sample, _new(own, whole), max_new_tokens))
    return run.frame(sorted(rows, key=lambda row: (row["prompt_id"], row["sample"])))


def _new(own: Tensor, whole: Tensor) -> list[int]:
    ids: list[int] = whole[len(own) :].tolist()
    return ids


def _row(lattice: Lattice, prompt: Prompt, sample: int, written: list[int], most: int) -> dict[str, object]:
    spelt = lattice.vocabulary.spelt
    special = next((at for at, index in enumerate(written) if spelt[index] is None), len(written))
    judged = written[:special]
    if special == len(written) == most:  # it may go on: its last word is not judged
        begins = [at for at, index in enumerate(judged) if (spelt[index] or b"")[:1].isspace()]
        judged = judged[: begins[-1]] if begins else judged
    found = judge(lattice, prompt.ids, judged)
    return {
        "prompt_id": prompt.prompt_id,
        "sample": sample,
        "n_judged": found.n_tokens,
        "all_canonical": found.first is None,
        "share_canonical": found.n_canonical / found.n_tokens if found.n_tokens else np.nan,
        "first_noncanonical": -1 if found.first is None else found.first,
        "kind": found.kind,
        "text": lattice.vocabulary.join(written[:special]).decode(errors="replace"),
    }


def judge(lattice: Lattice, before: Sequence[int], written: Sequence[int]) -> Judged:
    """Hold tokens that a model wrote after others against those that the tokenizer writes for the whole text.

    Args:
        lattice: of the tokenizer.
        before: the canonical tokens of a text.
        written: tokens that have bytes.
    """
    whole, n = (*before, *written), len(before)
    if lattice.canonical(whole):
        return Judged(len(written), len(written), None, "none")
    ways = lattice.prefixes(lattice.vocabulary.join(whole))
    if not ways:  # bytes that are no text
        at = next(at for at in range(len(written)) if not lattice.canonical(whole[: n + at + 1]))
        return Judged(len(written), at, at, "n→m")
    own, lengths = ways[0], lattice.vocabulary.lengths
    mine, theirs = common_cuts(np.cumsum(lengths[list(whole)]), np.cumsum(lengths[list(own)]))
    differing = []
    start = other = 0
    for stop, until in zip((mine + 1).tolist(), (theirs + 1).tolist(), strict=True):
        if whole[start:stop] != own[other:until]:
            differing.append((start, stop, until - other))
        start, other = stop, until
    n_lost = sum(stop - max(start, n) for start, stop, _ in differing)
    start, stop, n_own = differing[0]
    kind = "split" if n_own == 1 else "merge" if stop - start == 1 else "n→m"
    return Judged(len(written), len(written) - n_lost, max(start, n) - n, kind)
