"""The tuned lens: where it starts, a map with a known optimum, the capacity control, files, wrong models, bad input."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import interp
from interp.data import tensor_file
from interp.data.shipped import dataset
from interp.errors import InputError, ModelError, UnknownName
from interp.model.texts.windows import context_windows
from interp.planted import bias_ladder, bigram
from interp.runs.holdout import held_out_prompts
from probes import TunedLens, load_tuned_lens, logit_lens, tuned_lens
from probes.lens import _training, plots
from probes.lens.tuned_lens import _RECIPES

pytestmark = pytest.mark.trained

CLOSE = 2e-5  # float32 statistics of logits of size ten


def corpus(n: int = 40, length: int = 12) -> Tensor:
    return torch.randint(3, 61, (n, length), generator=torch.Generator().manual_seed(3))


def untrained(subject: interp.Subject, noise: float = 0.0) -> TunedLens:
    n, d = subject.n_layers, subject.d_model
    generator = torch.Generator().manual_seed(0)
    weight, bias = (noise * torch.randn(shape, generator=generator) for shape in ((n, d, d), (n, d)))
    return TunedLens(weight, bias, subject.name, subject.fingerprint, {})


@pytest.fixture(scope="module")
def subject(small_subject) -> interp.Subject:
    return small_subject("gpt2", "bridge")


@pytest.fixture(scope="module")
def trained(subject) -> TunedLens:
    return tuned_lens(subject, corpus(), steps=60, tokens_per_step=200)


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "phi"])
def test_an_untrained_lens_is_the_logit_lens(small_subject, architecture, any_backend):
    subject = small_subject(architecture, any_backend)
    frame = logit_lens(subject, corpus(3), lens=untrained(subject))
    logit, tuned = (frame[frame["lens"] == kind] for kind in ("logit", "tuned"))
    for name in ("log_prob", "entropy", "kl_to_final"):
        np.testing.assert_allclose(tuned[name], logit[name], atol=CLOSE)
    plain = logit_lens(subject, corpus(3))
    np.testing.assert_array_equal(plain["log_prob"], logit["log_prob"])


def test_it_reads_through_the_map_of_each_layer(small_subject, any_backend):
    subject = small_subject("llama", any_backend)
    lens = untrained(subject, noise=0.1)
    ids = corpus(1)
    frame = logit_lens(subject, ids, lens=lens, targets=7).query("lens == 'tuned'")
    layers = range(subject.n_layers + 1)
    states = subject.run(ids, lambda tape: torch.stack([tape.residual(layer)[0] for layer in layers]))
    for layer in layers:
        state = states[layer]
        if layer < subject.n_layers:
            state = state + torch.einsum("ij,pj->pi", lens.weight[layer], state) + lens.bias[layer]
        logits = subject.run(ids, lambda tape, state=state: tape.head(state))
        known = logits.double().log_softmax(-1)[:, 7]
        np.testing.assert_allclose(frame[frame["layer"] == layer]["log_prob"], known, atol=CLOSE)


def test_controls_are_always_beside_it(subject, trained):
    frame = logit_lens(subject, corpus(2), lens=trained, layers=[2, 4], positions=-1, targets="argmax")
    found = frame.drop_duplicates(["layer", "lens"])[["lens", "layer"]].to_numpy().tolist()
    assert found == [["logit", 2], ["logit", 4], ["tuned", 0], ["tuned", 2], ["tuned", 4]]
    summary = logit_lens(subject, corpus(2), lens=trained).interp.summary()
    assert summary.groupby("lens")["layer"].apply(list).to_dict() == {"logit": list(range(5)), "tuned": list(range(5))}
    per_position = logit_lens(subject, corpus(2), lens=trained).interp.summary(by="position")
    assert set(per_position["lens"]) == {"logit", "tuned"}
    assert "tuned lens" in frame.interp.plot().axes[0].get_title()


def test_the_figure_shows_both_lenses_and_the_control(subject, trained):
    frame = logit_lens(subject, corpus(2), lens=trained)
    (axes,) = plots.lenses(frame).axes
    summary = frame.interp.summary()
    for kind, line in zip(("logit", "tuned"), axes.lines, strict=False):
        known = summary[(summary["lens"] == kind) & (summary["layer"] < subject.n_layers)]
        np.testing.assert_array_equal(line.get_xdata(), known["layer"])
        np.testing.assert_array_equal(line.get_ydata(), known["kl_to_final"])
    assert set(axes.lines[2].get_ydata()) == {axes.lines[1].get_ydata()[0]}
    with pytest.raises(InputError, match="holds no tuned or Jacobian lens"):
        plots.lenses(logit_lens(subject, corpus(2)))


def test_lenses_are_told_apart_in_the_provenance(subject, trained):
    runs = {logit_lens(subject, corpus(2), lens=lens)["run_id"].iat[0] for lens in (None, trained, untrained(subject))}
    assert len(runs) == 3


# -- training --------------------------------------------------------------------------------------------------------


def test_training_never_ends_above_the_logit_lens(trained):
    before, after = np.array(trained.training["held_out_kl"]).T
    assert (after <= before).all() and (after[1:] < 0.9 * before[1:]).all()


def test_gradients_are_those_of_the_mean_divergence(subject):
    """One step of SGD from zero, by autograd through plain PyTorch; the gradient is clipped to norm 1."""
    ids = corpus(4)
    lens = tuned_lens(subject, ids, recipe="paper", steps=1, tokens_per_step=1000, held_out=0.25, seed=1)
    drawn = ids[~held_out_prompts(list(ids), 0.25, 1)]
    # Steps draw texts until there are enough: 1,000 tokens are 28 rounds of three texts of 12.
    layers = range(subject.n_layers)
    maps = [torch.zeros(subject.d_model, subject.d_model, requires_grad=True) for _ in layers]
    offsets = [torch.zeros(subject.d_model, requires_grad=True) for _ in layers]

    def program(tape):
        with torch.enable_grad():
            log_p = tape.head(tape.last).log_softmax(-1).detach()
            states = [tape.residual(layer).detach() for layer in layers]
            tuned = [state + state @ one.T + b for state, one, b in zip(states, maps, offsets, strict=True)]
            losses = [(log_p.exp() * (log_p - tape.head(one).log_softmax(-1))).sum(-1).mean() for one in tuned]
            return torch.autograd.grad(sum(losses), [*maps, *offsets])

    gradients = subject.run(drawn, program)
    norm = torch.cat([one.flatten() for one in gradients]).norm()
    step = 0.1 * 1.9 * min(1.0, 1.0 / float(norm))  # Nesterov's first step: gradient + 0.9 x gradient
    better = [layer for layer, (before, after) in enumerate(lens.training["held_out_kl"]) if after < before]
    assert better  # only where the step helped on held-out texts is it kept
    for layer in better:
        torch.testing.assert_close(lens.weight[layer], -step * gradients[layer], rtol=1e-3, atol=1e-6)


def test_a_ladder_has_a_known_optimum(monkeypatch):
    """Norm the identity, h_L = h_l + c: the translator's bias can close the gap exactly, and KL falls towards 0."""
    monkeypatch.setattr(_training, "PENALTIES", ())  # the steps alone,
    monkeypatch.setitem(_RECIPES, "small", (400, 100, 2e-3, 0.0))  # at a rate that reaches as far as they must
    planted = bias_ladder(n_layers=2, vocab=8, a=0.8)
    ids = torch.randint(0, 8, (40, 10), generator=torch.Generator().manual_seed(0))
    lens = tuned_lens(planted.model, ids, patience=10)
    before, after = np.array(lens.training["held_out_kl"]).T
    assert (before > 0.01).all() and (after < 0.02 * before).all()


