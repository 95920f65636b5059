"""Masks are trained as the paper says, find what was planted, and leave the model as it was."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import pytest
import torch

import interp
from interp.authoring import spoken
from interp.errors import InputError, ModelError, UnknownName
from interp.planted import bigram
from probes import BigramModel, Subnetwork, find_subnetwork, maskable
from probes.subnetworks.search import _forecast
from probes.subnetworks.search import _groups as _mask_groups
from probes.subnetworks.search import _training as training
from probes.subnetworks.search._batches import DrawnContexts
from probes.subnetworks.search._forecast import Forecast
from probes.subnetworks.search._parameters import NEVER, MaskParameters
from probes.subnetworks.search._targets import BigramTarget, cross_entropy
from probes.subnetworks.search.find_subnetwork import RECIPES

pytestmark = pytest.mark.trained

VOCAB = 61


@pytest.fixture
def bigrams():
    return BigramModel.from_transition(
        (2 * torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(5))).softmax(dim=1)
    )


def quick(subject, bigrams, **settings):
    return find_subnetwork(subject, bigrams, **{"sparsity": 10, "steps": 4, "batch": 3, "length": 7} | settings)


def reference_step(model, ids, bigrams, sparsity, steps, lr, growth):
    """The same training by plain PyTorch: one autograd graph from m to the loss, no code of ours.

    Returns m by parameter name after so many steps.
    """
    names = [name for name, weight in model.named_parameters() if ".h." in f".{name}" and weight.ndim == 2]
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    m = {name: torch.where(weights[name] == 0, -1e6, 0.0).requires_grad_() for name in names}
    n = sum(weights[name].numel() for name in names)
    optimiser = torch.optim.AdamW(m.values(), lr=lr)
    inverse_temperature = 1.0
    for step in range(steps):
        soft = {name: torch.sigmoid(inverse_temperature * value) for name, value in m.items()}
        masked = weights | {name: weights[name] * soft[name] for name in names}
        logits = torch.func.functional_call(model, masked, (ids(step),)).logits
        rows = bigrams.probs(ids(step)).float()
        loss = -(rows * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
        loss = loss + sparsity * sum(value.sum() for value in soft.values()) / n
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        inverse_temperature *= growth
    return {name: value.detach() for name, value in m.items()}


@pytest.mark.parametrize("backend", ["bridge", "nnsight"])
def test_steps_equal_plain_pytorchs(small_model, word_level, bigrams, backend):
    """GPT-2: fused, transposed queries, keys and values; three steps of lr 0.1, so that an error would show."""
    model = small_model("gpt2")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[3, :5] = 0
    subject = interp.load(model, backend=backend, tokenizer=word_level)
    schedule = training.MaskSchedule(lr=0.1, growth=1.3, steps=3, batch=3, length=7, retries=0)
    target = BigramTarget(bigrams, subject.device)
    contexts = DrawnContexts(bigrams, (3, 7), start=(), seed=0)
    run = training.MaskTraining(
        subject, target, lambda attempt: contexts, sparsity=5.0, unit="weight", schedule=schedule, checkpoint=None
    )
    run.run(lambda logged: None)
    expected = reference_step(copy.deepcopy(model), contexts.batch, bigrams, 5.0, 3, 0.1, 1.3)
    ours = run.masks.m  # [in, out], as these weights lie in memory
    for layer in range(4):
        fused = expected[f"transformer.h.{layer}.attn.c_attn.weight"].chunk(3, dim=1)
        for component, m in zip("qkv", fused, strict=True):
            # Adam divides by the root of squared gradients: where those are near 0 roundings of them show in m.
            torch.testing.assert_close(ours[f"blocks.{layer}.attn.{component}.weight"], m, atol=2e-3, rtol=1e-3)
        for name, path in (("mlp.in", "mlp.c_fc"), ("mlp.out", "mlp.c_proj"), ("attn.o", "attn.c_proj")):
            m = expected[f"transformer.h.{layer}.{path}.weight"]
            torch.testing.assert_close(ours[f"blocks.{layer}.{name}.weight"], m, atol=2e-3, rtol=1e-3)
    assert float(ours["blocks.1.mlp.in.weight"][3, 0]) < 0.9 * NEVER


@pytest.mark.parametrize("unit", ["weight", "row", "neuron", "head"])
@pytest.mark.parametrize(
    ("architecture", "step", "tolerance"),
    # float64 rounding leaves 1e-16 / 1e-5 of the loss. Llama's norms are float32 in any model, 1e-8 / 1e-3 of it.
    [("gpt2", 1e-5, 1e-9), ("gpt_neox", 1e-5, 1e-9), ("llama", 3e-3, 3e-5)],
)
def test_the_gradient_is_that_of_the_loss(small_model, word_level, monkeypatch, architecture, step, tolerance, unit):
    """Against central differences of the loss along random directions of all mask parameters at once, in float64."""
    monkeypatch.setattr(_mask_groups, "_IN_CACHE", 100)  # several chunks of every matrix
    subject = interp.load(small_model(architecture).double(), backend="bridge", tokenizer=word_level)
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, VOCAB, (2, 6), generator=generator)
    target = torch.randn(2, 6, VOCAB, generator=generator, dtype=torch.float64).softmax(dim=-1)
    masks = MaskParameters(subject.weight_matrices(), unit=unit, n_heads=subject.n_heads, sparsity=4.0, lr=1e-2)
    masks.inverse_temperature = 1.7
    for m in masks.m.values():
        assert m.dtype == torch.float64
        m.normal_(generator=generator)
    start = {name: m.clone() for name, m in masks.m.items()}

    def loss(m, backward=False):
        for name, values in m.items():
            masks.m[name].copy_(values)
        kept = masks.refresh()

        def program(tape):
            with torch.enable_grad():
                xent = -(target * tape.head(tape.last).log_softmax(dim=-1)).sum(dim=-1).mean()
                if backward:
                    torch.autograd.backward(xent, inputs=leaves)
            return float(xent.detach())

        with subject.edited([], {}), masks.masking() as leaves:
            return subject.run(ids, program, graph=True) + 4.0 * kept

    loss(start, backward=True)
    found = {name: state["exp_avg"] / 0.1 for name, state in masks.state().items()}  # of Adam's first step
    for _ in range(3):
        direction = {name: torch.randn(m.shape, generator=generator, dtype=m.dtype) for name, m in start.items()}
        ahead, behind = ({name: m + h * direction[name] for name, m in start.items()} for h in (step, -step))
        slope = (loss(ahead) - loss(behind)) / (2 * step)
        along = float(sum((found[name] * direction[name]).sum() for name in found))
        assert along == pytest.approx(slope, abs=tolerance)
        assert abs(slope) > 10 * tolerance


def test_masks_hold_four_copies_of_the_weights(small_subject, bigrams):
    """Effective weights, m and Adam's two moments; gradients are let go as they are used."""
    subject = small_subject("gpt2", "bridge")
    contexts = DrawnContexts(bigrams, (2, 6), start=(), seed=3)
    schedule = training.MaskSchedule(lr=1e-2, growth=1.0, steps=1, batch=2, length=6, retries=0)
    run = training.MaskTraining(
        subject,
        BigramTarget(bigrams, subject.device),
        lambda attempt: contexts,
        sparsity=4.0,
        unit="weight",
        schedule=schedule,
        checkpoint=None,
    )
    run.run(lambda logged: None)
    assert all(m.grad is None for m in run.masks.m.values())
    assert all(weight.grad is None for weight in run.masks.effective)
    per_step = 4 * len(run.masks.m)  # Adam's count of steps, a float32 for each matrix
    assert run.masks.held_bytes() == 4 * 4 * run.masks.n_weights + per_step


