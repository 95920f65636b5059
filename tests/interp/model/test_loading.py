"""`interp.load` takes whatever holds a causal language model, and says in one sentence what it cannot take."""

from __future__ import annotations

import json
import linecache
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

import interp
from interp.data.shipped import shipped_path
from interp.errors import InputError, ModelError, UnknownName
from interp.model.sites import SiteName
from probes import attribution_patch, layer_robustness, logit_lens, patch
from probes.attribution._last_position import log_prob_and_rank, read_last

# A bridge computes attention with other kernels than transformers: float32 rounding, 6e-8 relative, in four blocks.
CLOSE = {"atol": 3e-5, "rtol": 1e-4}


@pytest.fixture(scope="module")
def folder(small_model, word_level, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny-llama"
    small_model("llama").save_pretrained(path)
    word_level.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def own_logits(small_model) -> Tensor:
    with torch.no_grad():
        return small_model("llama")(torch.tensor([[1, 3, 4, 5, 6]])).logits[0]


def assert_same_model(subject: interp.Subject, own_logits: Tensor) -> None:
    torch.testing.assert_close(subject.logits(torch.tensor([[1, 3, 4, 5, 6]]))[0], own_logits, **CLOSE)
    if subject.tokenizer is not None:
        torch.testing.assert_close(subject.logits("w3 w4 w5 w6")[0], own_logits, **CLOSE)


def one_sentence(error: Exception) -> bool:
    return "\n" not in str(error) and len(str(error)) < 300


@pytest.mark.parametrize("backend", [None, "bridge", "nnsight"])
def test_the_shipped_model_by_name(backend):
    subject = interp.load("reference", backend=backend)
    config = json.loads((shipped_path("reference") / "config.json").read_text())
    assert (subject.name, subject.backend.kind) == ("reference", backend or "bridge")
    assert (subject.n_layers, subject.d_model) == (config["n_layer"], config["n_embd"])
    assert (subject.d_vocab, subject.n_ctx) == (config["vocab_size"], config["n_positions"])
    assert subject.d_mlp == 4 * subject.d_model
    assert subject.dtype is torch.float32  # whatever the file holds
    assert re.fullmatch(
        r"Subject\('reference', GPT2LMHeadModel, \d+ layers of \d+, .*, torch.float32, cpu\)", repr(subject)
    )


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_folder(folder, own_logits, any_backend, as_path):
    subject = interp.load(as_path(folder), backend=any_backend)
    assert (subject.name, subject.backend.kind) == ("tiny-llama", any_backend)
    assert_same_model(subject, own_logits)
    assert subject.tokenizer is not None


def test_a_live_model_with_its_tokenizer(small_model, word_level, own_logits, any_backend):
    subject = interp.load(small_model("llama"), tokenizer=word_level, backend=any_backend)
    assert subject.name == "LlamaForCausalLM"  # nothing better is known
    assert subject.tokenizer is word_level
    assert_same_model(subject, own_logits)


def test_a_live_model_without_a_tokenizer_takes_ids(small_model, own_logits, any_backend):
    subject = interp.load(small_model("llama"), backend=any_backend)
    assert_same_model(subject, own_logits)
    with pytest.raises(InputError, match="came without a tokenizer"):
        subject.logits("w3")


def test_a_model_read_from_a_folder_is_named_after_it(folder):
    from transformers import AutoModelForCausalLM

    assert interp.load(AutoModelForCausalLM.from_pretrained(folder), backend="nnsight").name == "tiny-llama"


def test_a_tokenizer_by_name(small_model, folder, own_logits):
    assert_same_model(interp.load(small_model("llama"), tokenizer=str(folder)), own_logits)
    with pytest.raises(InputError, match="no tokenizer can be loaded from 'no/such'") as caught:
        interp.load(small_model("llama"), tokenizer="no/such")
    assert one_sentence(caught.value)


def test_a_bridge(small_model, word_level, own_logits):
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    model = small_model("llama")
    bridge = build_bridge_from_module(model, "LlamaForCausalLM", hf_config=model.config)
    subject = interp.load(bridge, tokenizer=word_level)
    assert (subject.name, subject.backend.bridge) == ("LlamaForCausalLM", bridge)
    assert_same_model(subject, own_logits)
    with pytest.raises(InputError, match="taken its model apart"):
        interp.load(bridge, backend="nnsight")


def test_a_native_bridge():
    from interp.planted import copying

    planted = copying()
    subject = interp.load(planted.model)
    ids = torch.tensor([[3, 0, 2, 3]])
    torch.testing.assert_close(subject.logits(ids)[0].double(), planted.truth.logits(ids)[0], atol=1e-5, rtol=0)
    assert subject.name == "planted/copying"
    assert len(subject.fingerprint) == 16


@pytest.mark.filterwarnings("ignore:LanguageModel is deprecated")
@pytest.mark.parametrize("wrapper", ["TransformersModel", "LanguageModel", "NNsight"])
def test_an_nnsight_model(small_model, word_level, own_logits, wrapper):
    import nnsight

    given = {} if wrapper == "NNsight" else {"tokenizer": word_level}
    wrapped = getattr(nnsight, wrapper)(small_model("llama"), **given)
    subject = interp.load(wrapped)
    assert (subject.backend.kind, subject.backend.model) == ("nnsight", wrapped)
    assert_same_model(subject, own_logits)
    rebuilt = interp.load(wrapped, backend="bridge")
    assert rebuilt.backend.kind == "bridge"
    assert_same_model(rebuilt, own_logits)


def test_an_nnsight_model_before_its_weights_are_read(folder, word_level, own_logits, any_backend):
    from nnsight import TransformersModel

    # Until its first trace nnsight holds shapes on the meta device.
    wrapped = TransformersModel(str(folder), task="text-generation", tokenizer=word_level)
    assert not wrapped.dispatched
    subject = interp.load(wrapped, backend=any_backend)
    assert_same_model(subject, own_logits)
    assert subject.device.type == "cpu"
    assert subject.fingerprint == interp.load(folder).fingerprint


def test_a_model_that_nnsight_has_wrapped_before(small_model, own_logits, any_backend):
    from nnsight import NNsight

    model = small_model("llama")
    NNsight(model)  # leaves its own `forward` on every module
    assert_same_model(interp.load(model, backend=any_backend), own_logits)


def test_a_subject_is_itself(small_subject):
    subject = small_subject("gpt2", "bridge")
    assert interp.load(subject) is subject
    for given in ({"backend": "nnsight"}, {"device": "cpu"}, {"dtype": "float16"}, {"tokenizer": object()}):
        with pytest.raises(InputError, match=f"{next(iter(given))}= cannot be applied to a Subject"):
            interp.load(subject, **given)


def test_a_passed_wrapper_is_not_converted(small_model, word_level):
    from nnsight import NNsight

    for given in ({"device": "cpu"}, {"dtype": "float16"}, {"revision": "main"}):
        with pytest.raises(InputError, match="cannot be applied to an nnsight model"):
            interp.load(NNsight(small_model("gpt2")), **given)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", torch.bfloat16])
def test_a_folder_in_another_dtype(folder, dtype):
    wanted = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
    subject = interp.load(folder, dtype=dtype, backend="nnsight")
    assert subject.dtype is wanted
    assert subject.logits(torch.tensor([[3, 4]]))[0].dtype is wanted


def test_a_live_model_in_another_dtype_is_a_copy(small_model, any_backend):
    model = small_model("llama")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    subject = interp.load(model, dtype="bfloat16", device="cpu", backend=any_backend)
    assert subject.dtype is torch.bfloat16
    assert all(parameter.dtype is torch.float32 for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert subject.W_E.data_ptr() != model.get_input_embeddings().weight.data_ptr()


def test_without_conversion_no_weight_is_copied(small_model, any_backend):
    model = small_model("llama")
    assert interp.load(model, backend=any_backend).W_E.data_ptr() == model.get_input_embeddings().weight.data_ptr()


@pytest.mark.parametrize("dtype", ["float31", "bfloat", "int8", torch.int8, "nn"])
def test_a_dtype_that_is_none(dtype):
    with pytest.raises(UnknownName, match="unknown dtype") as caught:
        interp.load("reference", dtype=dtype)
    assert one_sentence(caught.value)


def test_the_nearest_dtype_is_named():
    with pytest.raises(UnknownName, match="did you mean 'bfloat16'"):
        interp.load("reference", dtype="bfloat61")


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cud"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(InputError, match=f"device '{device}' cannot be used here") as caught:
        interp.load("reference", device=device)
    assert one_sentence(caught.value)


def test_a_backend_that_is_none(small_model, small_subject):
    from nnsight import NNsight

    for source in ("reference", small_model("gpt2"), NNsight(small_model("gpt2")), small_subject("gpt2", "bridge")):
        with pytest.raises(UnknownName, match="unknown backend 'bridges'; did you mean 'bridge'"):
            interp.load(source, backend="bridges")


@pytest.mark.parametrize("name", ["refrence", "reference-model", "Reference"])
def test_an_unknown_name_near_a_known_one(name):
    with pytest.raises(UnknownName, match=f"unknown model '{name}'; did you mean 'reference'") as caught:
        interp.load(name)
    assert one_sentence(caught.value)


@pytest.mark.parametrize("name", ["no-such-model", "someone/no-such-model"])
def test_a_hub_id_that_cannot_be_reached(name):
    with pytest.raises(
        UnknownName, match=f"unknown model '{name}'.*hub does not have it or cannot be reached"
    ) as caught:
        interp.load(name)
    assert one_sentence(caught.value)


@pytest.mark.parametrize("path", ["./no/such/folder", "/no/such", "~/no-such-folder", "a/b/c"])
def test_a_folder_that_is_not_there(path):
    with pytest.raises(UnknownName, match="unknown model"):
        interp.load(path)


def test_a_folder_without_a_config(tmp_path):
    with pytest.raises(InputError, match=r"has no config\.json; save the model with save_pretrained"):
        interp.load(tmp_path)


@pytest.mark.parametrize("config", ["{", "{}", '{"model_type": "no-such-type"}'])
def test_a_config_that_cannot_be_read(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=r"config of .* cannot be read") as caught:
        interp.load(tmp_path)
    assert one_sentence(caught.value)


def test_a_folder_without_weights(small_model, tmp_path):
    small_model("gpt2").config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"weights of .* cannot be read") as caught:
        interp.load(tmp_path)
    assert one_sentence(caught.value)


def test_a_folder_that_lacks_some_weights(small_model, tmp_path):
    # transformers makes up what is missing, and only warns.
    model = small_model("llama")
    state = {name: tensor for name, tensor in model.state_dict().items() if "layers.2.mlp" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ModelError, match=r"lacks 3 of its weights, 'model.layers.2.mlp.down_proj.weight' among them"):
        interp.load(tmp_path)


def test_tied_weights_are_not_missing(small_model, tmp_path):
    model = small_model("gpt2")
    assert model.lm_head.weight is model.transformer.wte.weight
    model.save_pretrained(tmp_path)
    assert interp.load(tmp_path, backend="nnsight").fingerprint == interp.load(model, backend="nnsight").fingerprint


@pytest.mark.parametrize("source", [7, None, object(), torch.nn.Linear(2, 2), {"model": "gpt2"}])
def test_what_is_no_model(source):
    with pytest.raises(InputError, match="cannot study a") as caught:
        interp.load(source)
    assert one_sentence(caught.value)


def test_an_nnsight_wrapper_around_no_language_model():
    from nnsight import NNsight

    with pytest.raises(ModelError, match="a Linear without a Hugging Face config"):
        interp.load(NNsight(torch.nn.Linear(2, 2)))


@pytest.fixture
def without_key():
    import nnsight

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nnsight.CONFIG.API, "APIKEY", None)
        yield


