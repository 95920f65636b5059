"""Tiny random causal language models of many architectures, built offline, and a tokenizer for them."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub reads it

import gc
import importlib.metadata
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

import interp
from interp.findings import claim
from interp.runs import plugins, registry
from interp.stats.least_squares import Moments

VOCAB = 61
WINDOW = 6  # of sliding-window and local attention: shorter than the tests' prompts
PAD, BOS, EOS = 0, 1, 2
_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
_GEMMA = _LLAMA | {
    "head_dim": 8,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
}
_GPT2 = {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64}
# A soft cap of 3 bends logits of this size visibly, as one of 30 would not.
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": _GPT2,
    "llama": _LLAMA,
    "gpt_neox": {key: _LLAMA[key] for key in _LLAMA if key != "num_key_value_heads"},
    "mistral": _LLAMA | {"sliding_window": WINDOW},
    "qwen2": _LLAMA,
    "qwen3": _LLAMA | {"head_dim": 8},
    "gemma2": _GEMMA | {"final_logit_softcapping": 3.0},
    "gemma3_text": _GEMMA,
    "opt": {
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
    "gpt_neo": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_layers": 4,
        "num_heads": 4,
        "max_position_embeddings": 64,
        "window_size": WINDOW,
        "attention_types": [[["global", "local"], 2]],
    },
    "bloom": {"hidden_size": 32, "n_layer": 4, "n_head": 4},
    "phi": _LLAMA | {"num_key_value_heads": 4},
    "olmo2": _LLAMA,
    "mixtral": _LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gptj": _GPT2 | {"rotary_dim": 4},
}
ARCHITECTURES = tuple(CONFIGS)
torch.set_num_threads(1)  # more cost time on matrices this small
PARALLEL = frozenset({"gpt_neox", "phi", "gptj"})  # attention and MLP read the same residual


def build_config(architecture: str, **changes: Any) -> Any:
    shape = CONFIGS.get(architecture, _LLAMA)
    settings = {"vocab_size": VOCAB, "bos_token_id": BOS, "eos_token_id": EOS} | shape | changes
    if architecture != "gpt_neo":  # which has no padding token in its config
        settings["pad_token_id"] = PAD
    return AutoConfig.for_model(architecture, **settings)


def build_model(architecture: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model in evaluation mode; weights of 0.15 make attention and MLP matter, biases and norms differ too."""
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(build_config(architecture, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = 0.15 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise if parameter.ndim > 1 else parameter + noise)
    return model


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "any_architecture" in metafunc.fixturenames:
        metafunc.parametrize("any_architecture", ARCHITECTURES)
    if "any_backend" in metafunc.fixturenames:
        metafunc.parametrize("any_backend", ("bridge", "nnsight"))


def pytest_collection() -> None:
    """Collect no garbage among tests: what their modules import stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Let the garbage collector begin, blind to what is there to stay: a fifth of the suite went into looking there."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Throw away at the end of a module what it leaves; what is still there is shared by tests, and stays."""
    yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Any:
    """Fail instead of reaching out."""

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise OSError(f"a test tried to reach {address}")
        connect(self, address)

    connect = socket.socket.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        yield


@pytest.fixture(scope="session")
def small_model() -> Callable[..., PreTrainedModel]:
    """`small_model(architecture, seed=0, **changes to the config)`: a new random model."""
    return build_model


@pytest.fixture(scope="session")
def small_config() -> Callable[..., Any]:
    """`small_config(architecture, **changes)`: the config of such a model."""
    return build_config


@pytest.fixture(scope="session")
def small_subject(word_level: PreTrainedTokenizerFast) -> Callable[..., interp.Subject]:
    """`small_subject(architecture, backend)`: a subject around such a model, shared by all tests of the session."""

    @cache
    def build(architecture: str, backend: str) -> interp.Subject:
        return interp.load(build_model(architecture), backend=backend, tokenizer=word_level)

    return build


def forget_plugins() -> None:
    """Forget which probes and claims are installed."""
    for cached in (plugins.offered, registry._installed, claim._claims):
        cached.cache_clear()


@contextmanager
def offering(group: str, entries: dict[str, str]) -> Iterator[None]:
    """Pretend that a package offers these entry points, name -> value, beside what is installed."""
    theirs = [importlib.metadata.EntryPoint(name, value, group) for name, value in entries.items()]
    asked = plugins.entry_points

    def entry_points(group: str) -> list[importlib.metadata.EntryPoint]:
        return [*asked(group=group), *(entry for entry in theirs if entry.group == group)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "entry_points", entry_points)
        forget_plugins()
        yield
    forget_plugins()


@pytest.fixture(scope="session")
def offer() -> Callable[..., Any]:
    """`with offer(group, {name: value}):` a package offers these entry points."""
    return offering


@pytest.fixture
def forget() -> Iterator[Callable[[], None]]:
    """Call it after what is installed has changed; it is called after the test too."""
    yield forget_plugins
    forget_plugins()


@pytest.fixture(scope="session")
def parallel() -> frozenset[str]:
    """Architectures without a residual between attention and MLP."""
    return PARALLEL


def build_tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "<s>", "</s>", *(f"w{index}" for index in range(3, VOCAB))]
    core = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}))
    core.pre_tokenizer = WhitespaceSplit()
    core.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


@pytest.fixture(scope="session")
def word_level() -> PreTrainedTokenizerFast:
    """Words `w3` to `w60`, one token each, behind `<s>`; `<pad>` and `</s>` beside them."""
    return build_tokenizer()


@pytest.fixture(scope="session")
def character_level() -> interp.Subject:
    """A random model whose tokens are single characters: the space, and every letter, digit and mark of ASCII."""
    core = Tokenizer(BPE({chr(code): place for place, code in enumerate([*range(32, 127), 10])}, []))
    core.decoder = Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    return interp.load(build_model("gpt2", vocab_size=96), tokenizer=tokenizer)


@pytest.fixture
def ids() -> torch.Tensor:
    """Two prompts of 14 tokens, longer than every attention window."""
    return torch.randint(3, VOCAB, (2, 14), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def normal() -> Callable[..., torch.Tensor]:
    """`normal(*shape, seed=0)`: standard normal draws, float64."""

    def draw(*shape: int, seed: int = 0) -> torch.Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    return draw


@pytest.fixture(scope="session")
def moments() -> Callable[..., Moments]:
    """`moments(x, y)`: the sums of rows of x [n, p] and y [n, q], gathered in three pieces."""

    def gather(x: torch.Tensor, y: torch.Tensor) -> Moments:
        gathered = Moments.zeros(x.shape[1], y.shape[1])
        for rows in zip(x.chunk(3), y.chunk(3), strict=True):
            gathered.add(*rows)
        return gathered

    return gather


@pytest.fixture(scope="session")
def left(moments: Callable[..., Moments]) -> Callable[..., float]:
    """`left(x, y)`: the share of y's variance that a regression on x leaves, by the moments."""

    def share(x: torch.Tensor, y: torch.Tensor) -> float:
        scatter = moments(x, y).centred()
        return 1 - float(scatter.fit().explained.sum() / scatter.yy.sum())

    return share


@pytest.fixture(scope="session")
def left_directly() -> Callable[..., float]:
    """`left_directly(x, y)`: the same by numpy's least squares on the rows themselves."""

    def share(x: np.ndarray, y: np.ndarray) -> float:
        design = np.column_stack([x, np.ones(len(x))])
        error = y - design @ np.linalg.lstsq(design, y, rcond=1e-10)[0]
        return float((error**2).sum() / ((y - y.mean(0)) ** 2).sum())

    return share
