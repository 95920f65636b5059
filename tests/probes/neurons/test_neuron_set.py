"""A set of neurons by file: the same set, on the same model only, from Python and from a shell."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

import interp
from interp.cli import app
from interp.errors import InputError, ModelError
from probes import NeuronSet, steer

WORDS = ["time", "day", "moment", "night"]


@pytest.fixture(scope="module")
def subject():
    return interp.load("reference")


@pytest.fixture(scope="module")
def neurons(subject):
    return NeuronSet.of(subject, {7: [5, 3], 2: [100]}, WORDS, concept="time")


@pytest.fixture
def file(neurons, tmp_path):
    return neurons.save(tmp_path / "new" / "time.safetensors")


def test_what_is_read_is_what_was_written(neurons, file):
    again = NeuronSet.load(file)
    assert repr(again) == repr(neurons) and again.fingerprint == neurons.fingerprint and again.model == "reference"
    assert {layer: of.tolist() for layer, of in again.by_layer.items()} == {2: [100], 7: [5, 3]}
    for name in ("choosing_ids", "seed_ids", "held_out_ids"):
        assert torch.equal(getattr(again.words, name), getattr(neurons.words, name))
    assert (again.words.seeds, again.words.held_out) == (neurons.words.seeds, neurons.words.held_out)


def test_no_neurons_and_no_seeds_are_read_again(subject, tmp_path):
    empty = NeuronSet.of(subject, {}, WORDS)
    again = NeuronSet.load(empty.save(tmp_path / "empty.safetensors"))
    assert len(again) == 0 and len(again.words.seed_ids) == 0


def test_a_shell_steers_by_a_file(subject, neurons, file, tmp_path):
    out = tmp_path / "frame.parquet"
    given = [f"neurons={file}", "alphas=[2]", "controls=[]"]
    options = [part for one in given for part in ("--param", one)]
    done = CliRunner().invoke(app, ["run", "steer", "--limit", "2", "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    read = pd.read_parquet(out)
    direct = steer(subject, interp.dataset("prompts").iloc[[0, -1]], neurons, alphas=[2], controls=())
    assert read["run_id"].iat[0] == direct["run_id"].iat[0]
    assert read["kl"].tolist() == direct["kl"].tolist()


def test_another_model_is_refused_by_name(file, small_subject):
    other = small_subject("gpt2", "bridge")
    with pytest.raises(ModelError, match="this set of neurons is of 'reference' with fingerprint"):
        steer(other, ["w3 w4"], NeuronSet.load(file), alphas=[1])
    with (
        pytest.raises(ModelError, match="Choose them there with concept_neurons"),
        NeuronSet.load(file).steering(other, 1),
    ):
        pass


@pytest.mark.parametrize("lost", ["seeds", "seed_ids"])
def test_a_file_that_lacks_something_is_refused(file, tmp_path, lost):
    with safe_open(file, framework="pt") as opened:
        about = opened.metadata()["interp"].replace('"seeds"', '"other"' if lost == "seeds" else '"seeds"')
        tensors = {name: opened.get_tensor(name) for name in opened.keys() if name != lost}  # noqa: SIM118
    save_file(tensors, damaged := tmp_path / "damaged.safetensors", {"interp": about})
    with pytest.raises(InputError, match=rf"no set of neurons can be read from .*KeyError, '{lost}'. Save it again"):
        NeuronSet.load(damaged)