def test_remote_without_a_key(folder, without_key):
    for source in ("reference", folder):
        with pytest.raises(ModelError, match=r"needs an API key .*set_default_api_key") as caught:
            interp.load(source, remote=True)
        assert one_sentence(caught.value)


def test_remote_needs_nnsight_and_a_hub_id(small_model, small_subject):
    with pytest.raises(InputError, match="runs through nnsight"):
        interp.load("reference", backend="bridge", remote=True)
    for source in (small_model("gpt2"), small_subject("gpt2", "nnsight")):
        with pytest.raises(InputError, match="remote"):
            interp.load(source, remote=True)


def run_as_sent(rehearsal, tracer):
    """Run what was unpickled, as NDIF does and nnsight's rehearsal does not, which runs the originals.

    What is sent of a function is its source: it arrives without its decorators, and `super()` does not know its class.
    """
    from nnsight.ndif import pull_env
    from nnsight.schema.request import RequestModel
    from nnsight.tracing.tracer import push

    pull_env()
    rehearsal.model.dispatch()  # there, the weights are loaded
    here, source = tracer.info.frame, tracer.info.frame.f_code.co_filename
    sent = RequestModel.serialize(tracer, compress=False)
    hidden = rehearsal._hide_local_modules()
    try:
        arrived = RequestModel.deserialize(sent, rehearsal.model._remoteable_persistent_objects(), compress=False)
        there = arrived.info.frame
        names = dict(there.f_locals)
        tracer.info.frame = there
        tracer.execute(arrived.info.code)
    finally:
        tracer.info.frame = here
        rehearsal._restore(hidden)
        linecache.cache.pop(source, None)  # it would show the program's source in place of the file's
    push(here, {name: value for name, value in there.f_locals.items() if names.get(name) is not value})


