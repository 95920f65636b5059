"""Time the probes of token health on a real model, and compare them with magikarp's and glotscope's.

    python benchmarks/bench_token_health.py [--model smollm2] [--scan 512] [--only NAME ...]
    python benchmarks/bench_token_health.py --peers peers/bin/python --folder FOLDER [--tokens 200]

The first form prints processor seconds of `token_health`, of `token_repetition` over all candidates, and of
`first_tokens` over some tokens beside bare passes of the same texts, whole and from a cache.

The second has `peer_magikarp.py` compute the published indicators and verdicts in an environment of its own, on the
same weights in a Hugging Face folder, and prints Spearman's correlation of each indicator with `direction` over the
ordinary tokens, the share of equal verdicts (is the largest probability below 0.01?) on half candidates and half random
tokens, and the processor seconds of a candidate. It keeps the tokens in `benchmarks/token_health_peers.csv`.

Measured on SmolLM2 (4-bit weights made float, one loaded core): `token_health` takes 20 processor seconds,
`token_repetition` 71 for its 1,226 tokens, and `first_tokens` 0.98 times the same passes from a cache and half of
whole passes, about 10 minutes for the vocabulary.
With our 14 reference rows, `direction` is magikarp's centred cosine distance (Spearman 1.0000); with the uncentred one,
which is glotscope's too, it correlates by 0.875 and shares 81 % of the 150 lowest, without the first principal
component by 0.264 and 91 %, with the L2 distance by 0.408 and 36 %. glotscope finds no reference rows by itself in this
model and refuses it; magikarp wants them from its user. magikarp takes 1,791 ms a candidate, `token_repetition` 84 ms
(21 times as fast), and the verdicts on 200 tokens are equal for 95.0 % (90 % of the candidates, all of the others).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

import interp
from interp.authoring import SharedPrefix, start_of_text
from interp.errors import InterpError
from probes import first_tokens, token_health, token_repetition
from probes.vocab._directions import reference_rows, suspects

HERE = Path(__file__).parent
KEPT = HERE / "token_health_peers.csv"
HARDLY = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2", help="anything interp.load takes")
    parser.add_argument("--scan", type=int, default=512, help="tokens of first_tokens")
    parser.add_argument("--only", action="append", choices=[one.__name__ for one in TIMED], help="may be repeated")
    parser.add_argument("--peers", help="a Python that has the peers; compares instead of timing the probes")
    parser.add_argument("--folder", help="the same weights as a Hugging Face folder, for the peers")
    parser.add_argument("--tokens", type=int, default=200, help="tokens to verify")
    parser.add_argument("--shots", action="append", choices=["fixed", "self"], help="of `token_repetition`")
    parser.add_argument("--answer", type=Path, help="of the peers: read if it is there, else written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", interp.errors.WithoutTemplate)
    try:
        subject = interp.load(arguments.folder if arguments.peers else arguments.model)
    except InterpError as error:
        print(f"{arguments.model!r} does not load: {error}")
        return
    print(f"{subject.name}: {subject.d_vocab:,} tokens, {torch.get_num_threads()} thread(s)", flush=True)
    if arguments.peers:
        compare(subject, arguments)
        return
    for work in TIMED:
        if not arguments.only or work.__name__ in arguments.only:
            work(subject, arguments.scan)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a function returns, and its processor seconds."""
    start = time.process_time()
    return work(), time.process_time() - start


def indicators(subject: interp.Subject, scan: int) -> None:
    """Time `token_health`."""
    texts = interp.dataset("stories")["text"].head(24).tolist()
    frame, seconds = timed(lambda: token_health(subject, texts, truncate=True))
    print(f"token_health: {seconds:.1f} s, {int(frame['is_candidate'].sum())} candidates", flush=True)


def repetition(subject: interp.Subject, scan: int) -> None:
    """Time `token_repetition` over all candidates."""
    frame, seconds = timed(lambda: token_repetition(subject))
    n = len(frame) // frame["prompt"].nunique()
    print(f"token_repetition: {seconds:.1f} s, {n} tokens, {1000 * seconds / n:.1f} ms a token", flush=True)
    print(frame.interp.summary().to_string(index=False), flush=True)


