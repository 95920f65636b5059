"""Models come with code of their own, wrappers, too many weights, no tokenizer or no hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

import interp
from interp.errors import InputError, ModelError, UnknownName
from probes import logit_lens

IDS = torch.tensor([[1, 3, 4, 5, 6]])

OWN_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({mark!r}).write_text("ran")

class OwnConfig(LlamaConfig):
    model_type = "own-type"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
LOAD = """
import sys
import interp
try:
    print(interp.load(sys.argv[1], backend="nnsight"))
except interp.InputError as error:
    print("refused:", error)
"""


def one_sentence(error: Any) -> bool:
    return "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.fixture
def plain(small_model, word_level, tmp_path) -> Path:
    small_model("llama").save_pretrained(tmp_path / "model")
    word_level.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def own_code(plain, tmp_path, monkeypatch) -> tuple[Path, Path]:
    """A folder whose model needs code of its own, and the file that this code writes when it runs."""
    mark = tmp_path / "ran.txt"
    (plain / "own.py").write_text(OWN_CODE.format(mark=str(mark)))
    config = json.loads((plain / "config.json").read_text())
    config |= {"model_type": "own-type", "architectures": ["OwnForCausalLM"]}
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    (plain / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    return plain, mark


def test_code_that_comes_with_a_model_does_not_run(own_code):
    folder, mark = own_code
    with pytest.raises(InputError, match=r"needs code of its own.*trust_remote_code=True") as caught:
        interp.load(folder)
    assert one_sentence(caught) and not mark.exists()


def test_nobody_is_asked_whether_it_may_run(own_code, tmp_path):
    folder, mark = own_code
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "elsewhere"), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder)], input="yes\n" * 20, capture_output=True, text=True, env=environment,
        timeout=300,
    )  # fmt: skip
    assert ran.stdout.startswith("refused: 'model' needs code of its own")
    assert "[y/N]" not in ran.stdout + ran.stderr and not mark.exists()


def test_trusted_code_runs_and_frames_record_it(own_code, small_model):
    folder, mark = own_code
    subject = interp.load(folder, backend="nnsight", trust_remote_code=True)
    assert mark.read_text() == "ran" and subject.architecture == "OwnForCausalLM"
    with torch.no_grad():
        wanted = small_model("llama")(IDS).logits[0]
    torch.testing.assert_close(subject.logits(IDS)[0], wanted, atol=3e-5, rtol=1e-4)
    (run,) = logit_lens(subject, IDS).interp.runs.values()
    assert run["trust_remote_code"] is True


def test_what_needs_no_code_is_not_recorded_as_trusted(plain):
    (run,) = logit_lens(interp.load(plain), IDS).interp.runs.values()
    assert "trust_remote_code" not in run


def test_code_of_a_tokenizer_does_not_run(plain, tmp_path):
    (plain / "own.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran.txt')!r}).write_text('ran')\n")
    settings = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}}
    (plain / "tokenizer_config.json").write_text(json.dumps(settings))
    (plain / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"the tokenizer of 'model' needs code of its own"):
        interp.load(plain)
    with pytest.raises(InputError, match=r"the tokenizer of '.*model' needs code of its own"):
        interp.load("reference", tokenizer=plain)
    assert not (tmp_path / "ran.txt").exists()


def test_more_weights_than_the_config_has_places_for(plain):
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3, "layer_types": None}))
    with pytest.raises(ModelError, match=r"'model' has 9 weights .* no place for, 'model\.layers\.3\.") as caught:
        interp.load(plain)
    assert one_sentence(caught)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "gpt_neo", "llama"])
def test_what_older_versions_saved_beside_the_weights_is_left_out(small_model, tmp_path, architecture):
    model = small_model(architecture)
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    of_block = {
        "gpt2": ("transformer.h.0.attn.", ("bias", "masked_bias")),
        "gpt_neox": ("gpt_neox.layers.0.attention.", ("bias", "masked_bias", "rotary_emb.inv_freq")),
        "gpt_neo": ("transformer.h.0.attn.attention.", ("bias", "masked_bias")),
        "llama": ("model.layers.0.self_attn.", ("rotary_emb.inv_freq",)),
    }
    start, names = of_block[architecture]
    save_file(state | {start + name: torch.ones(1) for name in names}, tmp_path / "model.safetensors", {"format": "pt"})
    own, left_out = (interp.load(one, backend="nnsight") for one in (model, tmp_path))
    assert own.fingerprint == left_out.fingerprint


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "gemma2", "qwen2", "opt", "bloom"])
def test_a_folder_without_a_tokenizer_has_none(small_model, tmp_path, architecture):
    # transformers makes an empty one up for most of these.
    small_model(architecture).save_pretrained(tmp_path)
    subject = interp.load(tmp_path, backend="nnsight")
    assert subject.tokenizer is None
    with pytest.raises(InputError, match=r"came without a tokenizer: .*tokenizer=") as caught:
        subject.tokens("w3 w4")
    assert one_sentence(caught)


def test_a_damaged_tokenizer_is_named(plain):
    (plain / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"the tokenizer of 'model' cannot be read") as caught:
        interp.load(plain)
    assert one_sentence(caught)


def test_damaged_weights_are_named(plain):
    (plain / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match=r"the weights of 'model' cannot be read") as caught:
        interp.load(plain)
    assert one_sentence(caught)


def test_a_hub_that_cannot_be_reached_costs_one_sentence(capfd):
    started = time.monotonic()
    with pytest.raises(UnknownName, match=r"'someone/no-such-model'.*cannot be reached") as caught:
        interp.load("someone/no-such-model")
    assert time.monotonic() - started < 2  # transformers takes more than twenty seconds
    assert one_sentence(caught)
    shown = capfd.readouterr()
    assert not shown.out and not shown.err


def test_a_cached_model_needs_no_hub(plain, tmp_path, monkeypatch):
    # As the hub's client keeps it: a commit's files in snapshots/, and the name of the commit in refs/.
    cache = tmp_path / "cache"
    kept = cache / "models--someone--tiny"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    (kept / "snapshots").mkdir()
    shutil.copytree(plain, kept / "snapshots" / ("0" * 40))
    for name in ("huggingface_hub.constants.HF_HUB_CACHE", "transformers.utils.hub.constants.HF_HUB_CACHE"):
        monkeypatch.setattr(name, str(cache))
    subject = interp.load("someone/tiny", backend="nnsight")
    assert (subject.name, subject.tokenizer is not None) == ("someone/tiny", True)
    assert subject.fingerprint == interp.load(plain, backend="nnsight").fingerprint


def test_what_torch_compile_made_is_studied_as_what_it_wraps(small_model, any_backend):
    model = small_model("llama")
    subject, compiled = (interp.load(one, backend=any_backend) for one in (model, torch.compile(model)))
    assert compiled.name == "LlamaForCausalLM" and compiled.fingerprint == subject.fingerprint
    assert torch.equal(compiled.logits(IDS)[0], subject.logits(IDS)[0])
    model.compile()  # in place: only the call of the whole model is compiled
    assert torch.equal(interp.load(model, backend=any_backend).logits(IDS)[0], subject.logits(IDS)[0])


@pytest.mark.parametrize("what", ["forward", "block", "block's forward"])
def test_compiled_parts_are_refused_at_once(small_model, what, any_backend):
    model = small_model("llama")
    if what == "forward":
        model.forward = torch.compile(model.forward)
    elif what == "block":
        model.model.layers[1] = torch.compile(model.model.layers[1])
    else:
        model.model.layers[1].forward = torch.compile(model.model.layers[1].forward)
    with pytest.raises(ModelError, match=r"is compiled \(.*before torch\.compile") as caught:
        interp.load(model, backend=any_backend)
    assert one_sentence(caught)


class Pipeline:
    """As of transformers: a model and its tokenizer side by side."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer


