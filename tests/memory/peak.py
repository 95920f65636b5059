"""Measure the peak memory of probes on a random model: run as a script, in a process of its own.

`python peak.py '{"shape": {}, "mebibytes": 128, "length": 64, "prompts": {"logit_lens": 4}}'` prints a JSON object with
bytes above the level after loading and a first, small call, at the highest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import interp
import probes

Work = Callable[[interp.Subject, torch.Tensor], Any]
FEW = {"tokens_per_dim": 0.5}
WORK: dict[str, Work] = {
    "layer_robustness": probes.layer_robustness,
    "run_schedules": lambda subject, ids: probes.run_schedules(
        subject, ids, {f"from {first}": (*range(first, 12), *range(first)) for first in range(12)}
    ),
    "stages_of_inference": probes.stages_of_inference,
    "logit_lens": probes.logit_lens,
    "top_tokens": partial(probes.top_tokens, k=5),
    "normxlogit": probes.normxlogit,
    "attribute": partial(probes.attribute, methods=("input_x_gradient", "occlusion", "rollout")),
    "reagent": probes.reagent,
    "reagent_ls": probes.reagent_ls,
    "next_token_law": partial(probes.next_token_law, draws=1, held_out=0.05, **FEW),
    "microscope": partial(probes.microscope, n_points=200, **FEW),
    "microscope_tokens": partial(probes.microscope_tokens, **FEW),
    "tuned_lens": partial(probes.tuned_lens, held_out=0.05, steps=1, tokens_per_step=100),
    "neuron_tokens": lambda subject, ids: probes.neuron_tokens(subject, layers=[3]),
    "neuron_kinds": lambda subject, ids: probes.neuron_kinds(subject, layers=[3]),
}
ENOUGH = {"next_token_law", "microscope", "microscope_tokens", "tuned_lens"}  # need more tokens than dimensions


def memory(name: str) -> int:
    """A line of the process' status, in bytes: VmRSS, the memory in use, or VmHWM, the most since it was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def peak(work: Callable[[], Any]) -> int:
    """Bytes above the level before, at the highest."""
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = memory("VmRSS")
    kept = work()  # the result counts
    found = memory("VmHWM") - before
    del kept
    return found


def main(asked: dict[str, Any]) -> dict[str, int]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    interp.options.progress = False
    subject = interp.load(GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, **asked["shape"])).eval())
    found = {}
    for name, n in asked["prompts"].items():
        ids = torch.randint(subject.d_vocab, (n, asked["length"]), generator=torch.Generator().manual_seed(n))
        work = partial(WORK[name], subject)
        with interp.options.local(memory=1 << 20):
            work(ids if name in ENOUGH else ids[:2, :9])  # what is loaded and kept from the first call on
        with interp.options.local(memory=asked["mebibytes"] << 20):
            found[name] = peak(partial(work, ids))
    return found


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
