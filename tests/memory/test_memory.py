"""Probes keep `interp.options.memory`, measured as the operating system sees it, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import interp

SCRIPT = Path(__file__).with_name("peak.py")
MOST = 1.25  # of the budget: Python's objects, the frame and what the allocator holds come on top
# Freed memory goes back at once: else the allocator's habits would be measured too, such as those of `make`.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux' /proc")
GPT2: dict[str, Any] = {}  # the config's own defaults are GPT-2 small's
QUARTER = {"n_embd": 256, "n_head": 4, "vocab_size": 16384}


def shares(shape: dict[str, Any], mebibytes: int, prompts: dict[str, int], length: int = 64) -> dict[str, float]:
    """Peak over budget of each probe, on that many prompts."""
    asked = {"shape": shape, "mebibytes": mebibytes, "length": length, "prompts": prompts}
    packages = str(Path(interp.__file__).parents[1])
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    environment = ours | ALLOCATOR | {"OMP_NUM_THREADS": "1", "PYTHONPATH": packages}
    command = [sys.executable, str(SCRIPT), json.dumps(asked)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-2000:]
    return {name: peak / (mebibytes << 20) for name, peak in json.loads(done.stdout).items()}


def test_the_probe_that_runs_most_variants_keeps_its_budget():
    """35 variants of each prompt ride along; a batch of all of them at once would take 2.4 times the budget."""
    (share,) = shares(QUARTER, 32, {"layer_robustness": 5}).values()
    assert 0.3 < share < MOST  # the budget is used, so that the limit is one


OF_PROMPTS = ("layer_robustness", "run_schedules", "stages_of_inference", "logit_lens", "top_tokens", "normxlogit")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mebibytes", [128, 256, 512])
@pytest.mark.parametrize("name", [*OF_PROMPTS, "neuron_kinds"])
def test_every_probe_of_prompts_keeps_its_budget(name, mebibytes):
    (share,) = shares(GPT2, mebibytes, {name: 3 * mebibytes // 128}).values()  # more prompts than a batch holds
    assert share < MOST


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mebibytes", [320, 512, 1024])
@pytest.mark.parametrize("name", ["next_token_law", "microscope", "microscope_tokens", "tuned_lens"])
def test_probes_that_sum_over_a_corpus_keep_a_budget_that_holds_their_sums(name, mebibytes):
    """The sums of `next_token_law` take 234 MiB at this shape, as its "Cost" says; others, less."""
    (share,) = shares(GPT2, mebibytes, {name: 14}).values()
    assert share < MOST


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mebibytes", [256, 512, 1024])
def test_reading_neurons_keeps_a_budget_that_holds_a_centred_unembedding(mebibytes):
    """The centred copy takes 147 MiB at this shape, as the probe says under "Cost"."""
    (share,) = shares(GPT2, mebibytes, {"neuron_tokens": 1}).values()
    assert share < MOST


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_probes_of_many_passes_keep_their_budget():
    found = shares(QUARTER, 32, {"attribute": 3, "reagent": 1, "reagent_ls": 2}, length=24)
    assert max(found.values()) < MOST, found
