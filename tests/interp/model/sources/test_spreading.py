"""A model read by a device map, a part of it left on disk, is the model that a plain load gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accelerate
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import interp
from interp.errors import InputError, ModelError
from interp.model.backends.parts import layer_list
from probes import (
    attribute,
    layer_robustness,
    logit_lens,
    neuron_tokens,
    normxlogit,
    run_schedules,
    top_tokens,
)

TEXTS = ["w3 w4 w5 w6 w7", "w8 w9 w10"]
IDS = torch.tensor([[1, 3, 4, 5, 6]])


@pytest.fixture(scope="module")
def folder_of(small_model, word_level, tmp_path_factory) -> Any:
    """`folder_of(architecture, dtype, **changes)`: a small model saved to a folder."""

    def save(architecture: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
        path = tmp_path_factory.mktemp("models") / "tiny"
        small_model(architecture, **changes).to(dtype).save_pretrained(path)
        word_level.save_pretrained(path)
        return path

    return save


@pytest.fixture(scope="module")
def llama(folder_of) -> Path:
    return folder_of("llama")


def on_disk(folder: Path) -> dict[str, str]:
    """A device map that leaves every other block, the embedding and the unembedding on disk."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    path, blocks = layer_list(model)
    above = path.rpartition(".")[0]
    found = {f"{path}.{index}": ("cpu", "disk")[index % 2] for index in range(len(blocks))}
    for name, _ in model.get_submodule(above).named_children():
        found.setdefault(f"{above}.{name}", "disk")
    found.pop(path)
    return found | {name: "disk" for name, _ in model.named_children() if name != above.partition(".")[0]}


def provenance(frame: pd.DataFrame) -> dict[str, Any]:
    (run,) = frame.interp.runs.values()
    return run