@pytest.fixture(scope="module")
def as_if_remote(folder):
    """A subject whose every program is pickled, and unpickled and run where none of our modules can be imported."""
    import nnsight
    from nnsight.intervention.backends.local import LocalSimulationBackend

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nnsight.CONFIG.API, "APIKEY", "a key")
        patch.setattr(LocalSimulationBackend, "__call__", run_as_sent)
        subject = interp.load(str(folder), remote=True)
        subject.backend.remote = "local"  # what nnsight calls this rehearsal
        yield subject


def test_a_remote_run_rehearsed(as_if_remote, folder):
    texts = ["w3 w4 w5", "w6 w7 w8 w9 w10 w11"]
    remote, local = (logit_lens(source, texts, sublayers=True) for source in (as_if_remote, folder))
    numbers = ["log_prob", "entropy", "kl_to_final", "top1_prob"]
    # The two backends differ by float32 rounding.
    assert (remote[numbers] - local[numbers]).abs().max().max() < 1e-4
    assert (remote[["rank", "top1_id"]] == local[["rank", "top1_id"]]).all().all()


def test_schedules_run_remotely_too(as_if_remote, folder):
    texts = ["w3 w4 w5", "w6 w7 w8 w9 w10 w11"]
    remote, local = (layer_robustness(source, texts) for source in (as_if_remote, folder))
    assert (remote[["intervention", "layer", "pos"]] == local[["intervention", "layer", "pos"]]).all().all()
    assert (remote[["kl", "entropy", "loss"]] - local[["kl", "entropy", "loss"]]).abs().max().max() < 1e-4
    remote, local = (
        layer_robustness(source, texts, interventions=("delete_mlp",), controls=()) for source in (as_if_remote, folder)
    )
    assert (remote[["kl", "entropy", "loss"]] - local[["kl", "entropy", "loss"]]).abs().max().max() < 1e-4


