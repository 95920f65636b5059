"""Time the first lens of five tokens in a fresh process, stage by stage, beside bare transformers.

    python benchmarks/bench_first_call.py [--model reference] [--repeats 3]

Prints processor seconds, the lowest of several processes. The bound is what transformers takes to import, to read the
model and its tokenizer and to make one forward pass; `again` is a second call in the same process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from interp.data.shipped import shipped_path
from interp.model.sources.reading import SHIPPED_MODELS

TEXT = "The capital of France is"
CLOCK = """
import json, sys, time
stages, last = {}, time.process_time()
def stage(name):
    global last
    stages[name], last = time.process_time() - last, time.process_time()
"""
OURS = f"""{CLOCK}
import interp
from interp.probes import logit_lens
stage("import")
subject = interp.load(sys.argv[1])
stage("load")
logit_lens(subject, {TEXT!r}, targets="argmax")
stage("lens")
logit_lens(subject, {TEXT!r}, targets="argmax")
stage("again")
print(json.dumps(stages))
"""
BARE = f"""{CLOCK}
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
with torch.no_grad():
    model(**tokenizer({TEXT!r}, return_tensors="pt"), use_cache=False)
stage("bare transformers")
print(json.dumps(stages))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="reference", help="a shipped model or a Hugging Face folder")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    folder = str(shipped_path(arguments.model)) if arguments.model in SHIPPED_MODELS else arguments.model
    if not Path(folder).is_dir():
        raise SystemExit(f"--model {arguments.model!r} is not a shipped model or a folder.")
    bare = fastest(BARE, folder, arguments.repeats)["bare transformers"]
    ours = fastest(OURS, arguments.model, arguments.repeats)
    first = sum(ours.values()) - ours["again"]
    print(f"five tokens of {arguments.model}, processor seconds")
    print(f"  {'bare transformers':18s} {bare:6.2f}")
    for name, seconds in {**ours, "first call": first}.items():
        print(f"  {name:18s} {seconds:6.2f}")
    print(f"the first call takes {first / bare:.2f} x bare transformers (target 2)")


def fastest(script: str, model: str, repeats: int) -> dict[str, float]:
    """Return the stages of the process that took least in all, one thread each."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    runs = []
    for _ in range(repeats):
        command = [sys.executable, "-c", script, model]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return min(runs, key=lambda stages: sum(stages.values()))


if __name__ == "__main__":
    main()
