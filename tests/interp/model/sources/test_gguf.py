"""GGUF files: their weights are the dequantised ones, and a file that is not whole is refused in one sentence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

import interp
from interp.errors import InputError, ModelError
from interp.model.sources.gguf import _QuickReader, reading
from probes import logit_lens

pytestmark = pytest.mark.filterwarnings("ignore::interp.errors.WithoutTemplate")
IDS = torch.tensor([[1, 30, 40, 50, 260, 7]])
TEXTS = ["the cat, the hat", " then\n\n  the <think>9</think>", "", "größer — 猫</s>the"]
NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def plain_llama(found: dict[str, np.ndarray]) -> LlamaForCausalLM:
    """A Llama of these tensors, made without transformers' reader of GGUF files."""
    n_tokens, d = found["token_embd.weight"].shape
    config = LlamaConfig(
        vocab_size=n_tokens, hidden_size=d, intermediate_size=d, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5,
        tie_word_embeddings="output.weight" not in found,
    )  # fmt: skip
    state = {}
    for name, array in found.items():
        weight = torch.tensor(array, dtype=torch.float32)
        if name.startswith("blk."):
            _, layer, part, _ = name.split(".")
            if part in ("attn_q", "attn_k"):
                # llama.cpp puts the two halves of a head, which rotate together, row by row beside each other.
                rows, size = torch.arange(len(weight)), d // 4
                head, within = rows // size, rows % size
                weight = weight[head * size + 2 * (within % (size // 2)) + within // (size // 2)]
            state[f"model.layers.{layer}.{NAMES[part]}.weight"] = weight
        else:
            place = {"token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm"}
            state[f"{place[name.removesuffix('.weight')]}.weight"] = weight
    model = LlamaForCausalLM(config).eval()
    told = model.load_state_dict(state, strict=False)
    assert not told.unexpected_keys and set(told.missing_keys) <= {"lm_head.weight"}
    return model


@pytest.mark.parametrize("kind", [Kind.Q4_1, Kind.Q8_0, Kind.F16, Kind.Q4_K])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_weights_are_the_dequantised_ones(write_gguf, tmp_path, kind, tied):
    path = tmp_path / "model.gguf"
    plain = plain_llama(write_gguf(path, kind, tied=tied))
    subject = interp.load(path, backend="nnsight" if tied else "bridge")
    weights = dict(subject.named_weights())
    for name, weight in plain.named_parameters():
        assert torch.equal(weights[name], weight), name
    assert weights.keys() == dict(plain.named_parameters()).keys()
    with torch.no_grad():
        wanted = plain(IDS).logits[0]
    torch.testing.assert_close(
        subject.logits(IDS)[0], wanted, atol=1e-4, rtol=0
    )  # a bridge's attention rounds otherwise
    assert subject.name == "model"
    assert subject.backend.form == {}


def test_both_backends_give_equal_frames(tiny_gguf):
    one, other = (logit_lens(interp.load(tiny_gguf, backend=name), TEXTS[0]) for name in ("bridge", "nnsight"))
    np.testing.assert_allclose(one["kl_to_final"], other["kl_to_final"], atol=1e-5)  # sums in another order


def test_after_loading_it_is_the_float_model_that_it_is(tiny_gguf, tmp_path):
    """Nothing says that it is quantised: transformers saves it, and the folder's fingerprint is the file's."""
    subject = interp.load(tiny_gguf)
    model = subject.backend.original
    assert not hasattr(model.config, "quantization_config")
    assert not any(hasattr(model, name) for name in ("hf_quantizer", "quantization_method", "is_quantized"))
    model.save_pretrained(tmp_path)
    again = interp.load(tmp_path)
    assert again.fingerprint == subject.fingerprint
    assert again.backend.origin == {}


def test_the_provenance_says_from_what(tiny_gguf):
    frame = logit_lens(interp.load(tiny_gguf), TEXTS[0])
    assert frame.interp.provenance.loc["origin"].iat[0] == {
        "format": "GGUF",
        "file": "tiny.gguf",
        "file_type": "Q8_0",
        "tensor_types": {"Q8_0": 15, "F32": 5},
        "sha256": hashlib.sha256(tiny_gguf.read_bytes()).hexdigest(),
    }


def test_dtype_is_the_asked_one(tiny_gguf):
    exact, half = interp.load(tiny_gguf), interp.load(tiny_gguf, dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    assert torch.equal(half.W_E, exact.W_E.bfloat16())


def test_a_folder_whose_only_model_is_one(tiny_gguf, tmp_path):
    folder = tmp_path / "some-model"
    folder.mkdir()
    (folder / "a.gguf").write_bytes(tiny_gguf.read_bytes())
    assert interp.load(folder).name == "some-model"
    (folder / "b.gguf").write_bytes(tiny_gguf.read_bytes())
    with pytest.raises(InputError, match=r"holds 2 GGUF files \('a.gguf', 'b.gguf'\); give the path of one"):
        interp.load(folder)


@pytest.mark.parametrize("end", [0, 3, 4, 20, 200, 5_000, -40, -1])
def test_a_file_that_is_cut_short_is_refused(tiny_gguf, tmp_path, end):
    path = tmp_path / "short.gguf"
    path.write_bytes(tiny_gguf.read_bytes()[:end])
    with pytest.raises(InputError, match=r"^[^\n]*short\.gguf'[^\n]*download (it|the file) again\.$"):
        interp.load(path)


@pytest.mark.parametrize("place", [4, 8, 16, 24, 60, 100])
def test_a_damaged_header_is_refused(tiny_gguf, tmp_path, place):
    """A length or a type is overwritten with ones: nothing is read for ever, and nobody is asked for 2**64 bytes."""
    path = tmp_path / "damaged.gguf"
    data = bytearray(tiny_gguf.read_bytes())
    data[place : place + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"^[^\n]*damaged\.gguf'[^\n]*again\.$"):
        interp.load(path)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"architecture": "rwkv7"}, InputError, "GGUF model with architecture rwkv7 is not supported yet; load the"),
        ({"fields": {"split.count": 3}}, InputError, "is one of 3 files of a model; join them"),
        (
            {"tensors": {"rope_freqs.weight": np.ones(32, np.float32)}},
            ModelError,
            "has 1 tensors that transformers leaves out of the model, 'rope_freqs.weight' among them",
        ),
        ({"fields": {"llama.rope.scaling.type": "yarn"}}, ModelError, "scales its rotary embedding (yarn)"),
    ],
)
def test_what_transformers_does_not_read_is_refused(write_gguf, tmp_path, options, error, words):
    path = tmp_path / "other.gguf"
    write_gguf(path, **options)
    with pytest.raises(error) as caught:
        interp.load(path)
    assert words in str(caught.value)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no file 'nowhere\.gguf'"):
        interp.load("nowhere.gguf")
    (tmp_path / "text.gguf").write_text("GPT, but not GGUF")
    with pytest.raises(InputError, match="is not a GGUF file, for it does not begin with the letters GGUF"):
        interp.load(tmp_path / "text.gguf")


