"""Sites of norms, activation functions and routers, to read and to set on both backends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import interp
from interp.errors import ModelError
from interp.model.sites import Edit, editing, inside, recording
from interp.model.sites.site import SiteName

# float32 sums of some fifty terms of size one, in another order than the model's.
EXACT = {"rtol": 0.0, "atol": 1e-5}
NO_NORMS = {"olmo2"}  # which normalises what its branches add
ONE_NORM = {"phi", "gptj"}  # attention and MLP read the same
EPS = {"gpt2": 1e-5, "llama": 1e-6, "gpt_neox": 1e-5, "gemma2": 1e-6, "bloom": 1e-5, "mixtral": 1e-5}


@pytest.fixture
def subject(
    small_subject: Callable[[str, str], interp.Subject], any_architecture: str, any_backend: str
) -> interp.Subject:
    return small_subject(any_architecture, any_backend)


def seen(subject: interp.Subject, ids: Tensor, *names: SiteName) -> list[Tensor]:
    with recording([subject.site(name, 1) for name in names]) as found:
        subject.run(ids, lambda tape: tape.last)
    return [value for value in found if value is not None]


def left_by(subject: interp.Subject, ids: Tensor, name: SiteName, edit: Edit) -> Tensor:
    with subject.edited([(subject.site(name, 1), edit)], {}):
        return subject.run(ids, lambda tape: tape.residual(2))


@pytest.mark.parametrize(("name", "residual"), [("norm1", "resid_pre"), ("norm2", "resid_mid")])
def test_a_norm_keeps_the_direction_of_the_residual_it_reads(
    small_subject: Callable[[str, str], interp.Subject],
    any_backend: str,
    name: SiteName,
    residual: SiteName,
    ids: Tensor,
) -> None:
    for architecture, eps in EPS.items():
        subject = small_subject(architecture, any_backend)
        # The blocks of GPT-NeoX run in parallel: both norms read what enters.
        normed, read = seen(subject, ids, name, "resid_pre" if architecture == "gpt_neox" else residual)
        if architecture in ("gpt2", "gpt_neox", "bloom"):
            read = read - read.mean(dim=-1, keepdim=True)
        scaled = read / (read.square().mean(dim=-1, keepdim=True) + eps).sqrt()
        # What is left is the same at every position: a factor and a bias for each coordinate, from two positions.
        factor = (normed[0, 1] - normed[0, 0]) / (scaled[0, 1] - scaled[0, 0])
        bias = normed[0, 0] - factor * scaled[0, 0]
        steady = (scaled[0, 1] - scaled[0, 0]).abs() > 0.1  # else the division magnifies the rounding
        torch.testing.assert_close(normed[..., steady], (factor * scaled + bias)[..., steady], rtol=0.0, atol=1e-4)


def test_what_attention_and_mlp_read_is_shown_or_refused(
    subject: interp.Subject, any_architecture: str, ids: Tensor
) -> None:
    for name in ("norm1", "norm2"):
        if any_architecture in NO_NORMS or (name == "norm2" and any_architecture in ONE_NORM):
            with pytest.raises(ModelError, match=f"{subject.architecture}.* shows no {name}"):
                subject.site(name, 1)
            continue
        (clean,) = seen(subject, ids, name)
        assert clean.shape == (*ids.shape, subject.d_model)
        # Without what it reads, a branch adds its biases, the same at every position.
        branch: SiteName = "attn_out" if name == "norm1" else "mlp_out"
        with subject.edited([(subject.site(name, 1), torch.zeros_like)], {}):
            (added,) = seen(subject, ids, branch)
        torch.testing.assert_close(added, added[:1, :1].expand_as(added), **EXACT)


def test_an_activation_makes_the_neurons(
    small_model: Callable[..., nn.Module],
    small_subject: Callable[[str, str], interp.Subject],
    any_backend: str,
    ids: Tensor,
) -> None:
    tanh = nn.functional.gelu
    for architecture, act in {
        "gpt2": lambda x: tanh(x, approximate="tanh"),
        "gpt_neox": tanh,
        "opt": torch.relu,
    }.items():
        pre, neurons = seen(small_subject(architecture, any_backend), ids, "neurons_pre", "neurons")
        torch.testing.assert_close(act(pre), neurons, **EXACT)
    for subject in (small_subject("llama", any_backend), interp.load(small_model("phi3"), backend=any_backend)):
        norm, pre, neurons = seen(subject, ids, "norm2", "neurons_pre", "neurons")
        assert pre.shape == (*ids.shape, subject.d_mlp)
        up = _up(subject, norm)
        torch.testing.assert_close(nn.functional.silu(pre) * up, neurons, **EXACT)


def _up(subject: interp.Subject, norm: Tensor) -> Tensor:
    """Return what stands beside the gate, by the model's own matrix."""
    weights = dict(subject.named_weights())
    name = next(name for name in weights if "layers.1.mlp." in name and "up_proj" in name)
    return norm @ weights[name].detach()[-subject.d_mlp :].T