def is_mapped_from_a_file(tensor: torch.Tensor) -> bool:
    """Tell by the system's list of mappings whether the numbers of a tensor are in a file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, file = line.split(maxsplit=5) if len(line.split()) > 5 else (line.split()[0], "")
        start, end = (int(bound, 16) for bound in span.split("-"))
        if start <= tensor.data_ptr() < end:
            return file.startswith("/")
    return False


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "tied llama"])
def test_every_probe_gives_the_frame_of_the_plain_load(folder_of, architecture, any_backend):
    tied = {"tie_word_embeddings": True} if architecture.startswith("tied") else {}
    folder = folder_of(architecture.split()[-1], **tied)
    plain = interp.load(folder, backend=any_backend)
    spread = interp.load(folder, backend=any_backend, device_map=on_disk(folder))
    assert spread.fingerprint == plain.fingerprint and spread.unknown_code == ()
    assert torch.equal(spread.logits(IDS)[0], plain.logits(IDS)[0])
    on_all = (top_tokens, layer_robustness, normxlogit, attribute)  # each once, as they read models by the same means
    for probe in (logit_lens, *(on_all if architecture == "llama" else ())):
        own, theirs = (probe(subject, TEXTS) for subject in (spread, plain))
        pd.testing.assert_frame_equal(own, theirs, check_exact=True)  # the run id too
    pd.testing.assert_frame_equal(neuron_tokens(spread), neuron_tokens(plain), check_exact=True)
    assert torch.equal(spread.W_E, plain.W_E) and torch.equal(spread.W_U, plain.W_U)
    own, theirs = (run_schedules(one, TEXTS, {"skip": [0, 1, 3]}) for one in (spread, plain))
    pd.testing.assert_frame_equal(own, theirs, check_exact=True)
    for one, other in zip(spread.weight_matrices(), plain.weight_matrices(), strict=True):
        assert one.name == other.name and torch.equal(one.weight, other.weight)


def test_what_is_on_disk_stays_there(llama):
    spread = interp.load(llama, backend="nnsight", device_map=on_disk(llama))
    spread.logits(IDS)
    places = on_disk(llama)
    for name, weight in spread.named_weights():
        place = next(place for path, place in places.items() if name.startswith(f"{path}."))
        assert not weight.is_meta and (place != "disk" or is_mapped_from_a_file(weight))
    assert not any(hasattr(module, "_hf_hook") for module in spread.backend.original.modules())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_another_dtype_than_that_of_the_file_is_written_anew(folder_of, dtype, any_backend, tmp_path):
    stored = torch.bfloat16 if dtype == "float32" else torch.float32
    folder = folder_of("llama", stored)
    places = on_disk(folder)
    with pytest.raises(InputError, match=r"stored as b?float\d\d, .*have to be written anew; give offload_folder="):
        interp.load(folder, dtype=dtype, device_map=places)
    plain = interp.load(folder, backend=any_backend, dtype=dtype)
    spread = interp.load(folder, backend=any_backend, dtype=dtype, device_map=places, offload_folder=tmp_path / "off")
    assert (spread.dtype, spread.fingerprint) == (plain.dtype, plain.fingerprint)
    pd.testing.assert_frame_equal(logit_lens(spread, TEXTS), logit_lens(plain, TEXTS), check_exact=True)
    assert is_mapped_from_a_file(dict(spread.named_weights())["lm_head.weight"])


def test_memory_that_does_not_hold_the_model(llama):
    size = sum(file.stat().st_size for file in llama.glob("*.safetensors"))
    spread = interp.load(llama, backend="nnsight", device_map="auto", max_memory={"cpu": size // 2})
    told = provenance(logit_lens(spread, TEXTS))["loaded_with"]
    assert told["device_map"] == "auto" and told["max_memory"] == {"cpu": size // 2}
    assert set(told["devices"].values()) == {"cpu", "disk"}
    assert "loaded_with" not in provenance(logit_lens(interp.load(llama, backend="nnsight"), TEXTS))


@pytest.mark.parametrize("device_map", ["auto", "cpu", {"": "cpu"}])
def test_maps_that_offload_nothing(llama, device_map, any_backend):
    spread = interp.load(llama, backend=any_backend, device_map=device_map)
    plain = interp.load(llama, backend=any_backend)
    pd.testing.assert_frame_equal(logit_lens(spread, TEXTS), logit_lens(plain, TEXTS), check_exact=True)


@pytest.mark.parametrize("config", [{"load_in_8bit": True}, {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}])
@pytest.mark.parametrize("as_dict", [True, False])
def test_a_quantised_model(folder_of, config, as_dict, any_backend):
    folder = folder_of("llama", hidden_size=64, intermediate_size=128)
    given = config | {"quant_method": "bitsandbytes"} if as_dict else BitsAndBytesConfig(**config)
    subject = interp.load(folder, backend=any_backend, device_map="cpu", quantization_config=given)
    run = provenance(logit_lens(subject, TEXTS))
    assert run["loaded_with"]["quantization_config"].items() >= config.items()
    (method,) = run["form"]["quantised"]
    assert method == f"bitsandbytes {'8' if 'load_in_8bit' in config else '4'}-bit"
    live = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=BitsAndBytesConfig(**config)
    )
    with torch.no_grad():
        assert torch.equal(subject.logits(IDS)[0], live.eval()(input_ids=IDS).logits[0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "cpu", "device_map": "auto"}, "device= and device_map= both say where the model goes"),
        ({"max_memory": {"cpu": "1GiB"}}, "max_memory= has no meaning without a device map; add device_map='auto'"),
        ({"offload_folder": "x"}, "offload_folder= has no meaning without a device map"),
        ({"device_map": "aut"}, "device_map='aut' cannot be used here; give 'auto', 'balanced'"),
        ({"device_map": {"": "moon"}}, "device_map sends '' to 'moon', which is not a device here"),
        ({"device_map": "auto", "max_memory": {"cpu": "8 gigs"}}, "max_memory gives 'cpu' '8 gigs'; give bytes, or"),
        ({"device_map": "auto", "max_memory": {"cpu": -1}}, "max_memory gives 'cpu' -1; give bytes, or"),
        ({"quantization_config": "8bit"}, "quantization_config is a str; give one of"),
        ({"quantization_config": {"load_in_9bit": True}}, r"has \['load_in_9bit'\] and no 'quant_method'; give"),
        ({"remote": True, "device_map": "auto"}, "device_map= cannot be applied to a model on NDIF"),
    ],
)
def test_what_does_not_go_together(llama, given, message):
    with pytest.raises(InputError, match=message) as caught:
        interp.load(llama, **given)
    assert "\n" not in str(caught.value)


def test_a_live_model_is_not_spread(small_model, small_subject):
    with pytest.raises(InputError, match="device_map= cannot be applied to a model that is loaded already"):
        interp.load(small_model("llama"), device_map="auto")
    with pytest.raises(InputError, match="quantization_config= cannot be applied to a Subject"):
        interp.load(small_subject("llama", "bridge"), quantization_config={"load_in_8bit": True})


def test_a_live_model_that_is_offloaded_is_refused(small_model, any_backend):
    model = accelerate.cpu_offload(small_model("llama"))
    with pytest.raises(ModelError, match=r"is offloaded by accelerate, which brings .* with device_map="):
        interp.load(model, backend=any_backend)


def test_a_gguf_file_is_not_spread(tiny_gguf):
    with pytest.raises(InputError, match=r"device_map= cannot be applied to the GGUF file of .*; give the model's H"):
        interp.load(tiny_gguf, device_map="auto")
