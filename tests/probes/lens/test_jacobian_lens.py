"""The Jacobian lens: known derivatives, parity with transformer-lens and plain PyTorch, files, wrong models."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

import interp
from interp.errors import InputError, ModelError, NumericalError
from interp.planted import bigram, copying
from interp.planted._build import empty_model
from interp.planted._truth import interleave
from probes import JacobianLens, TunedLens, jacobian_lens, load_jacobian_lens, logit_lens
from probes.lens import jacobian_lens as module
from probes.lens import plots

ROUNDING = 1e-5  # float32 sums of a hundred products of numbers of size one


def corpus(n: int = 3, length: int = 12, seed: int = 3, high: int = 61) -> Tensor:
    return torch.randint(3, high, (n, length), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def subject(small_subject) -> interp.Subject:
    return small_subject("gpt2", "bridge")


@pytest.fixture(scope="module")
def made(subject) -> JacobianLens:
    return jacobian_lens(subject, corpus(), skip=2)


# -- known derivatives -----------------------------------------------------------------------------------------------


def linear_model(n_layers: int = 3, vocab: int = 6) -> interp.Subject:
    """Blocks h + B A h: pairs of neurons relu(A h) - relu(-A h)."""
    layout = interleave(n_layers, 0)
    model, weights = empty_model("linear", layout, vocab, width=2, seed=0, n_ctx=64, device=None, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    for block in weights.blocks:
        inside = torch.randn(vocab, 2 * vocab, generator=generator)
        outside = 0.3 * torch.randn(2 * vocab, vocab, generator=generator)
        block.fc_in.weight.copy_(torch.cat([inside, -inside]))
        block.fc_out.weight.copy_(torch.cat([outside, -outside], dim=1))
    return interp.load(model)


def test_on_a_linear_model_every_layer_says_what_the_model_says():
    subject = linear_model()
    texts = corpus(4, high=6)
    frame = logit_lens(subject, texts, lens=jacobian_lens(subject, texts, skip=0), targets="argmax")
    through = frame[frame["lens"] == "jacobian"].pivot(index=["prompt_id", "pos"], columns="layer", values="log_prob")
    for layer in range(4):
        np.testing.assert_allclose(through[layer], through[3], atol=ROUNDING)
    assert (frame[frame["lens"] == "jacobian"]["kl_to_final"] < ROUNDING).all()
    assert frame.query("lens == 'logit' and layer == 0")["kl_to_final"].mean() > 0.1


def test_a_token_that_opens_a_neuron_counts_as_often_as_it_occurs():
    """In `bigram` neuron w is open on token w alone: J = I + share of w x (log P(. | w) - e_w) in column w."""
    planted = bigram(vocab=8)
    ids = torch.tensor([[0, 0, 1, 1, 1, 2, 3, 7], [4, 4, 4, 5, 5, 1, 7, 0]])
    lens = jacobian_lens(planted.model, ids, skip=1)
    known = torch.zeros(8, 8, dtype=torch.float64)
    for text in ids[:, 1:-1]:  # without the first and the last position
        shares = torch.bincount(text, minlength=8).double() / len(text)
        known += (planted.truth.transition.log() - torch.eye(8)).T * shares / len(ids) + torch.eye(8) / len(ids)
    torch.testing.assert_close(lens.matrix[0].double(), known, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("length", "skip"), [(5, 0), (9, 3)])
def test_what_is_copied_to_later_positions_is_summed_over_them(length, skip):
    """Position n holds a / (n + 1) of each token up to n: summed over n >= t, averaged over t, all in V."""
    planted = copying(vocab=6, a=1.5)
    lens = jacobian_lens(planted.model, corpus(2, length, high=6), skip=skip)
    valid = range(skip, length - 1)
    copied = np.mean([sum(1.5 / (later + 1) for later in valid if later >= at) for at in valid])
    known = (1 + copied) * torch.eye(6)
    torch.testing.assert_close(lens.matrix[0], known, rtol=0, atol=ROUNDING)


def test_texts_count_alike_however_long():
    """Two lengths, each with its own coefficient: the mean is over texts, not over tokens."""
    planted = copying(vocab=6, a=1.0)
    short, long = [2, 3, 4, 5], [2, 3, 4, 5, 1, 0, 2, 3, 1, 1, 1, 1]
    alone = [jacobian_lens(planted.model, [ids], skip=2).matrix for ids in (short, long)]
    both = jacobian_lens(planted.model, [short, long], skip=2)
    torch.testing.assert_close(both.matrix, sum(alone) / 2, rtol=0, atol=1e-6)
    assert not torch.allclose(alone[0], alone[1], atol=0.1)
    assert both.training["n_prompts"] == 2 and both.training["n_tokens"] == 16


# -- parity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_transformer_lens_fits_and_reads_the_same(small_subject, monkeypatch, architecture):
    """Both sum float32 derivatives of size one, in other orders: a few roundings of 1e-7 of the largest entry."""
    from transformer_lens.tools.analysis import JacobianLens as Theirs

    subject = small_subject(architecture, "bridge")
    texts = [" ".join(f"w{token}" for token in row) for row in corpus(3, 11).tolist()]
    bridge = subject.backend.bridge
    with monkeypatch.context() as patch:  # the tokenizer is the subject's, not the bridge's
        patch.setattr(bridge, "to_tokens", lambda text: subject.tokens([text]).ids[0][None], raising=False)
        theirs = Theirs.fit(bridge, texts, corpus="w", skip_first_positions=4, max_seq_len=9, show_progress=False)
        read = theirs.readout(bridge, texts[0], return_full_logits=True)
    ours = jacobian_lens(subject, texts, skip=4, max_tokens=9)
    assert [layer - 1 for layer in ours.layers[1:]] == theirs.source_layers
    for layer, matrix in theirs.jacobians.items():
        known = ours.matrix[layer + 1]
        torch.testing.assert_close(matrix, known, rtol=0, atol=ROUNDING * float(known.abs().max()))
    frame = logit_lens(subject, texts[0], lens=JacobianLens.from_transformer_lens(theirs), targets=7)
    for layer, logits in read.lens_logits.items():
        if layer in theirs.source_layers:
            found = frame.query("lens == 'jacobian' and layer == @layer + 1")["log_prob"]
            np.testing.assert_allclose(found, logits.log_softmax(-1)[:, 7], atol=2e-5)  # logits of size ten


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "phi", "mixtral"])
def test_rows_are_those_of_autograd_through_the_plain_model(small_model, small_subject, any_backend, architecture):
    """Hooks on the Hugging Face model itself, one backward pass per row, for three rows."""
    model = small_model(architecture)
    blocks = next(one for one in model.modules() if isinstance(one, torch.nn.ModuleList) and len(one) == 4)
    states: list[Tensor] = []

    def record(module, args, kwargs, out):
        states.append(args[0] if args else kwargs["hidden_states"])
        if module is blocks[-1]:
            states.append(out[0] if isinstance(out, tuple) else out)

    handles = [block.register_forward_hook(record, with_kwargs=True) for block in blocks]
    known = torch.zeros(4, 3, 32)
    for row in corpus(2):
        states.clear()
        model(row[None], use_cache=False)
        for index, dim in enumerate((0, 5, 31)):
            total = states[-1][0, 3:-1, dim].sum()
            gradients = torch.autograd.grad(total, states[:-1], retain_graph=True)
            known[:, index] += torch.stack([one[0, 3:-1].mean(dim=0) for one in gradients]) / 2
    for handle in handles:
        handle.remove()
    lens = jacobian_lens(small_subject(architecture, any_backend), corpus(2), skip=3)
    size = float(lens.matrix.abs().max())
    torch.testing.assert_close(lens.matrix[:, [0, 5, 31]], known, rtol=0, atol=ROUNDING * size)


def test_in_half_precision_it_is_the_same_lens_but_for_the_rounding(small_model, word_level, subject, made):
    """Bfloat16 keeps 8 bits, 0.4 %, at each of some twenty products in a row: a few percent of the whole."""
    half = interp.load(small_model("gpt2").to(torch.bfloat16), tokenizer=word_level)
    with pytest.warns(UserWarning, match=r"are taken in torch\.bfloat16; load it in float32"):
        lens = jacobian_lens(half, corpus(), skip=2)
    assert lens.matrix.dtype == torch.float32
    assert (lens.matrix - made.matrix).norm() < 0.03 * made.matrix.norm()
    frame = logit_lens(half, corpus(2), lens=lens)
    assert np.isfinite(frame["kl_to_final"]).all()


# -- invariances -----------------------------------------------------------------------------------------------------


def test_batches_order_and_layers_do_not_matter(subject, made, monkeypatch):
    same = {"rtol": 0, "atol": ROUNDING}
    torch.testing.assert_close(jacobian_lens(subject, corpus().flip(0), skip=2).matrix, made.matrix, **same)
    some = jacobian_lens(subject, corpus(), skip=2, layers=[-1, 2])
    assert some.layers == (2, 3)
    torch.testing.assert_close(some.matrix, made.matrix[2:], **same)
    for rows, at_once in ((7, 1), (32, 30), (32, 10_000)):  # parts that do not divide 32; one copy; all of them
        monkeypatch.setattr(module, "_ROWS", rows)
        monkeypatch.setattr(module, "_AT_ONCE", at_once)
        torch.testing.assert_close(jacobian_lens(subject, corpus(), skip=2).matrix, made.matrix, **same)
    assert jacobian_lens(subject, corpus(), skip=2).digest == jacobian_lens(subject, corpus(), skip=2).digest


def test_the_last_position_and_what_is_cut_off_do_not_matter(subject, made):
    other = torch.cat([corpus()[:, :-1], corpus(seed=4)[:, :8]], dim=1)
    found = jacobian_lens(subject, other, skip=2, max_tokens=12)
    torch.testing.assert_close(found.matrix, made.matrix, rtol=0, atol=ROUNDING)
    assert found.training["data_sha256"] != made.training["data_sha256"]  # the last token is another one
    assert not torch.allclose(jacobian_lens(subject, other, skip=2, max_tokens=13).matrix, made.matrix, atol=1e-3)


def test_the_backward_passes_are_counted(subject, monkeypatch):
    """Thirty-two rows of 12 tokens, at most 48 tokens at once: four copies in each of eight passes, and no more."""
    monkeypatch.setattr(module, "_AT_ONCE", 48)
    counted: list[tuple[int, ...]] = []
    original = torch.autograd.grad

    def counting(outputs, inputs, outer, **settings):
        counted.append(tuple(outer.shape))
        return original(outputs, inputs, outer, **settings)

    monkeypatch.setattr(torch.autograd, "grad", counting)
    jacobian_lens(subject, corpus(1), skip=2)
    assert counted == [(4, 12, 32)] * 8


def test_the_model_is_left_as_it_was(small_subject, any_backend, monkeypatch):
    subject = small_subject("llama", any_backend)
    logits, flags = subject.logits(corpus(2)), [one.requires_grad for _, one in subject.backend.named_weights()]
    jacobian_lens(subject, corpus(1), skip=2)
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **settings: pytest.fail("stop here"))
    with pytest.raises(BaseException, match="stop here"):
        jacobian_lens(subject, corpus(1), skip=2)
    assert all(torch.equal(*pair) for pair in zip(subject.logits(corpus(2)), logits, strict=True))
    assert [one.requires_grad for _, one in subject.backend.named_weights()] == flags
    assert all(one.grad is None for _, one in subject.backend.named_weights())


# -- reading ---------------------------------------------------------------------------------------------------------


def with_identity(subject: interp.Subject) -> JacobianLens:
    matrix = torch.eye(subject.d_model).repeat(subject.n_layers, 1, 1)
    layers = tuple(range(subject.n_layers))
    return JacobianLens(matrix, layers, subject.n_layers, subject.name, subject.fingerprint, {})


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_the_identity_is_the_logit_lens(small_subject, any_backend, architecture):
    subject = small_subject(architecture, any_backend)
    frame = logit_lens(subject, corpus(2), lens=with_identity(subject))
    logit, through = (frame[frame["lens"] == kind] for kind in ("logit", "jacobian"))
    for name in ("log_prob", "entropy", "kl_to_final"):
        np.testing.assert_allclose(through[name], logit[name], atol=2e-5)  # float32 statistics of logits of size ten


def test_lenses_stand_side_by_side_with_their_controls(subject, made):
    tuned = TunedLens(torch.zeros(4, 32, 32), torch.zeros(4, 32), subject.name, subject.fingerprint, {})
    frame = logit_lens(subject, corpus(2), lens=[tuned, made], layers=[2, 4], positions=-1, targets="argmax")
    places = frame.drop_duplicates(["layer", "lens"])[["lens", "layer"]].to_numpy().tolist()
    assert places == [
        ["logit", 2], ["logit", 4], ["tuned", 0], ["tuned", 2], ["tuned", 4],
        ["jacobian", 0], ["jacobian", 2], ["jacobian", 4],
    ]  # fmt: skip
    alone = logit_lens(subject, corpus(2), lens=made, layers=[2, 4], positions=-1, targets="argmax")
    pairs = [one.query("lens == 'jacobian'")["log_prob"] for one in (frame, alone)]
    np.testing.assert_array_equal(*pairs)
    plain = logit_lens(subject, corpus(2), layers=[2, 4], positions=-1, targets="argmax")
    assert len({one["run_id"].iat[0] for one in (frame, alone, plain)}) == 3
    assert set(frame.interp.summary(by="position")["lens"]) == {"logit", "tuned", "jacobian"}
    with pytest.raises(InputError, match=r"holds 2 jacobian lenses, whose rows could not be told apart"):
        logit_lens(subject, corpus(2), lens=[made, made])


def test_a_layer_the_lens_lacks_is_refused_where_it_is_named(subject):
    lens = jacobian_lens(subject, corpus(1), skip=2, layers=[1, 3])
    frame = logit_lens(subject, corpus(1), lens=lens)
    assert frame[frame["lens"] == "jacobian"]["layer"].unique().tolist() == [1, 3, 4]
    with pytest.raises(InputError, match=r"layers \[2\] are not in this jacobian lens: it has layers \[1, 3, 4\]"):
        logit_lens(subject, corpus(1), lens=lens, layers=[2, 3])
    with pytest.raises(InputError, match=r"layer 2 is not in this lens: it has layers \[1, 3\]"):
        lens.translate(torch.zeros(32), 2)
    with pytest.raises(InputError, match=r"residual \[31\]: give \[\.\.\., 32\]"):
        lens.translate(torch.zeros(31), 1)
    assert torch.equal(lens.translate(torch.ones(32), 4), torch.ones(32))


def test_figures_show_the_lens_and_its_control(subject, made):
    tuned = TunedLens(torch.zeros(4, 32, 32), torch.zeros(4, 32), subject.name, subject.fingerprint, {})
    frame = logit_lens(subject, corpus(2), lens=made)
    both = logit_lens(subject, corpus(2), lens=[tuned, made])
    summary = both.interp.summary()
    (axes,) = plots.lenses(both).axes
    for kind, line in zip(("logit", "tuned", "jacobian"), axes.lines, strict=False):
        known = summary[(summary["lens"] == kind) & (summary["layer"] < 4)]
        np.testing.assert_array_equal(line.get_ydata(), known["kl_to_final"])
    assert [set(line.get_ydata()) for line in axes.lines[3:]] == [{line.get_ydata()[0]} for line in axes.lines[1:3]]
    (axes,) = plots.lenses(frame).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "logit lens", "Jacobian lens", "Jacobian lens of layer 0: the token alone",
    ]  # fmt: skip
    assert "Jacobian lens" in frame.interp.plot().axes[0].get_title()
    assert "logit lens" in frame.interp.plot(lens="logit").axes[0].get_title()
    with pytest.raises(
        InputError, match=r"lens='tuned': the frame holds no such lens; give one of 'logit', 'jacobian'"
    ):
        frame.interp.plot(lens="tuned")


# -- files and wrong models ------------------------------------------------------------------------------------------


def test_a_lens_survives_its_files(subject, made, tmp_path):
    lens = load_jacobian_lens(made.save(tmp_path / "new" / "lens.safetensors"))
    assert torch.equal(lens.matrix, made.matrix) and lens.digest == made.digest
    facts = ("layers", "n_layers", "model", "fingerprint", "training")
    assert [getattr(lens, name) for name in facts] == [getattr(made, name) for name in facts]
    theirs = load_jacobian_lens(made.save(tmp_path / "lens.pt"))  # without layer 0
    assert torch.equal(theirs.matrix, made.matrix[1:]) and theirs.layers == (1, 2, 3)
    assert [getattr(theirs, name) for name in facts[1:]] == [getattr(made, name) for name in facts[1:]]
    frames = [
        logit_lens(subject, corpus(1), lens=str(tmp_path / name)).query("lens == 'jacobian' and layer > 0")["log_prob"]
        for name in ("new/lens.safetensors", "lens.pt")
    ]
    np.testing.assert_array_equal(*frames)
    with pytest.raises(InputError, match="layer 0 alone cannot be told"):
        jacobian_lens(subject, corpus(1), skip=2, layers=0).save(tmp_path / "first.pt")


def test_transformer_lens_loads_what_is_saved_for_it(subject, made, tmp_path):
    from transformer_lens.tools.analysis import JacobianLens as Theirs

    lens = Theirs.load(str(made.save(tmp_path / "lens.pt"))).validate_model(subject.backend.bridge)
    assert lens.source_layers == [0, 1, 2] and lens.n_prompts == 3
    for layer, matrix in lens.jacobians.items():
        assert torch.equal(matrix, made.matrix[layer + 1])


def test_published_lenses_are_read(subject, made, tmp_path):
    """The reference implementation's file: half precision, nothing known of the model; and its unfinished fits."""
    published = {layer: made.matrix[layer + 1].half() for layer in range(3)}
    torch.save({"J": published, "n_prompts": 3, "source_layers": [0, 1, 2], "d_model": 32}, tmp_path / "a.pt")
    sums = {layer: 3 * made.matrix[layer + 1] for layer in range(3)}
    unfinished = {"jacobian_sum": sums, "n_done": 3, "next_idx": 3, "source_layers": [0, 1, 2], "target_layer": 3}
    torch.save(unfinished | {"skip_first": 2}, tmp_path / "b.pt")
    for name, atol in (("a.pt", 1e-3 * float(made.matrix.abs().max())), ("b.pt", ROUNDING)):
        lens = load_jacobian_lens(tmp_path / name)
        torch.testing.assert_close(lens.matrix, made.matrix[1:], rtol=0, atol=atol)
        assert (lens.layers, lens.n_layers, lens.fingerprint) == ((1, 2, 3), 4, None)
        assert lens.training["n_prompts"] == 3
        lens.check(subject)


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harm-was-done"),)