def test_the_neurons_of_what_is_set_are_those_of_its_activation(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str, ids: Tensor
) -> None:
    subject = small_subject("opt", any_backend)
    other = torch.randn(*ids.shape, subject.d_mlp, generator=torch.Generator().manual_seed(0))
    with subject.edited([(subject.site("neurons_pre", 1), lambda _: other)], {}):
        (neurons,) = seen(subject, ids, "neurons")
    torch.testing.assert_close(neurons, other.relu(), **EXACT)


def test_a_router_that_is_set_chooses_the_experts(
    small_model: Callable[..., nn.Module], any_backend: str, ids: Tensor
) -> None:
    model = small_model("mixtral", num_local_experts=4, num_experts_per_tok=1)
    subject = interp.load(model, backend=any_backend)
    router, norm = seen(subject, ids, "router", "norm2")
    assert router.shape == (*ids.shape, 4)
    weights = dict(subject.named_weights())
    (matrix,) = (one for name, one in weights.items() if "layers.1.mlp.gate" in name)
    torch.testing.assert_close(router, norm @ matrix.detach().T, **EXACT)
    gate_up, down = (
        next(one for name, one in weights.items() if f"layers.1.mlp.experts.{part}" in name)
        for part in ("gate_up_proj", "down_proj")
    )
    for expert in range(4):
        chosen = torch.nn.functional.one_hot(torch.tensor(expert), 4).float()
        with subject.edited([(subject.site("router", 1), lambda value, to=chosen: to.expand_as(value))], {}):
            norm, added = seen(subject, ids, "norm2", "mlp_out")
        gate, up = (norm @ gate_up[expert].detach().T).chunk(2, dim=-1)
        torch.testing.assert_close(added, (nn.functional.silu(gate) * up) @ down[expert].detach().T, **EXACT)


@pytest.mark.parametrize(
    ("shape", "name"), [("llama", "norm1"), ("llama", "neurons_pre"), ("mixtral", "router"), ("phi3", "neurons_pre")]
)
def test_parts_agree_keep_their_bits_and_leave_no_hook(
    small_model: Callable[..., nn.Module], shape: str, name: SiteName, ids: Tensor
) -> None:
    values = []
    model = small_model(shape)
    for backend in ("bridge", "nnsight"):
        subject = interp.load(model, backend=backend)
        values += seen(subject, ids, name)
        clean = subject.run(ids, lambda tape: tape.residual(2))
        assert torch.equal(left_by(subject, ids, name, torch.clone), clean)
        assert not torch.allclose(left_by(subject, ids, name, torch.neg), clean, atol=1e-3)
        before = _hooks(subject)
        with pytest.raises(ZeroDivisionError), editing(subject.site(name, 1), lambda value: value / (1 // 0)):
            subject.run(ids, lambda tape: tape.last)
        assert _hooks(subject) == before and not inside._inside
    torch.testing.assert_close(*values, rtol=0.0, atol=1e-4)  # the backends' attention kernels differ


def _hooks(subject: interp.Subject) -> int:
    modules = subject.backend.running.modules()
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in modules)


def test_a_model_without_experts_has_no_router(
    small_subject: Callable[[str, str], interp.Subject], any_backend: str
) -> None:
    with pytest.raises(ModelError, match=r"LlamaForCausalLM.* shows no router"):
        small_subject("llama", any_backend).site("router", 0)
    with pytest.raises(ModelError, match="MixtralForCausalLM"):
        small_subject("mixtral", any_backend).site("neurons_pre", 0)