def test_objects_around_a_model_say_what_to_pass(small_model, word_level):
    model = small_model("llama")
    with pytest.raises(InputError, match=r"a DataParallel, which wraps a LlamaForCausalLM: pass its \.module\."):
        interp.load(nn.DataParallel(model))
    with pytest.raises(InputError, match=r"a Pipeline, which .*: pass its \.model with tokenizer=its \.tokenizer\."):
        interp.load(Pipeline(model, word_level))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("kind", [AutoModel, AutoModelForSequenceClassification])
def test_a_model_without_an_unembedding_is_named(small_model, architecture, kind, any_backend):
    config = small_model(architecture).config
    with pytest.raises(ModelError, match=r"has no unembedding: load it with AutoModelForCausalLM") as caught:
        interp.load(kind.from_config(config).eval(), backend=any_backend)
    assert one_sentence(caught)


def test_nnsight_is_advised_where_it_works(small_model):
    class OwnLlama(type(small_model("llama"))):
        """A class whose name TransformerLens does not know."""

    model = OwnLlama(small_model("llama").config).eval()
    with pytest.raises(ModelError, match=r"cannot build a bridge around 'OwnLlama' .*; use backend='nnsight'\."):
        interp.load(model)
    assert len(logit_lens(interp.load(model, backend="nnsight"), IDS))


def test_nnsight_is_not_advised_where_it_fails_too(small_model):
    class OwnLlama(type(small_model("llama"))):
        """A class whose name TransformerLens does not know, and whose forward pass fails."""

        def forward(self, *args, **kwargs):
            raise RuntimeError("this machine has no such kernel")

    with pytest.raises(ModelError, match=r"and nnsight cannot run it either: .*no such kernel") as caught:
        interp.load(OwnLlama(small_model("llama").config).eval())
    assert "use backend" not in str(caught.value)


def test_a_quantised_folder_whose_library_is_missing(plain, monkeypatch):
    config = json.loads((plain / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (plain / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"the weights of 'model' cannot be read") as caught:
        interp.load(plain)
    assert one_sentence(caught)


def test_a_quantised_copy_in_another_dtype_is_refused(plain):
    from transformers import BitsAndBytesConfig

    how = BitsAndBytesConfig(load_in_8bit=True)
    model = AutoModelForCausalLM.from_pretrained(plain, quantization_config=how)
    with pytest.raises(InputError, match=r"device= or dtype= cannot be applied to this LlamaForCausalLM") as caught:
        interp.load(model, dtype="bfloat16")
    assert one_sentence(caught)