def scan(subject: interp.Subject, scan: int) -> None:
    """Time `first_tokens` beside bare passes of the same texts."""
    ids = torch.arange(scan) * (subject.d_vocab // scan)
    start = start_of_text(subject.tokenizer)
    n_rows = SharedPrefix(subject, torch.tensor(start, dtype=torch.int64)).rows(3)
    rounds = {
        "first_tokens": lambda: first_tokens(subject, token_ids=ids.tolist(), n_best=0),
        "bare, from a cache": lambda: bare(subject, ids, start, n_rows, cached=True),
        "bare, whole": lambda: bare(subject, ids, start, n_rows, cached=False),
    }
    seconds = {name: [timed(work)[1] for _ in range(2)][-1] for name, work in rounds.items()}
    for name, one in seconds.items():
        print(f"{name}: {one:.1f} s, {one / seconds['first_tokens']:.2f} x of it", flush=True)
    whole = seconds["first_tokens"] / scan * subject.d_vocab
    print(f"first_tokens over the whole vocabulary: about {whole / 60:.1f} minutes", flush=True)


@torch.no_grad()
def bare(subject: interp.Subject, ids: torch.Tensor, start: list[int], n_rows: int, *, cached: bool) -> None:
    """Take the most probable token three times by the Hugging Face model's own passes."""
    model: Any = getattr(subject.backend, "original", None)
    for some in torch.split(ids, n_rows):
        text = torch.cat([torch.tensor(start, dtype=torch.int64).expand(len(some), -1), some[:, None]], dim=1)
        fed, cache = text, None
        for _ in range(3):
            out = model(fed, past_key_values=cache, use_cache=cached, logits_to_keep=1)
            best = out.logits[:, -1].float().log_softmax(dim=1).max(dim=1)
            text = torch.cat([text, best.indices[:, None]], dim=1)
            fed, cache = (text[:, -1:], out.past_key_values) if cached else (text, None)


TIMED = (indicators, repetition, scan)


def compare(subject: interp.Subject, arguments: argparse.Namespace) -> None:
    """Print how far the peers agree with ours, and keep the tokens."""
    known = suspects(subject)
    rows, kind = reference_rows(subject, known.table, "auto")
    draw, half = np.random.default_rng(0), arguments.tokens // 2
    candidates = np.sort(draw.permutation(np.flatnonzero(known.candidate))[:half])
    others = np.sort(draw.permutation(np.flatnonzero(known.ordinary & ~known.candidate))[:half])
    asked = [*candidates.tolist(), *others.tolist()]
    answer = answered(arguments, {"reference": rows.tolist(), "tokens": asked})
    print(f"reference: {kind}, {len(rows)} rows")
    for name, values in answer.items():
        if len(values) == subject.d_vocab:
            both = known.direction[known.ordinary], values[known.ordinary]
            print(f"Spearman of direction with {name}: {spearmanr(*both).statistic:.4f}")
    theirs = pd.Series(answer["prob"], index=answer["tokens"])
    table = pd.DataFrame({"token_id": asked, "token": [repr(text) for text in subject.token_strings[np.array(asked)]]})
    table["candidate"] = np.repeat([1, 0], half)
    table["magikarp"] = theirs.reindex(asked).to_numpy()
    print(f"magikarp: {1000 * answer['seconds'][1]:.0f} ms a candidate")
    for shots in arguments.shots or ["fixed"]:
        frame, seconds = timed(lambda shots=shots: token_repetition(subject, token_ids=asked, shots=shots, n_random=0))
        ours = frame.groupby("token_id")["prob"].max()
        table[shots] = ours.reindex(asked).to_numpy()
        equal = (table[shots] < HARDLY) == (table["magikarp"] < HARDLY)
        speed = answer["seconds"][1] * len(asked) / seconds
        print(
            f"shots={shots!r}: equal verdicts {equal.mean():.3f} (candidates {equal[:half].mean():.3f}, others "
            f"{equal[half:].mean():.3f}), {1000 * seconds / len(asked):.0f} ms a candidate, {speed:.1f} x as fast, "
            f"Spearman of the probabilities {spearmanr(table[shots], table['magikarp']).statistic:.3f}"
        )
    table.to_csv(KEPT, index=False, float_format="%.4g")


def answered(arguments: argparse.Namespace, job: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the peers' answer, asked for if it is not there."""
    with tempfile.TemporaryDirectory() as folder:
        answer = arguments.answer or Path(folder) / "answer.npz"
        if not answer.is_file():
            file = Path(folder) / "job.json"
            job |= {"model": arguments.folder, "threads": torch.get_num_threads(), "answer": str(answer)}
            file.write_text(json.dumps(job))
            command = [arguments.peers, str(HERE / "peer_magikarp.py"), str(file)]
            subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(job["threads"])})
        return dict(np.load(answer))


if __name__ == "__main__":
    main()