def test_the_tokenizer_is_transformers_own(tiny_gguf):
    ours = interp.load(tiny_gguf).tokenizer
    theirs = AutoTokenizer.from_pretrained(tiny_gguf.parent, gguf_file=tiny_gguf.name)
    assert ours(TEXTS)["input_ids"] == theirs(TEXTS)["input_ids"]
    assert ours.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert ours.chat_template == theirs.chat_template
    assert [len(ids) > 0 for ids in ours(TEXTS)["input_ids"]] == [True, True, False, True]


def test_a_file_without_a_tokenizer(write_gguf, tmp_path, word_level):
    path = tmp_path / "bare.gguf"
    write_gguf(path, tokens=False)
    assert interp.load(path).tokenizer is None
    assert interp.load(path, tokenizer=word_level).tokenizer is word_level


@pytest.mark.parametrize("shown", [False, True])
def test_only_our_progress_is_shown(tiny_gguf, capfd, shown):
    with interp.options.local(progress=shown):
        interp.load(tiny_gguf)
    told = capfd.readouterr()
    assert told.out == ""
    assert ("dequantising" in told.err) == shown
    assert shown or told.err == ""
    assert told.err.count("dequantising") <= 2  # of 30 tensors: every state is a line in a log


def test_the_quick_reader_reads_what_the_slow_one_does(tiny_gguf):
    quick, slow = _QuickReader(tiny_gguf), GGUFReader(tiny_gguf)
    assert quick.fields.keys() == slow.fields.keys()
    left_out = {name for name, field in quick.fields.items() if not field.data and slow.fields[name].data}
    assert left_out == {"tokenizer.ggml.token_type", "tokenizer.ggml.merges"}
    for name in quick.fields.keys() - left_out:
        assert quick.fields[name].contents() == slow.fields[name].contents(), name
    for one, other in zip(quick.tensors, slow.tensors, strict=True):
        assert (one.name, one.tensor_type, one.data_offset) == (other.name, other.tensor_type, other.data_offset)
        assert np.array_equal(one.data, other.data)


def test_transformers_is_left_as_it_was(tiny_gguf):
    from transformers import modeling_gguf_pytorch_utils as theirs

    held = lambda: (gguf.GGUFReader, gguf.get_tensor_name_map, theirs.tqdm)  # noqa: E731
    before = held()
    with reading():
        assert gguf.GGUFReader is _QuickReader
    assert held() == before
    with pytest.raises(ZeroDivisionError), reading():
        raise ZeroDivisionError
    assert held() == before
    interp.load(tiny_gguf)
    assert held() == before


def test_provenance_is_json(tiny_gguf):
    subject = interp.load(tiny_gguf)
    assert json.loads(json.dumps(dict(subject.backend.origin)))["file"] == Path(tiny_gguf).name
