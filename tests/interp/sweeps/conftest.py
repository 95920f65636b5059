"""A tiny model in a folder, which workers can load by its path, and prompts of token ids."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import interp
from tests.interp.sweeps.drivers import sweep


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=3, n_embd=16, n_head=2, vocab_size=50, n_positions=64, bos_token_id=0, eos_token_id=0
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    GPT2LMHeadModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def subject(model_path):
    return interp.load(model_path)


@pytest.fixture(scope="session")
def prompts():
    """24 prompts of 3 to 9 tokens."""
    draw = np.random.default_rng(0)
    return [draw.integers(0, 50, size=n).tolist() for n in draw.integers(3, 10, size=24)]


@pytest.fixture(scope="session")
def undisturbed(subject, prompts, tmp_path_factory):
    """The rows of a sweep in one process that nobody disturbed."""
    return sweep(subject, prompts, tmp_path_factory.mktemp("undisturbed")).frame()


@pytest.fixture(scope="session")
def cluster():
    """Ray on this machine, which sweeps and drivers share; its address.

    Each of two actors has one thread, as the other sweeps here: with more, a sum may round otherwise.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    context = ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield context.address_info["address"]
    ray.shutdown()


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with the types of a probe's own frame, without the id, which is the sweep's."""
    texts = [name for name in frame.columns if frame[name].dtype == "category"]
    return frame.astype(dict.fromkeys(texts, "str")).drop(columns="run_id")
