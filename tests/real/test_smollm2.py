"""SmolLM2-135M-Instruct, fetched: it knows the capital of France, and both backends and every cheap probe run on it."""

from __future__ import annotations

import gguf
import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import interp
from interp.model.sources.gguf import make_float, reading
from interp.report.every_probe import run_every_probe
from probes import layer_robustness, logit_lens

pytestmark = pytest.mark.filterwarnings("ignore::interp.errors.WithoutTemplate")
FRANCE = "The capital of France is"
TEXTS = pd.DataFrame(
    {
        "text": [FRANCE, "Water freezes when it is cold enough, and it", "The opposite of hot is"],
        "expected": [" Paris", " melts", " cold"],
    }
)
# Seconds each on three short texts. `make bench-real` runs and times all of them.
CHEAP = ("iterative_inference", "logit_lens", "normxlogit", "run_schedules", "top_tokens", "vocabulary")


@pytest.fixture(scope="module")
def plain(smollm2_file):
    """The model and tokenizer that transformers alone makes of the file."""
    with reading():  # the same, within seconds
        model = AutoModelForCausalLM.from_pretrained(
            smollm2_file.parent, gguf_file=smollm2_file.name, dtype=torch.float32
        )
    return model.eval(), AutoTokenizer.from_pretrained(smollm2_file.parent, gguf_file=smollm2_file.name)


def test_it_is_the_model_that_transformers_makes(smollm2, plain):
    model, tokenizer = plain
    ids = tokenizer(TEXTS["text"].tolist())["input_ids"]
    tokens = smollm2.tokens(TEXTS["text"].tolist())
    assert [one.tolist() for one in tokens.ids] == ids
    assert smollm2.tokenizer.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    for one, logits in zip(ids, smollm2.logits(TEXTS["text"].tolist()), strict=True):
        with torch.no_grad():
            wanted = model(torch.tensor([one])).logits[0]
        # Batches of another size sum in another order: logits up to 30, through 30 blocks in float32.
        torch.testing.assert_close(logits, wanted, atol=1e-3, rtol=0)
    assert smollm2.fingerprint == interp.load(make_float(model)).fingerprint


def test_its_weights_are_those_of_the_file(smollm2, smollm2_file):
    """The embedding, which nothing permutes, and the last matrix of a middle MLP, by gguf's own dequantisation."""
    with reading():
        tensors = {one.name: one for one in gguf.GGUFReader(smollm2_file).tensors}
    weights = dict(smollm2.named_weights())
    names = {"token_embd.weight": "model.embed_tokens.weight"}
    names["blk.15.ffn_down.weight"] = "model.layers.15.mlp.down_proj.weight"
    for theirs, ours in names.items():
        stored = tensors[theirs]
        assert np.array_equal(gguf.dequantize(stored.data, stored.tensor_type), weights[ours].detach().numpy())
    assert smollm2.backend.origin["file_type"] == "Q4_1"
    assert smollm2.backend.form == {}


def test_it_knows_the_capital_of_france(smollm2):
    frame = logit_lens(smollm2, FRANCE, targets=" Paris", positions=[-1])
    last = frame[frame["layer"] == smollm2.n_layers]
    assert last["rank"].tolist() == [0]
    assert last["log_prob"].item() == pytest.approx(np.log(0.77), abs=0.02)
    # The lens at the last layer is the model.
    assert last["kl_to_final"].item() == pytest.approx(0, abs=1e-5)
    own = smollm2.logits(FRANCE)[0][-1].log_softmax(-1)
    (paris,) = smollm2.tokenizer(" Paris")["input_ids"]
    assert last["log_prob"].item() == pytest.approx(float(own[paris]), abs=1e-4)
    # At the first it is not there yet.
    assert frame.loc[frame["layer"] == 0, "rank"].item() > 100


def test_both_backends_give_equal_frames(smollm2):
    ours = logit_lens(smollm2, FRANCE, targets=" Paris")
    theirs = logit_lens(interp.load("smollm2", backend="nnsight"), FRANCE, targets=" Paris")
    assert (ours["top1_id"] == theirs["top1_id"]).all()
    for column in ("entropy", "kl_to_final", "log_prob"):
        np.testing.assert_allclose(ours[column], theirs[column], atol=1e-3)  # see above


def test_without_its_first_block_it_says_nothing_of_its_own(smollm2):
    frame = layer_robustness(smollm2, TEXTS)
    deleted = frame[(frame["intervention"] == "delete") & (frame["control"] == "none")]
    kept = deleted.groupby("layer")["top1_agrees"].mean()
    assert kept[0] < 0.1
    assert kept[12:24].mean() > kept[0] + 0.3


@pytest.mark.parametrize("name", CHEAP)
def test_a_cheap_probe_runs(smollm2, tmp_path, name):
    (result,) = run_every_probe(smollm2, TEXTS, probes=[name], folder=tmp_path)
    assert not result.failed and result.frame is not None, result.absent
    assert len(result.frame) > 0
    assert (result.frame["model"] == "smollm2").all()