def test_a_pickle_of_more_than_tensors_is_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lens.pt").write_bytes(pickle.dumps(Harmful()))
    Path("no.pt").write_text("no tensors here")
    torch.save({"J": Harmful(), "d_model": 1}, "other.pt")
    for name in ("lens.pt", "other.pt", "no.pt", "absent.pt"):
        with pytest.raises(InputError, match=f"no Jacobian lens can be read from '{name}'"):
            load_jacobian_lens(name)
    assert not Path("harm-was-done").exists()


def test_a_lens_on_the_wrong_model_is_refused(small_model, word_level, made, monkeypatch):
    others = {
        "with fingerprint": interp.load(small_model("gpt2", seed=1), tokenizer=word_level),
        "is for 4 layers of 32 dimensions, .* has 3 of 32": interp.load(small_model("gpt2", n_layer=3)),
    }
    monkeypatch.setattr(interp.Subject, "run", lambda *args, **kwargs: pytest.fail("computed before checking"))
    for says, other in others.items():
        with pytest.raises(ModelError, match=says):
            logit_lens(other, corpus(2), lens=made)


def test_an_interrupted_call_goes_on(subject, made, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_EVERY_SECONDS", -1.0)
    original, done = module._rows, []

    def failing(*args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(args)
        return original(*args)

    monkeypatch.setattr(module, "_rows", failing)
    with pytest.raises(KeyboardInterrupt):
        jacobian_lens(subject, corpus(), skip=2, out=tmp_path / "kept")
    assert [file.name.split(".")[1] for file in (tmp_path / "kept").iterdir()] == ["state"]
    done[:] = [None] * 9
    resumed = jacobian_lens(subject, corpus(), skip=2, out=tmp_path / "kept")
    assert len(done) == 10  # only the third text was read
    torch.testing.assert_close(resumed.matrix, made.matrix, rtol=0, atol=1e-6)
    assert [file.name.split(".")[1] for file in (tmp_path / "kept").iterdir()] == ["lens"]
    assert jacobian_lens(subject, corpus(), skip=2, out=tmp_path / "kept").digest == resumed.digest
    assert len(done) == 10


def test_the_shipped_lens_is_loaded_by_name(monkeypatch):
    monkeypatch.chdir("/")
    lens = load_jacobian_lens("reference")
    lens.check(interp.load("reference"))
    assert lens.training["n_prompts"] == 25 and lens.layers == tuple(range(8))
    with pytest.raises(InputError, match=r"'referenc'.* Shipped: reference\."):
        load_jacobian_lens("referenc")


# -- bad input -------------------------------------------------------------------------------------------------------


def test_texts_too_short_are_left_out_or_refused(subject, made, monkeypatch):
    texts = [*corpus().tolist(), [5, 6, 7]]
    with pytest.warns(UserWarning, match="1 of 4 texts are left out: they have fewer than 4 tokens"):
        assert torch.equal(jacobian_lens(subject, texts, skip=2).matrix, made.matrix)
    monkeypatch.setattr(interp.Subject, "run", lambda *args, **kwargs: pytest.fail("computed before checking"))
    with pytest.raises(InputError, match="none of 3 texts has the 18 tokens that skip=16 needs"):
        jacobian_lens(subject, corpus())


def test_what_is_not_finite_is_refused(subject, monkeypatch):
    shape = SimpleNamespace(isfinite=lambda: torch.tensor([True, False]))
    monkeypatch.setattr(interp.Subject, "run", lambda *args, **kwargs: shape)
    with pytest.raises(NumericalError, match="is not finite; load it with"):
        jacobian_lens(subject, corpus(1), skip=2)