def test_patches_run_remotely_too(as_if_remote, folder):
    clean, corrupt = ["w3 w4 w5", "w6 w7 w8 w9 w10 w11"], ["w3 w9 w5", "w6 w7 w8 w20 w10 w11"]
    remote, local = (patch(one, clean, corrupt, sites=("resid_pre", "resid_post")) for one in (as_if_remote, folder))
    assert (remote[["site", "layer", "pos", "target_id"]] == local[["site", "layer", "pos", "target_id"]]).all().all()
    assert (remote["value"] - local["value"]).abs().max() < 1e-4


def test_sites_are_recorded_remotely_too(as_if_remote, folder):
    texts, local = ["w3 w4 w5", "w6 w7 w8 w9 w10 w11"], interp.load(folder)
    sites = [name for name in get_args(SiteName) if name != "router"]  # of which this model has none
    found, expected = (one.record(texts, sites) for one in (as_if_remote, local))
    for name in sites:
        # -inf where scores are masked
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-4, err_msg=name)
    with pytest.raises(ModelError, match="shows no router"):
        as_if_remote.record(texts, "router")


def test_every_site_is_patched_remotely_too(as_if_remote, folder):
    clean, corrupt = ["w3 w4 w5", "w6 w7 w8 w9 w10 w11"], ["w3 w9 w5", "w6 w7 w8 w20 w10 w11"]
    sites = ("resid_mid", "attn_out", "norm2", "neurons", "q", "v", "scores", "pattern", "head_out")
    given = {"sites": sites, "layers": [1, 3], "positions": -2, "target": "w7", "against": "w8"}
    asked = (patch, {"controls": ("random",)}, "value"), (attribution_patch, {"exact": 0.0}, "estimate")
    for probe, more, value in asked:
        remote, local = (probe(source, clean, corrupt, **given, **more) for source in (as_if_remote, folder))
        places = [one[["site", "layer", "head", "pos"]].fillna(-1) for one in (remote, local)]
        assert (places[0] == places[1]).all().all()
        assert (remote[value] - local[value]).abs().max() < 1e-4 < local[value].abs().max()