def test_the_small_recipe_starts_at_a_known_optimum():
    """The same with a gap that steps of 1e-3 cannot close: the least squares close it before the first one."""
    planted = bias_ladder(n_layers=2, vocab=8, a=6.0)
    ids = torch.randint(0, 8, (40, 10), generator=torch.Generator().manual_seed(0))
    lens = tuned_lens(planted.model, ids, steps=1, tokens_per_step=10)
    before, after = np.array(lens.training["held_out_kl"]).T
    assert (before > 0.2).all() and (after < 1e-3).all()  # one step moves no weight by more than 1e-3


@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_the_small_recipe_starts_from_least_squares(subject, monkeypatch, penalty):
    """The normal equations' solution, by numpy from the states themselves, of residuals made hard to read."""
    ids = corpus()
    others = ~held_out_prompts(list(ids), 1 / len(ids), 0)
    monkeypatch.setattr(_training, "PENALTIES", (penalty,))
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: None)
    lens = tuned_lens(subject, ids, held_out=1 / len(ids), steps=1, tokens_per_step=1)
    layers = range(subject.n_layers + 1)
    states = subject.run(ids[others], lambda tape: [tape.residual(layer).flatten(0, 1).double() for layer in layers])
    better = [layer for layer, (before, after) in enumerate(lens.training["held_out_kl"]) if after < before]
    assert better  # elsewhere the logit lens stays
    for layer in better:
        size = (states[layer] - states[layer].mean(0)).norm(dim=0)
        shrunk = np.diag(penalty**0.5 * size.numpy())  # rows that penalise dimensions scaled to sums of squares of one
        with_one = np.column_stack([np.vstack([states[layer], shrunk]), np.repeat([1, 0], [len(states[layer]), 32])])
        answer = np.vstack([states[-1] - states[layer], np.zeros((32, 32))])
        known = np.linalg.lstsq(with_one, answer, rcond=None)[0]
        np.testing.assert_allclose(lens.weight[layer].T, known[:-1], atol=1e-5)  # float32 of numbers of size one
        np.testing.assert_allclose(lens.bias[layer], known[-1], atol=1e-5)
        assert lens.training["ridge"][layer] == penalty
    for layer in set(range(subject.n_layers)) - set(better):
        assert not lens.weight[layer].any() and not lens.bias[layer].any()