def test_cross_entropy_of_sparse_rows_is_that_of_dense_ones(bigrams):
    counts = bigrams.pairs.tolil()
    counts[7] = 0
    counts = counts.tocsr()
    model = BigramModel(
        type(bigrams.pairs)(counts), bigrams.unigram, bigrams.current * (torch.arange(VOCAB) != 7).numpy(), "x"
    )
    ids = torch.tensor([[3, 7, 7, 60], [0, 3, 1, 2]])
    logits = torch.randn(8, VOCAB, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for unigram in (False, True):
        target = BigramTarget(model, torch.device("cpu"), unigram=unigram)
        given = logits.float().requires_grad_()
        losses, gradient = cross_entropy(given.detach(), target.begin(ids)(slice(None)), VOCAB)
        p = torch.from_numpy(model.unigram_probs).expand(8, -1) if unigram else model.probs(ids).flatten(0, 1)
        dense = -(p * logits.log_softmax(-1)).sum(-1)
        torch.testing.assert_close(losses.double(), dense, atol=1e-5, rtol=0)  # float32 sums of 61 terms
        torch.testing.assert_close(gradient.double(), logits.softmax(-1) - p, atol=1e-6, rtol=0)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama"])
@pytest.mark.parametrize("backend", ["bridge", "nnsight"])
def test_the_model_is_the_same_afterwards(small_model, word_level, bigrams, architecture, backend):
    model = small_model(architecture)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    subject = interp.load(model, backend=backend, tokenizer=word_level)
    unharmed(subject, bigrams, torch.randint(3, VOCAB, (2, 9)))
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], value) for name, value in before.items())
    assert all(weight.grad is None for weight in model.parameters())


