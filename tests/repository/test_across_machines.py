"""The script that imitates other processors does so, and changes inputs by as little as it says."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


def module(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # dataclasses look their module up there
    spec.loader.exec_module(loaded)
    return loaded


across, perturbation = module("across_machines"), module("perturbation")
SHOW = """
import json, numpy, scipy.linalg, threadpoolctl, torch
blas = [one["architecture"] for one in threadpoolctl.threadpool_info() if one["internal_api"] == "openblas"]
print(json.dumps([torch.backends.cpu.get_cpu_capability(), blas]))
"""


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="no kernels to choose from"
)
def test_the_kernels_are_those_of_a_plainer_processor():
    environment = os.environ | across.KERNELS["DEFAULT"]
    shown = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True)
    capability, blas = json.loads(shown.stdout)
    assert capability == "DEFAULT"
    assert set(blas) <= {"Nehalem"}


def test_every_setting_has_a_name_of_its_own():
    names = [setting.name for setting in across.settings()]
    assert len(set(names)) == len(names) >= 2 + 3 + 1  # threads, perturbations, notebooks


def test_a_perturbation_moves_each_number_to_a_neighbour():
    before = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    noise = perturbation.Noise(seed=1)
    after = noise.tensor(before)
    moved = (after - before).abs() / before.abs()
    assert bool((after != before).all())
    assert float(moved.max()) < 2.5e-7  # 1.2e-7, rounded to a float32
    assert torch.equal(after, noise.tensor(before))
    assert torch.equal(noise.tensor(torch.zeros(3)), torch.zeros(3))


def test_a_model_is_perturbed_once():
    layer = torch.nn.Linear(4, 4)
    noise = perturbation.Noise(seed=1)
    noise.weights(layer)
    once = layer.weight.clone()
    noise.weights(layer)
    assert torch.equal(layer.weight, once)
