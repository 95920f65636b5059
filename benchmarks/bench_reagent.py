"""Compare ReAGent with inseq's, and with the unavoidable forward passes of both.

    python benchmarks/bench_reagent.py [--inseq-python /path/to/inseq-env/bin/python] [--model FOLDER] [--repeats 2]

inseq needs an environment of its own, because it cannot be installed beside transformer-lens 4:

    python3.11 -m venv inseq-env && inseq-env/bin/pip install "inseq==0.7.*" "torch==2.13.0"

There are two comparisons, both with 16 probes per prompt and a uniform sampler:
equal work    8 prompts for a fixed number of steps (no probe may stop), so that both run the same passes
converging    16 prompts, each probe until it stops

"bound" is the time of the model's own forward passes over exactly the sequences that the recursion needs, without
recording, unembedding the last position only, in batches of the size we use: code that runs these passes cannot be
faster. Seconds are processor time, which other work on the machine does not lengthen; quote the ratios. Rounds
alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import interp
from interp.data.shipped import shipped_path
from probes import reagent

PEER = Path(__file__).with_name("peer_reagent.py")
HOW_TO = 'python3.11 -m venv inseq-env && inseq-env/bin/pip install "inseq==0.7.*" "torch==2.13.0"'
SETTINGS: dict[str, Any] = {"replace_ratio": 0.3, "keep": 5, "n_probes": 16, "seed": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inseq-python", default=os.environ.get("INSEQ_PYTHON", "inseq-env/bin/python"))
    parser.add_argument("--model", default=str(shipped_path("reference")), help="a Hugging Face folder")
    parser.add_argument("--steps", type=int, default=8, help="steps of the comparison at equal work")
    parser.add_argument("--max-steps", type=int, default=100, help="most steps of the converging comparison")
    parser.add_argument("--length", type=int, default=20, help="tokens per prompt")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "0")) or torch.get_num_threads())
    subject = interp.load(arguments.model)
    _ = subject.fingerprint  # hashed once per subject, not per run
    reagent(subject, ["Once upon a time"], n_probes=1, max_steps=1, keep=1, sampler="uniform")  # imports, warms up
    ids = torch.stack([one[: arguments.length] for one in subject.tokens("stories").ids[:16]])
    logits = subject.run(ids, lambda tape: tape.head(tape.last[:, -1]))
    peer = Path(arguments.inseq_python)
    if not peer.exists():
        print(f"inseq is not at {str(peer)!r} and is left out. Install it with\n  {HOW_TO}\nand pass --inseq-python.")
    never = logits.argmin(dim=-1)  # the least probable token is never among the likeliest, so all steps run
    equal = SETTINGS | {"tolerance": 1, "max_steps": arguments.steps}
    job = {"model": arguments.model, "threads": torch.get_num_threads()}
    compare(subject, ids[:8], never[:8], equal, peer, job, arguments.repeats, "equal work", target=2.0)
    converging = SETTINGS | {"tolerance": 3, "max_steps": arguments.max_steps}
    compare(subject, ids, logits.argmax(dim=-1), converging, peer, job, arguments.repeats, "converging", target=4.0)


def compare(
    subject: interp.Subject,
    ids: torch.Tensor,
    targets: torch.Tensor,
    settings: dict[str, Any],
    peer: Path,
    job: dict[str, Any],
    repeats: int,
    name: str,
    *,
    target: float,
) -> None:
    seconds: dict[str, list[float]] = {"ours": [], "inseq": [], "bound": []}
    peer_steps: list[int] = []
    n_sequences = 0
    for _ in range(repeats):
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # here no probe is meant to stop
            _, probes = reagent(
                subject, ids, target=targets.tolist(), sampler="uniform", implementation="inseq",
                protect_bos=False, return_probes=True, **settings,
            )  # fmt: skip
        seconds["ours"].append(time.process_time() - start)
        n_sequences = 2 * int(probes["stop_step"].fillna(settings["max_steps"]).sum())
        if peer.exists():
            answer = ask(peer, job | settings | {"prompts": ids.tolist(), "targets": targets.tolist()})
            seconds["inseq"].append(answer["seconds"])
            peer_steps = answer["steps"]
        seconds["bound"].append(forward_seconds(subject, ids, n_sequences))
    ours, bound = statistics.median(seconds["ours"]), statistics.median(seconds["bound"])
    print(f"{name}: {len(ids)} prompts of {ids.shape[1]} tokens, {settings['n_probes']} probes, "
          f"{torch.get_num_threads()} threads")  # fmt: skip
    print(f"  ours   {ours:7.2f} s   {n_sequences} sequences needed; {ours / bound:.2f} x the bound")
    print(f"  bound  {bound:7.2f} s   their forward passes alone")
    if seconds["inseq"]:
        theirs = statistics.median(seconds["inseq"])
        n_theirs = 2 * settings["n_probes"] * sum(peer_steps)
        print(f"  inseq  {theirs:7.2f} s   {n_theirs} sequences run (stopped probes stay in its batch)")
        print(f"  ours is {theirs / ours:.2f} x as fast as inseq (target {target:g}), the bound {theirs / bound:.2f} x")


def ask(peer: Path, job: dict[str, Any]) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(peer), str(PEER), json.dumps(job)], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        sys.exit(f"inseq failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def forward_seconds(subject: interp.Subject, ids: torch.Tensor, n_sequences: int) -> float:
    """Estimate the time of `n_sequences` from some batches of the size the recursion uses."""
    batch = ids[:1].expand(51, -1)
    ends = torch.full((len(batch),), batch.shape[1] - 1)
    n_batches = min(8, -(-n_sequences // 51))
    start = time.process_time()
    for _ in range(n_batches):
        subject.next_token_logits(batch, ends, lambda logits: logits)
    return (time.process_time() - start) * n_sequences / (51 * n_batches)


if __name__ == "__main__":
    main()