def test_a_native_bridge_is_the_same_afterwards():
    planted = bigram(noise_blocks=1, vocab=VOCAB, seed=1)
    unharmed(interp.load(planted.model), BigramModel.from_transition(planted.truth.transition), torch.arange(14)[None])
    assert all(weight.grad is None for weight in planted.model.parameters())


def unharmed(subject, bigrams, ids):
    """Logits and fingerprint keep their bits, also where the target breaks off in the middle of training."""
    logits, fingerprint = torch.stack(subject.logits(ids)), subject.fingerprint
    quick(subject, bigrams, target="model")
    assert torch.equal(torch.stack(subject.logits(ids)), logits)
    calls = []

    def breaks(given):
        calls.append(given)
        if len(calls) > 1:
            raise RuntimeError("broken target")
        return bigrams.probs(given)

    with pytest.raises(RuntimeError, match="broken target"):
        quick(subject, bigrams, target=breaks)
    assert torch.equal(torch.stack(subject.logits(ids)), logits)
    again = type(subject)(subject.backend)
    assert again.fingerprint == fingerprint and not subject.edits


def test_an_interrupted_training_goes_on_to_the_same_masks(small_subject, bigrams, tmp_path, monkeypatch):
    subject = small_subject("gpt2", "bridge")
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    settings = {"sparsity": (1, 10), "steps": 12, "out": tmp_path}
    whole = quick(subject, bigrams, **settings | {"out": None})
    batch, asked = DrawnContexts.batch, []

    def broken(self, step):
        asked.append(step)
        if step == 7:
            raise KeyboardInterrupt
        return batch(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(DrawnContexts, "batch", broken)
        with pytest.raises(KeyboardInterrupt):
            quick(subject, bigrams, **settings)
    with monkeypatch.context() as patch:
        patch.setattr(DrawnContexts, "batch", lambda self, step: asked.append(step) or batch(self, step))
        asked.clear()
        resumed = quick(subject, bigrams, **settings)
    assert asked[0] == 7
    for sparsity in (1, 10):
        assert resumed[sparsity].digest == whole[sparsity].digest
    ignored = ["seconds"]
    assert resumed.log.drop(columns=ignored).equals(whole.log.drop(columns=ignored))


def test_sparsities_see_the_same_batches_and_do_not_change_each_other(small_subject, bigrams):
    subject = small_subject("gpt2", "bridge")
    both, alone = quick(subject, bigrams, sparsity=(1, 100)), quick(subject, bigrams, sparsity=100)
    assert both[100].digest == alone[100].digest
    first = both.log[both.log["step"] == 0]  # a later one is there only where the masks were not decided before
    assert len(first) == 2 and first["entropy"].nunique() == 1


def test_a_soft_mask_is_a_half_at_first_and_hard_in_the_end(small_subject):
    subject = small_subject("gpt2", "bridge")
    masks = MaskParameters(subject.weight_matrices(), unit="weight", n_heads=4, sparsity=0, lr=0.1)
    for inverse_temperature in (1.0, 50.0, 1e6):
        masks.inverse_temperature = inverse_temperature
        assert masks.refresh() == pytest.approx(0.5, abs=1e-12)  # m = 0, whatever the temperature
    generator = torch.Generator().manual_seed(0)
    for m in masks.m.values():
        m.normal_(generator=generator)
    soft = {}
    for inverse_temperature in (1.0, 10.0, 1e7):
        masks.inverse_temperature = inverse_temperature
        soft[inverse_temperature] = masks.refresh()
    hard = sum(int(mask.sum()) for mask in masks.hard().values()) / masks.n_weights
    # At T = 1e7 the soft masks of normal m are 0 or 1 but for the |m| < 1e-6, a millionth of them.
    assert soft[1e7] == pytest.approx(hard, abs=1e-5) and soft[1.0] != pytest.approx(hard, abs=1e-5)


def test_the_loss_is_never_below_the_targets_entropy(small_subject, bigrams):
    for target in ("bigram", "unigram", "model"):
        log = quick(small_subject("llama", "bridge"), bigrams, target=target).log
        assert (log["xent"] >= log["entropy"] - 1e-5).all()  # float32 sums of 61 terms
        assert log["target"].eq(target).all()


def test_frames_and_their_summaries(small_subject, bigrams):
    found = quick(small_subject("gpt2", "bridge"), bigrams, sparsity=(1, 10))
    own = found.components.query("control == 'none'")
    for sparsity, rows in own.groupby("sparsity"):
        assert rows["kept_count"].sum() == found[sparsity].n_kept
        assert rows["total_count"].sum() == found[sparsity].n_total
    summary = found.components.interp.summary()
    assert len(summary) == 2 * 4
    shares = summary.groupby("sparsity")[["attn_share", "mlp_share"]].sum().sum(axis=1)
    assert shares.tolist() == pytest.approx([1, 1])
    last = found.log.interp.summary()
    assert last["step"].le(3).all() and last["sparsity"].tolist() == [1, 10]
    assert (last["decided"] | (last["step"] == 3)).all()  # else training would have gone on
    assert list(found) == [1, 10] and isinstance(found[1], Subnetwork)
    with pytest.raises(UnknownName, match="unknown sparsity '7'; known: '1', '10'"):
        found[7]


def test_texts_are_used_once_before_any_comes_again(small_subject, bigrams):
    subject = small_subject("gpt2", "bridge")
    texts = torch.arange(4 * 40).remainder(VOCAB).view(4, 40)
    found = quick(subject, bigrams, texts=texts, length=8)
    assert found[10].origin["steps"] == 4
    with pytest.raises(InputError, match=r"the texts have 40 tokens; 6 windows of 8 need 48"):
        quick(subject, bigrams, texts=texts[:1], length=8)
    with pytest.raises(InputError, match=r"the texts have 160 tokens; 6 windows of 64 need 384"):
        quick(subject, bigrams, texts=texts.view(1, -1), length=64)  # none is lost beyond the context of 64


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"sparsity": -1}, InputError, "sparsity=-1: give one number of 0 or more"),
        ({"sparsity": (1, 1)}, InputError, "several different ones"),
        ({"target": "trigram"}, UnknownName, "unknown target 'trigram'; did you mean 'bigram'"),
        ({"unit": "layer"}, UnknownName, "unknown unit 'layer'"),
        ({"recipe": "slow"}, UnknownName, "unknown recipe 'slow'"),
        ({"steps": 0}, InputError, "steps=0: give a number above 0"),
        ({"steps": 1.5}, InputError, r"steps=1\.5: give a whole number"),
        ({"batch": 2.5}, InputError, r"batch=2\.5: give a whole number"),
        ({"lr": float("inf")}, InputError, "lr=inf: give a finite number"),
        ({"lr": float("nan")}, InputError, "lr=nan: give a finite number"),
        ({"lr": 0.0}, InputError, r"lr=0\.0: give a number above 0"),
        ({"lr": -1.0}, InputError, r"lr=-1\.0: give a number above 0"),
        ({"sparsity": float("nan")}, InputError, "sparsity=nan: give a finite number"),
        ({"length": 65}, InputError, "length=65: give at most the context, 64"),
        (
            {"target": lambda ids: torch.ones(3)},
            InputError,
            r"target returned \[3\]; it must return probabilities \[3, 7, 61\]",
        ),
    ],
)
def test_bad_arguments_are_named(small_subject, bigrams, settings, error, message):
    with pytest.raises(error, match=message):
        quick(small_subject("gpt2", "bridge"), bigrams, **settings)


