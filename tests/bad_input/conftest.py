"""Make what the calls of the table name: a tiny model, texts, artefacts, frames and damaged files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import interp
import interp.authoring
import probes

T = ["w3 w4 w5 w6 w7 w8 w9", "w10 w11 w12 w13 w14 w15", "w5 w6 w3 w9 w20 w21 w22"]


@pytest.fixture(scope="session")
def names(small_model, word_level, tmp_path_factory) -> dict[str, Any]:
    """Everything that a call of the table may name; `s` is a model of two blocks whose first forward pass is over."""
    s = interp.load(small_model("gpt2", n_layer=2), tokenizer=word_level)
    reference = interp.load("reference")
    s.logits(T)
    reference.logits(["Once"])
    frame = probes.attribute(s, T, methods=("normxlogit", "random"))
    found = {
        "s": s,
        "T": T,
        "E": pd.DataFrame({"text": T, "expected": ["w3", "w4", "w5"]}),
        "ids": torch.tensor([[3, 4, 5], [6, 7, 8]]),
        "N": probes.NeuronSet.of(s, {0: [0, 1]}, ["w3", "w4", "w5"], concept="c"),
        "D": probes.Direction.of(s, torch.ones(32), 1, concept="c", words=["w3", "w4"]),
        "S": probes.Subnetwork.full(s),
        "B": probes.bigram_model(s, T),
        "L": probes.TunedLens(torch.zeros(2, 32, 32), torch.zeros(2, 32), s.name, s.fingerprint, {}),
        "J": probes.JacobianLens(torch.zeros(2, 32, 32), (0, 1), 2, s.name, s.fingerprint, {}),
        "K": probes.StateBank.of(s, T, layers=[1, 2]),
        "F": frame,
        "H": probes.token_health(s, T),
        "LF": probes.logit_lens(s, T),
        "KF": probes.kept_weights(s, probes.Subnetwork.full(s)),
        "SCHEMA": probes.logit_lens.probe.schema,
        "tokens": s.tokens(T),
        "batch": next(s.tokens(T).batches(100)),
        "site": s.site("mlp_out", 0),
        "reference": reference,
    }
    libraries = {"interp": interp, "probes": probes, "findings": interp.findings, "torch": torch, "np": np, "pd": pd}
    theirs = {name: getattr(probes, name) for name in probes.__all__}
    authors = {name: getattr(interp.authoring, name) for name in interp.authoring.__all__}
    return authors | theirs | libraries | {"Path": Path, "inf": math.inf, "nan": math.nan} | found


@pytest.fixture(scope="session")
def folder(names, tmp_path_factory) -> Path:
    """A folder of files that are damaged, of another kind, or in the way."""
    at = tmp_path_factory.mktemp("files")
    texts = {
        "file.txt": "a file, where a folder is needed",
        "columns.csv": "a,b\n1,2\n",
        "rows.csv": "text\n",
        "gap.csv": "text,b\nOnce,1\n,2\n",
        "empty.csv": "",
        "empty.txt": "",
        "torn.jsonl": '{"text": "Onc',
        "list.jsonl": "[1, 2]\n",
        "x.unknown": "a",
        "one.txt": "Once upon a time\n",
    }
    for name, text in texts.items():
        (at / name).write_text(text)
    (at / "bytes.txt").write_bytes(b"\xff\xfeO\x00")
    (at / "torn.parquet").write_bytes(b"PAR1")
    (at / "folder").mkdir()
    _damaged_artefacts(at, names)
    return at


def _damaged_artefacts(at: Path, names: dict[str, Any]) -> None:
    """Write artefacts that are cut short, of another kind, or claim what they do not hold."""
    from safetensors.torch import save_file

    whole = {"lens": names["L"], "subnetwork": names["S"]}
    for name, artefact in whole.items():
        data = artefact.save(at / f"{name}.safetensors").read_bytes()
        (at / f"{name}.cut.safetensors").write_bytes(data[: len(data) // 2])
        (at / f"{name}.header.safetensors").write_bytes((2**40).to_bytes(8, "little") + data[8:])
    names["J"].save(at / "jacobian.safetensors")
    names["J"].save(at / "jacobian.pt")
    (at / "jacobian.cut.pt").write_bytes((at / "jacobian.pt").read_bytes()[:200])
    data = names["B"].save(at / "bigrams.npz").read_bytes()
    (at / "bigrams.cut.npz").write_bytes(data[: len(data) // 2])
    np.savez(at / "other.npz", a=np.zeros(3))
    np.savez(at / "pickled.npz", unigram=np.array([{}], dtype=object))
    np.save(at / "array.npy", np.zeros(3))
    torch.save({"0.weight": torch.zeros(2, 2)}, at / "masks.pt")

    def write(name: str, tensors: dict[str, torch.Tensor], **about: Any) -> None:
        save_file(tensors, at / name, {"interp": json.dumps(about)})

    lens = {"format": "interp tuned lens 1", "model": "m", "fingerprint": None, "training": {}}
    weight, bias = torch.zeros(2, 4, 4), torch.zeros(2, 4)
    write("lens.facts.safetensors", {"weight": weight, "bias": bias}, format="interp tuned lens 1")
    write("lens.bias.safetensors", {"weight": weight}, **lens)
    write("lens.shape.safetensors", {"weight": weight, "bias": torch.zeros(3, 4)}, **lens)
    write("lens.dtype.safetensors", {"weight": weight.int(), "bias": bias.int()}, **lens)
    write("lens.more.safetensors", {"weight": weight, "bias": bias, "more": bias.clone()}, **lens)
    write("lens.name.safetensors", {"weight": weight, "bias": bias}, **lens | {"model": 3})
    jacobian = {"format": "interp Jacobian lens 1", "n_layers": 2, "model": "m", "fingerprint": None, "training": {}}
    write("jacobian.facts.safetensors", {"matrix": weight}, format="interp Jacobian lens 1")
    write("jacobian.layers.safetensors", {"matrix": weight}, **jacobian, layers=[1])
    write("jacobian.more.safetensors", {"matrix": weight, "more": bias}, **jacobian, layers=[0, 1])
    save_file({"weight": weight}, at / "foreign.safetensors")
    save_file({"weight": weight}, at / "notjson.safetensors", {"interp": "{"})
    save_file({"weight": weight}, at / "list.safetensors", {"interp": "[]"})
    name = "blocks.0.attn.q.weight"
    sub = {"format": "interp subnetwork 1", "model": "m", "fingerprint": None, "origin": {}}
    packed = torch.zeros(2, dtype=torch.uint8)
    write("subnetwork.facts.safetensors", {name: packed}, format="interp subnetwork 1")
    write("subnetwork.huge.safetensors", {name: packed}, **sub, shapes={name: [10**9, 10**9]})
    write("subnetwork.negative.safetensors", {name: packed}, **sub, shapes={name: [-4, -4]})
    write("subnetwork.flat.safetensors", {name: packed}, **sub, shapes={name: [16]})
    write("subnetwork.names.safetensors", {name: packed}, **sub, shapes={"other": [4, 4]})
    write("subnetwork.name.safetensors", {"w": packed}, **sub, shapes={"w": [4, 4]})
    write("subnetwork.dtype.safetensors", {name: packed.float()}, **sub, shapes={name: [4, 4]})
    write("subnetwork.none.safetensors", {"x": packed}, **sub, shapes={})
    theirs = at / "alignment"
    theirs.mkdir()
    (theirs / "config.json").write_text('{"num_hidden_layers": 3}')
    torch.save({"0.weight": torch.zeros(2, 2)}, theirs / "params.pt")


@pytest.fixture
def in_folder(folder, monkeypatch) -> Path:
    """Make that folder the current one."""
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def loaded_once(names, monkeypatch) -> None:
    """Give commands that ask for the shipped model the one that is loaded already."""
    reference, load = names["reference"], interp.load
    usually = {"backend": "bridge", "device": None, "dtype": None, "device_map": None}

    def load_once(source: Any, **given: Any) -> interp.Subject:
        usual = source == "reference" and given == usually
        return reference if usual else load(source, **given)

    monkeypatch.setattr("interp.model.loading.load", load_once)


@pytest.fixture
def without_a_pass(monkeypatch) -> None:
    """Make every call of a module an error that no call may catch: nothing may be computed before a refusal."""

    def ran(module: nn.Module, *arguments: Any, **options: Any) -> None:
        raise SystemError(f"{type(module).__name__} ran before the arguments were checked")

    monkeypatch.setattr(nn.Module, "__call__", ran)


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """Restore the session's options and folder of work."""
    before, here = dict(vars(interp.options)), Path.cwd()
    yield
    vars(interp.options).update(before)
    os.chdir(here)


@pytest.fixture(scope="session")
def magic(names) -> Callable[[str], Any]:
    """`magic(line)`: what `%interp line` does in a session that holds these names."""
    notebook = pytest.importorskip("interp.notebook", reason="IPython is not installed")
    return notebook._Magic(SimpleNamespace(user_ns=dict(names)))