def test_edits_go_to_a_remote_model_with_every_pass(as_if_remote, folder):
    text, local = "w6 w7 w8 w9 w10 w11", interp.load(folder)

    def without_a_head(value):
        value[:, :, 2] = 0.0
        return value

    def measured(subject):
        ids = subject.tokens(text).ids[0][None]
        left = torch.from_numpy(subject.record(text, "resid_post", layers=[1, -1])["resid_post"])
        after = subject.next_token_logits(ids, torch.tensor([ids.shape[1] - 1]), lambda logits: logits)
        return left, subject.logits(text)[0], after

    clean = measured(as_if_remote)
    edited = []
    for subject in (as_if_remote, local):
        with subject.edited([(subject.site("z", 1), without_a_head)], {"ablated": "a head"}):
            edited.append(measured(subject))
    for there, here, before in zip(*edited, clean, strict=True):
        torch.testing.assert_close(there, here, atol=1e-4, rtol=0)
        assert not torch.allclose(there, before, atol=1e-2)
    # Gone afterwards, also after an error, and an edit at which nothing passed is an error there too.
    with pytest.raises(ZeroDivisionError), as_if_remote.edited([(as_if_remote.site("z", 1), without_a_head)], {}):
        raise ZeroDivisionError
    assert not as_if_remote.backend.sent
    for again, before in zip(measured(as_if_remote), clean, strict=True):
        torch.testing.assert_close(again, before, atol=0, rtol=0)
    with pytest.raises(ModelError, match="nothing passed through z of block 1"):  # noqa: SIM117
        with as_if_remote.edited([(as_if_remote.site("z", 1), without_a_head)], {}):
            pass


def test_the_ends_of_texts_are_read_remotely_too(as_if_remote, folder):
    ids = torch.randint(3, 61, (3, 9), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([9, 2, 6])
    read = [
        read_last(source, ids, lengths, log_prob_and_rank(ids[:, 0])) for source in (as_if_remote, interp.load(folder))
    ]
    torch.testing.assert_close(*read, atol=1e-4, rtol=0)


def test_what_a_remote_model_knows_here(as_if_remote, folder):
    assert as_if_remote.backend.facts == interp.load(folder).backend.facts
    assert as_if_remote.device.type == "cpu"
    assert len(as_if_remote.fingerprint) == 16
    for read in (lambda: as_if_remote.W_E, lambda: as_if_remote.b_U, lambda: as_if_remote.value_vectors(0)):
        with pytest.raises(ModelError, match="are on NDIF"):
            read()


def test_only_the_backend_in_use_is_imported():
    program = """
import sys
watched = {"transformer_lens", "nnsight"}
import interp
print(sorted(watched & sys.modules.keys()))
interp.load("reference")
print(sorted(watched & sys.modules.keys()))
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['transformer_lens']"]