def test_a_subnetwork_without_weights_is_said(small_subject, bigrams):
    """Every step of this size moves all masks by ten, and the penalty of a million pulls them below 0."""
    with pytest.warns(UserWarning, match="the subnetwork at sparsity 1e\\+06 keeps no weight; lower sparsity= or lr="):
        found = quick(small_subject("gpt2", "bridge"), bigrams, sparsity=1e6, lr=10.0)
    assert found[1e6].n_kept == 0


def test_a_subnetwork_worse_than_the_full_model_is_said(small_subject):
    """Take a full model that predicts the target nearly as well as can be: no subnetwork of two steps comes near."""
    planted = bigram(vocab=VOCAB, seed=1)
    subject, bigrams = interp.load(planted.model), BigramModel.from_transition(planted.truth.transition)
    says = r"the subnetwork at sparsity 10 predicts its target worse than the full model, with a cross-entropy of \d"
    with pytest.warns(UserWarning, match=says):
        found = quick(subject, bigrams, steps=2)
    told = found[10].origin["held_out_nats"]
    assert found[10].worse_by == told["xent"] - told["xent_full_model"] > 0.01
    assert f"{found[10].worse_by:.3f} nats worse than the full model)" in repr(found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = quick(subject, bigrams, steps=2, target="model")  # worse than the model at being the model: no news
    assert own[10].worse_by == 0 and "worse" not in repr(own) and "worse" not in repr(found[10].complement())


@pytest.mark.parametrize(("recipe", "unit"), [("cpu", "row"), ("fast", "weight"), ("pilot", "weight")])
def test_a_recipe_has_its_unit(small_subject, bigrams, recipe, unit):
    subject = small_subject("gpt2", "bridge")
    own = quick(subject, bigrams, recipe=recipe)[10]
    assert own.origin["unit"] == unit and own.digest == quick(subject, bigrams, recipe=recipe, unit=unit)[10].digest


@pytest.mark.parametrize("unit", ["weight", "row", "neuron", "head"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_memory_that_is_told_is_what_masks_hold(small_subject, architecture, unit):
    subject = small_subject(architecture, "bridge")
    masks = MaskParameters(subject.weight_matrices(), unit=unit, n_heads=subject.n_heads, sparsity=1.0, lr=0.1)
    told = Forecast(subject, unit, RECIPES["cpu"], 1)
    assert told.held == masks.held_bytes() - 4 * len(masks.m)  # but for Adam's count of steps, one number a group
    assert f"{sum(m.numel() for m in masks.m.values()):,} masks over {masks.n_weights:,} weights" in told.memory


def test_memory_is_told_before_the_masks_are_made_and_time_after_three_steps(small_subject, bigrams, monkeypatch):
    events = []
    monkeypatch.setattr(_forecast, "_say", lambda bar, sentence: events.append(sentence))
    make, advance = training.MaskTraining._new_masks, training.MaskTraining._advance
    monkeypatch.setattr(training.MaskTraining, "_new_masks", lambda self: events.append("masks") or make(self))
    monkeypatch.setattr(training.MaskTraining, "_advance", lambda *given: advance(*given) or events.append("step"))
    quick(small_subject("gpt2", "bridge"), bigrams, sparsity=(1, 10))
    memory, *rest = events
    assert "beside the model" in memory and rest[:3] == ["masks", "step", "step"]
    assert "a step takes" in rest[3] and "4 steps for each of 2 sparsities take" in rest[3]
    assert sum(len(event) > 5 for event in events) == 2  # once, not for every sparsity


@pytest.mark.parametrize("known_before", [True, False])
def test_a_search_of_over_an_hour_warns_once_and_as_soon_as_that_is_known(
    small_subject, bigrams, monkeypatch, known_before
):
    monkeypatch.setattr(_forecast, "_LONG", 0.0)
    if not known_before:
        monkeypatch.setattr(_forecast, "seconds_of_products", lambda subject, n: 0.0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        quick(small_subject("gpt2", "bridge"), bigrams)
    (long,) = [str(one.message) for one in told if "recipe='cpu' masks rows in minutes" in str(one.message)]
    assert ("a step takes" in long) != known_before


def test_the_least_time_is_that_of_three_passes_of_every_step_and_search(small_subject, monkeypatch):
    monkeypatch.setattr(_forecast, "seconds_of_products", lambda subject, n: n)  # of one multiplication a second
    subject = small_subject("gpt2", "bridge")
    schedule = replace(RECIPES["fast"], batch=2, length=5, steps=7)
    seconds, sentence = Forecast(subject, "head", schedule, 3).before()
    weights = sum(matrix.weight.numel() for matrix in subject.weight_matrices()) + subject.W_U.numel()
    assert seconds == 3 * 2 * 5 * weights * 7 * 3
    assert f"all steps take at least {spoken(seconds)}" in sentence


def test_time_is_that_of_all_steps(small_subject):
    told = Forecast(small_subject("gpt2", "bridge"), "weight", RECIPES["fast"], 3)
    total, sentence = told.time([2.0, 4.0, 90.0])  # the median: one slow step decides nothing
    assert total == 4.0 * 800 * 3 and "take 2.7 hours, or less" in sentence


def test_a_mixture_of_experts_and_another_vocabulary_are_refused(small_subject, bigrams):
    with pytest.raises(ModelError, match="a mixture of experts"):
        quick(small_subject("mixtral", "bridge"), bigrams)
    larger = BigramModel.from_transition(torch.full((100, 100), 0.01))
    with pytest.raises(ModelError, match="more tokens than the 61"):
        quick(small_subject("gpt2", "bridge"), larger)


def test_half_precision_weights_with_float32_masks(small_model, word_level, bigrams):
    subject = interp.load(small_model("llama"), dtype="bfloat16", tokenizer=word_level)
    found = quick(subject, bigrams)
    assert found.log["xent"].notna().all() and len(maskable(subject)) == 28


def test_masks_too_small_to_count_are_zero():
    """Products of numbers below float32's smallest normal one take a hundred times as long as others."""
    m = torch.linspace(-20, 20, 401)
    for t in (1.0, 5.0, 200.0):
        soft, plain = _mask_groups.soft_mask(m, t), torch.sigmoid(m * t)
        assert ((soft == 0) == (plain <= 1e-12)).all() and (soft[soft > 0] == plain[soft > 0]).all()
    smallest = torch.finfo(torch.float32).tiny
    assert torch.sigmoid(m * 5.0).min() < smallest < (soft[soft > 0] * 1e-20).min()  # the trap, and small weights