def test_a_map_that_exists_is_found():
    """In `bigram` the block is a linear map of one-hot tokens: h + W h + b must be the last residual of each token."""
    planted = bigram(vocab=8)
    ids = torch.randint(0, 8, (40, 10), generator=torch.Generator().manual_seed(0))
    subject = interp.load(planted.model)
    lens = tuned_lens(subject, ids, steps=1, tokens_per_step=10)
    first, last = subject.run(torch.arange(8)[None], lambda tape: (tape.residual(0)[0], tape.last[0]))
    # One step of Adam moves no weight by more than 1e-3, and it is kept only if it helps.
    torch.testing.assert_close(lens.translate(first, 0), last, rtol=0, atol=1e-2)
    ((before, after),) = lens.training["held_out_kl"]
    assert before > 0.3 and after < 1e-4 and lens.training["ridge"] == [0.0]


def read_kl(subject: interp.Subject, lens: TunedLens, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean KL to the output of the logit lens and of the tuned lens, by layer, without the output itself."""
    frame = logit_lens(subject, texts, lens=lens).query("layer < 8").groupby(["lens", "layer"])["kl_to_final"].mean()
    return frame["logit"].to_numpy(), frame["tuned"].to_numpy()


def test_with_few_tokens_the_lens_is_no_worse_than_the_logit_lens_on_others():
    """A token or two per dimension: plain least squares reads other texts far worse than the logit lens does."""
    subject, stories = interp.load("reference"), dataset("stories")["text"].tolist()
    few = subject.tokens(stories[20:24])
    lens = tuned_lens(subject, few, held_out=0.25, steps=1, tokens_per_step=100)
    logit, tuned = read_kl(subject, lens, stories[:5])
    assert (tuned < 1.02 * logit).all()  # one held-out text chooses: 2 % is within its noise
    assert tuned[0] < 0.5 * logit[0]  # where a map helps much, few tokens show it
    trainer = _training.LensTrainer(subject, few, [0])
    fits = [fit(0.0) for fit in trainer._fits([1, 2, 3])]
    weight, bias = (torch.stack(parts).float() for parts in zip(*fits, strict=True))
    logit, plain = read_kl(subject, TunedLens(weight, bias, "reference", subject.fingerprint, {}), stories[:5])
    assert (plain[4:] > 1.1 * logit[4:]).all()


def test_the_penalty_falls_with_the_number_of_tokens(subject):
    """Many tokens need none; `None`, where the logit lens stays, counts as the largest."""
    chosen = []
    for n in (5, 60):
        ids = corpus(n)
        ridge = tuned_lens(subject, ids, steps=1, tokens_per_step=10, held_out=0.3).training["ridge"]
        chosen.append([np.inf if one is None else one for one in ridge])
    assert all(many <= few for few, many in zip(*chosen, strict=True)) and sum(chosen[1]) < sum(chosen[0])
    assert max(chosen[1]) <= 0.1


def test_too_few_tokens_to_choose_by_are_refused(subject, monkeypatch):
    monkeypatch.setattr(interp.Subject, "run", lambda *args, **kwargs: pytest.fail("computed before checking"))
    says = "24 tokens are too few to fit maps of 32 dimensions with 1 of 3 texts held out; give texts of at least 34"
    for recipe in ("small", "paper"):
        with pytest.raises(InputError, match=says):
            tuned_lens(subject, corpus(3), recipe=recipe)


def test_a_long_text_is_cut_into_windows_of_the_context(subject):
    text = " ".join(f"w{token}" for token in corpus(60, 10).flatten().tolist())
    windows = context_windows(subject, text)
    assert [len(ids) for ids in windows.ids] == [64] * 9 + [600 - 9 * 63 + 1]  # each begins with <s>
    assert all(ids[0] == 1 for ids in windows.ids)
    np.testing.assert_array_equal(torch.cat([ids[1:] for ids in windows.ids]), corpus(60, 10).flatten())
    settings = {"steps": 3, "tokens_per_step": 100}
    lens = tuned_lens(subject, text, **settings)
    assert torch.equal(lens.weight, tuned_lens(subject, windows, **settings).weight)
    before, after = np.array(lens.training["held_out_kl"]).T
    assert (after < before).all()
    # Texts that fit are left as they are, with their own numbers; ids without a start token get none.
    assert context_windows(subject, ["w3 w4", "w5"]).digest == subject.tokens(["w3 w4", "w5"]).digest
    assert [len(ids) for ids in context_windows(subject, torch.full((1, 130), 7)).ids] == [64, 64, 2]
    with pytest.raises(InputError, match="too few to fit"):
        tuned_lens(subject, [text, "w3"], truncate=True, held_out=0.9)


@pytest.mark.parametrize("recipe", ["small", "paper"])
def test_an_interrupted_training_goes_on(subject, tmp_path, monkeypatch, recipe):
    settings = {"recipe": recipe, "steps": 10, "tokens_per_step": 60, "patience": 9}
    whole = tuned_lens(subject, corpus(), **settings)
    steps: list[int] = []
    original = _training.LensTrainer.accumulate

    def failing(self, stream, n_tokens):
        if len(steps) == 5:  # evaluations, which are kept, come after every second step
            raise KeyboardInterrupt
        steps.append(n_tokens)
        return original(self, stream, n_tokens)

    with monkeypatch.context() as patch:
        patch.setattr(_training.LensTrainer, "accumulate", failing)
        with pytest.raises(KeyboardInterrupt):
            tuned_lens(subject, corpus(), out=tmp_path / "kept", **settings)
        steps[:] = [0] * 20
        patch.setattr(_training.LensTrainer, "start", lambda *args, **kwargs: pytest.fail("started anew"))
        resumed = tuned_lens(subject, corpus(), out=tmp_path / "kept", **settings)
        assert len(steps) == 20 + 6  # four steps were kept
    assert torch.equal(resumed.weight, whole.weight) and torch.equal(resumed.bias, whole.bias)
    assert resumed.training == whole.training
    assert [file.name.split(".")[1] for file in (tmp_path / "kept").iterdir()] == ["lens"]
    with monkeypatch.context() as patch:
        patch.setattr(interp.Subject, "run", lambda *args, **kwargs: pytest.fail("computed what is kept"))
        assert tuned_lens(subject, corpus(), out=tmp_path / "kept", **settings).digest == whole.digest
    other = tuned_lens(subject, corpus(), out=tmp_path / "kept", **settings | {"seed": 1})
    assert other.digest != whole.digest and len(list((tmp_path / "kept").iterdir())) == 2


def test_a_damaged_state_is_refused_by_name(subject, tmp_path, monkeypatch):
    def interrupted(self, stream, n_tokens):
        raise KeyboardInterrupt

    settings = {"steps": 2, "tokens_per_step": 60, "out": tmp_path}
    with monkeypatch.context() as patch:
        patch.setattr(_training.LensTrainer, "accumulate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tuned_lens(subject, corpus(), **settings)
    (state,) = tmp_path.iterdir()
    about, tensors = tensor_file.read(state, "state", "interp tuned lens, unfinished 1")
    tensor_file.write(state, "state", {name: one for name, one in tensors.items() if name != "kept.bias"}, about)
    with pytest.raises(InputError, match=r"state\.safetensors' is damaged: .*kept\.bias.*; delete it to start anew"):
        tuned_lens(subject, corpus(), **settings)
    state.write_bytes(state.read_bytes()[:50])
    with pytest.raises(InputError, match=r"no state of a tuned lens can be read .* Delete it to start anew"):
        tuned_lens(subject, corpus(), **settings)


def test_progress_is_shown_with_the_time_left(subject, capsys, monkeypatch):
    monkeypatch.setattr("interp.runs.progress.SECONDS", 0)  # between two lines of a log
    with interp.options.local(progress=True, memory=1 << 16):
        tuned_lens(subject, corpus(), steps=3, tokens_per_step=60)
    shown = capsys.readouterr().err
    assert "tuned_lens, least squares" in shown and "tuned_lens, ridge" in shown
    assert re.search(r"tuned_lens: 100%.* 3/3 \[\d\d:\d\d<\d\d:\d\d", shown)


def test_training_is_the_same_twice_and_in_other_batches(subject, monkeypatch):
    settings = {"steps": 5, "tokens_per_step": 100}
    first = tuned_lens(subject, corpus(), **settings)
    torch.testing.assert_close(tuned_lens(subject, corpus(), **settings).weight, first.weight, rtol=0, atol=0)
    monkeypatch.setattr(interp.Subject, "batch_tokens", lambda self, states_per_layer=1: 24)
    # Adam divides by the gradient's size: where that is rounding alone, so is the step, at most 1e-3 each.
    pieces = tuned_lens(subject, corpus(), **settings)
    assert (pieces.weight - first.weight).abs().median() < 1e-6
    assert not torch.equal(tuned_lens(subject, corpus(), **settings, seed=1).weight, first.weight)


def test_both_backends_train_the_same_lens(small_subject):
    lenses = [
        tuned_lens(small_subject("llama", backend), corpus(), steps=10, tokens_per_step=100)
        for backend in ("bridge", "nnsight")
    ]
    held_out = [np.array(lens.training["held_out_kl"]) for lens in lenses]
    np.testing.assert_allclose(*held_out, rtol=1e-3)  # attention by other kernels, through Adam


def test_training_leaves_the_model_as_it_was(subject):
    logits = subject.logits(corpus(2))
    tuned_lens(subject, corpus(), steps=2, tokens_per_step=50)
    assert all(torch.equal(*pair) for pair in zip(subject.logits(corpus(2)), logits, strict=True))
    assert all(weight.grad is None for _, weight in subject.backend.named_weights())


# -- files and wrong models ------------------------------------------------------------------------------------------


def test_a_lens_survives_its_file(subject, trained, tmp_path):
    lens = load_tuned_lens(trained.save(tmp_path / "new" / "lens.safetensors"))
    assert torch.equal(lens.weight, trained.weight) and torch.equal(lens.bias, trained.bias)
    assert (lens.model, lens.fingerprint, lens.training) == (trained.model, trained.fingerprint, trained.training)
    assert lens.digest == trained.digest


def test_a_lens_on_the_wrong_model_is_refused(small_model, word_level, trained, monkeypatch):
    others = {
        "with fingerprint": interp.load(small_model("gpt2", seed=1), tokenizer=word_level),
        "has 4 layers of 32 dimensions, .* has 3 of 32": interp.load(small_model("gpt2", n_layer=3)),
    }
    monkeypatch.setattr(interp.Subject, "run", lambda *args, **kwargs: pytest.fail("computed before checking"))
    for says, other in others.items():
        with pytest.raises(ModelError, match=says):
            logit_lens(other, corpus(2), lens=trained)


def test_the_shipped_lens_is_loaded_by_name(monkeypatch):
    monkeypatch.chdir("/")
    lens = load_tuned_lens("reference")
    untrained_on = dataset("stories")["text"].iloc[:12].tolist()
    frame = logit_lens("reference", untrained_on, positions=20, layers=[0, 4], lens="reference")
    assert (lens.training["recipe"], lens.model) == ("small", "reference")
    tuned, logit = (frame[frame["lens"] == kind].groupby("layer")["kl_to_final"].mean() for kind in ("tuned", "logit"))
    assert (tuned < logit).all() and tuned[4] < tuned[0]  # the layer says more than the token alone
    with pytest.raises(InputError, match=r"'referenc'.* Shipped: reference\."):
        load_tuned_lens("referenc")


def alignment_research(folder: Path, lens: TunedLens) -> Path:
    state = {f"{layer}.weight": one for layer, one in enumerate(lens.weight)}
    state |= {f"{layer}.bias": one for layer, one in enumerate(lens.bias)}
    folder.mkdir()
    torch.save(state, folder / "params.pt")
    config = {"base_model_name_or_path": "gpt2", "d_model": lens.weight.shape[1], "num_hidden_layers": lens.n_layers}
    (folder / "config.json").write_text(json.dumps(config | {"bias": True, "lens_type": "linear_tuned_lens"}))
    return folder


def test_alignment_researchs_format_is_read(subject, trained, tmp_path):
    lens = load_tuned_lens(alignment_research(tmp_path / "gpt2", trained))
    assert torch.equal(lens.weight, trained.weight) and torch.equal(lens.bias, trained.bias)
    assert lens.model == "gpt2" and lens.fingerprint is None
    frames = [logit_lens(subject, corpus(2), lens=one)["log_prob"] for one in (lens, trained)]
    np.testing.assert_array_equal(*frames)


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harm-was-done"),)


def test_a_pickle_of_more_than_tensors_is_refused_unopened(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = alignment_research(tmp_path / "gpt2", trained)
    (folder / "params.pt").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(InputError, match="tensors only"):
        load_tuned_lens(folder)
    torch.save({"0.weight": Harmful()}, folder / "params.pt")
    with pytest.raises(InputError, match="tensors only"):
        load_tuned_lens(folder)
    assert not Path("harm-was-done").exists()


def test_files_that_hold_no_lens_are_refused(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "text").write_text("no tensors here")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    for name, says in {
        "text": "no tuned lens",
        "absent": "no tuned lens",
        "other.safetensors": "of this project",
    }.items():
        with pytest.raises(InputError, match=says):
            load_tuned_lens(tmp_path / name)
    with pytest.raises(InputError, match=r"config\.json and params\.pt"):
        load_tuned_lens(tmp_path)


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"recipe": "large"}, UnknownName, "unknown recipe 'large'"),
        ({"steps": 0}, InputError, "steps=0"),
        ({"tokens_per_step": 0}, InputError, "tokens_per_step=0"),
        ({"held_out": 1.0}, InputError, "held_out=1.0"),
        ({"patience": 0}, InputError, "patience=0"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(subject, monkeypatch, arguments, error, says):
    monkeypatch.setattr(interp.Subject, "run", lambda *args, **kwargs: pytest.fail("computed before checking"))
    with pytest.raises(error, match=says):
        tuned_lens(subject, corpus(), **arguments)
    with pytest.raises(InputError, match="1 texts"):
        tuned_lens(subject, corpus(1))
