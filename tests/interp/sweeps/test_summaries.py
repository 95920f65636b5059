"""The summary of a sweep is that of the probe itself, for every probe whose rows are about single prompts."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import interp
from interp.runs import arguments, registry
from probes import StateBank

# Probes that need arguments; without controls that draw among a shard's prompts where a probe has such.
GIVEN: dict[str, dict[str, Any]] = {
    "attribute": {"methods": ("normxlogit", "occlusion")},
    "layer_robustness": {"controls": ()},
    "run_schedules": {"schedules": {"reversed": (2, 1, 0)}},
    "retokenisation": {"schemes": ("split_one", "bytes"), "n_variants": 2},
    "reagent": {"n_probes": 2, "max_steps": 4},
    "reagent_probes": {"n_probes": 2, "max_steps": 4},
    "tokenization_bias": {"cuts": 3},
    "written_tokens": {"max_new_tokens": 8, "samples": 2},
}
# They ask for words, which the tiny model does not have, for neurons or for a subnetwork.
OTHERS = {"iterative_inference", "steer", "subnetwork_surprisal"}
PROBES = [
    one.name
    for one in map(registry.get, registry.names())
    if one.of_single_prompts and arguments.takes_texts(one.function)
]


# They ask for the bytes of tokens.
OF_BYTES = {"byte_log_prob", "next_byte", "perturbation", "retokenisation", "tokenization_bias", "written_tokens"}


@pytest.mark.parametrize("name", sorted(set(PROBES) - OTHERS - OF_BYTES - {"nearest_contexts"}))
@pytest.mark.filterwarnings("ignore:.*their stop test replaces nothing")
def test_the_summary_is_that_of_the_probe_itself(subject, prompts, tmp_path, name):
    given = GIVEN.get(name, {})
    few = prompts[:6]
    done = interp.sweep(name, subject, few, out=tmp_path, shard_tokens=sum(map(len, few)) // 2 + 2, **given)
    assert done.status()["shards"] == 2
    assert_same_summary(done.summary(), registry.get(name).function(subject, few, **given).interp.summary())


@pytest.mark.parametrize("name", sorted(OF_BYTES))
def test_the_summary_of_a_probe_of_bytes_is_that_of_the_probe_itself(tmp_path, name):
    texts = ["Once upon a time", "The cat sat", "He opened the", "They played in the"]
    given = GIVEN.get(name, {})
    done = interp.sweep(name, "reference", texts, out=tmp_path, shard_tokens=8, **given)
    assert done.status()["shards"] >= 2
    assert_same_summary(done.summary(), registry.get(name).function("reference", texts, **given).interp.summary())


def test_the_summary_of_nearest_contexts_is_that_of_the_probe_itself(subject, prompts, tmp_path):
    bank = StateBank.of(subject, prompts[6:], layers=[1, 3], skip=0)
    done = interp.sweep("nearest_contexts", subject, prompts[:6], out=tmp_path, shard_tokens=20, bank=bank, k=2)
    assert done.status()["shards"] >= 2
    whole = registry.get("nearest_contexts").function(subject, prompts[:6], bank=bank, k=2)
    assert_same_summary(done.summary(), whole.interp.summary())


def test_the_summary_of_uncertainty_is_that_of_the_probe_itself(tmp_path):
    texts = pd.DataFrame(
        {
            "text": ["Once upon a", "The little girl was very", "He opened the", "They played in the"],
            "expected": [" time", " happy", " door", " park"],
        }
    )
    done = interp.sweep("iterative_inference", "reference", texts, out=tmp_path, shard_tokens=10)
    assert done.status()["shards"] == 2
    assert_same_summary(done.summary(), interp.probes.iterative_inference("reference", texts).interp.summary())


def assert_same_summary(summary: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Compare all but the id, which is the sweep's own.

    Batches are divided otherwise, so that a matrix product may round otherwise: a float32 sum of some hundred terms.
    """
    left = [one.drop(columns="run_id", errors="ignore") for one in (summary, expected)]
    pd.testing.assert_frame_equal(*left, rtol=1e-5, atol=1e-5)


def test_most_probes_are_summed_up_a_shard_at_a_time():
    """Others hold all rows: a correlation over all tokens, and curves of few rows for each prompt."""
    whole = {name for name in PROBES if registry.get(name).reduction({}) is None}
    assert whole == OTHERS
