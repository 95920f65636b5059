"""Banks of states: what is kept, what a search finds, and that a file and a merge change nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import interp
from interp.errors import InputError
from interp.planted import copying
from probes import StateBank
from probes.contexts._layer_states import LayerStates
from probes.contexts._occurrences import Occurrences, occurrences

HALF = 2e-3  # of a cosine of directions in half precision: eleven bits in each factor
TEXTS = ["Once upon a time there was a cat.", "Once upon a time there was a dog.", "The cat and the dog sat down."]


@pytest.fixture(scope="module")
def reference():
    return interp.load("reference")


@pytest.fixture(scope="module")
def bank(reference):
    return StateBank.of(reference, TEXTS, layers=[0, 4, 8], dtype="float32")


def residuals(subject, text, layer):
    """The states of a text from the model's own pass, without a bank."""
    return subject.run(subject.tokens([text]).ids[0][None], lambda tape: tape.residual(layer)[0].clone())


def test_equal_beginnings_are_kept_once(reference, bank):
    prefixes = {tuple(ids[: n + 1].tolist()) for ids in reference.tokens(TEXTS).ids for n in range(2, len(ids))}
    assert len(bank) == len(prefixes) < sum(len(ids) - 2 for ids in reference.tokens(TEXTS).ids)


def test_removing_duplicates_changes_nothing(reference, bank):
    twice = StateBank.of(reference, TEXTS + TEXTS, layers=[0, 4, 8], dtype="float32")
    assert (twice.digest, repr(twice)) == (bank.digest, repr(bank))


def test_states_are_the_models(reference, bank):
    for layer in bank.layers:
        for number in range(len(bank)):
            text, pos = bank.places.text[number], bank.places.pos[number]
            want = residuals(reference, TEXTS[text], layer)[pos]
            found = bank.at(layer).states(torch.tensor(number))
            assert torch.allclose(found, want, rtol=1e-5, atol=1e-5 * float(want.norm()))  # float32, other batches


def test_next_tokens_are_those_of_the_texts(reference, bank):
    for text, pos, after in zip(bank.places.text, bank.places.pos, bank.next_id, strict=True):
        ids = reference.tokens(TEXTS).ids[text].tolist()
        assert after == (ids[pos + 1] if pos + 1 < len(ids) else -1)


@pytest.mark.parametrize("centre", [True, False])
def test_a_search_is_that_of_whole_cosines(reference, bank, centre):
    query = residuals(reference, "A dog and a cat sat there.", 4)
    states = torch.stack([bank.at(4).states(torch.tensor(number)) for number in range(len(bank))]).double()
    mean = states.mean(0) if centre else torch.zeros(())
    whole = torch.nn.functional.cosine_similarity((query.double() - mean)[:, None], (states - mean)[None], dim=2)
    cosine, index = bank.search(query, 4, k=5, centre=centre)
    assert torch.allclose(cosine.double(), whole.topk(5).values, atol=1e-5)  # float32 sums of 256 terms
    assert torch.allclose(whole.gather(1, index), whole.topk(5).values, atol=1e-5)


def test_a_search_in_parts_is_that_in_one(bank):
    states, vectors = bank.at(8), torch.randn(7, 256, generator=torch.Generator().manual_seed(0))
    whole = states.search(vectors, 4, centre=True, numbers=10**9)
    parts = states.search(vectors, 4, centre=True, numbers=1)  # four states at a time
    assert torch.equal(whole[1], parts[1])
    assert torch.allclose(whole[0], parts[0], atol=1e-6)  # products of other shapes round otherwise


def test_half_precision_finds_a_state_itself(reference, bank):
    half = StateBank.of(reference, TEXTS, layers=[0, 4, 8])
    for layer in bank.layers:
        cosine, index = half.search(bank.at(layer).states(torch.arange(len(bank))), layer, k=1)
        assert (cosine > 1 - HALF).all()
        assert (bank.places.token_id[index[:, 0]] == bank.places.token_id).all()
        if layer:
            assert index[:, 0].tolist() == list(range(len(bank)))  # at layer 0 equal tokens have equal states


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_turning_and_scaling_everything_changes_no_rank(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    states, vectors = (torch.randn(n, 8, generator=generator) for n in (40, 5))
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q * scale

    def search(states, vectors):
        norms = states.norm(dim=1)
        return LayerStates(states / norms[:, None], norms, states.mean(0)).search(vectors, 3, centre=True, numbers=9999)

    (cosine, index), (turned, same) = search(states, vectors), search(states @ turn, vectors @ turn)
    assert torch.allclose(cosine, turned, atol=1e-4)
    apart = (cosine[:, :-1] - cosine[:, 1:] > 1e-4).all(dim=1)  # ranks of equal cosines are open
    assert torch.equal(index[apart, :2], same[apart, :2])


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("numbers", [1, 4096, 10**9])
def test_many_states_in_groups_and_parts_give_the_nearest_of_all(centre, numbers):
    """4,107 states are 513 groups and three over; plain float64 cosines say which are nearest."""
    generator = torch.Generator().manual_seed(0)
    states, vectors = (torch.randn(n, 8, generator=generator) + 1 for n in (4107, 40))
    norms = states.norm(dim=1)
    layer = LayerStates(states / norms[:, None], norms, states.mean(0))
    cosine, index = layer.search(vectors, 6, centre=centre, numbers=numbers)
    off = states.mean(0).double() if centre else 0.0
    one, other = (torch.nn.functional.normalize(part.double() - off, dim=1) for part in (vectors, states))
    expected, nearest = (one @ other.T).topk(6, dim=1)
    assert torch.allclose(cosine.double(), expected, atol=1e-5)
    apart = expected[:, :-1] - expected[:, 1:] > 1e-5  # ranks of equal cosines are open
    assert (index[:, :-1] == nearest[:, :-1])[apart[:, :] & torch.cat([apart[:, :1], apart[:, :-1]], 1)].all()


def test_few_of_each_token_and_the_same_in_any_order():
    texts = [torch.tensor([0, 5, 5, 5, number]) for number in range(20)]
    every = occurrences(texts, skip=1, seed=3)
    kept = every.at(every.few(2))
    assert max(np.unique(kept.token_id, return_counts=True)[1]) == 2
    other = occurrences(texts[::-1], skip=1, seed=3)
    assert set(other.at(other.few(2)).key) == set(kept.key)
    chosen = {frozenset(one.at(one.few(2)).key) for one in (occurrences(texts, skip=1, seed=seed) for seed in range(9))}
    assert len(chosen) == 9


def test_a_choice_is_uniform():
    """Each of eight contexts of a token stays in a quarter of the draws: a binomial of 2,000, four deviations."""
    texts = [torch.tensor([number, 9]) for number in range(8)]
    stayed = np.zeros(8)
    for seed in range(2000):
        one = occurrences(texts, skip=1, seed=seed)
        stayed[one.at(one.few(2)).text] += 1
    assert abs(stayed / 2000 - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / 2000)


def test_a_file_holds_the_bank(bank, tmp_path):
    read = StateBank.load(bank.save(tmp_path / "new" / "bank.safetensors"))
    assert (read.digest, repr(read)) == (bank.digest, repr(bank))
    assert np.array_equal(read.usual, bank.usual)
    for layer in bank.layers:
        assert torch.equal(read.at(layer).units, bank.at(layer).units)
    assert all(torch.equal(one, other) for one, other in zip(read.texts, bank.texts, strict=True))


@pytest.mark.parametrize("max_per_token", [1, 2, 50])
def test_merged_banks_are_the_bank_of_all_texts(reference, max_per_token):
    whole = StateBank.of(reference, TEXTS, layers=4, max_per_token=max_per_token, dtype="float32")
    first, *others = (
        StateBank.of(reference, [text], layers=4, max_per_token=max_per_token, dtype="float32", skip=2)
        for text in TEXTS
    )
    merged = first.merged(*others)
    assert set(merged.places.key) == set(whole.places.key)
    for key in whole.places.key:
        one, other = (at.at(4).states(torch.from_numpy(np.flatnonzero(at.places.key == key))) for at in (merged, whole))
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-4)  # float32, in batches of other shapes


def test_neighbours_in_the_planted_copy_are_those_of_its_formula():
    """After its block a state is e(token) plus the mean of e(token) over all tokens so far."""
    planted = copying(vocab=8, seed=0)
    subject = interp.load(planted.model, tokenizer=planted.tokenizer)
    texts = [[1, 2, 3, 2], [4, 4, 1, 5, 2], [6, 3, 2, 2]]
    bank = StateBank.of(subject, texts, layers=subject.n_layers, skip=0, dtype="float32")
    of_texts = [planted.truth.shares(torch.tensor(ids)) for ids in texts]
    shares = torch.stack([of_texts[text][pos] for text, pos in zip(bank.places.text, bank.places.pos, strict=True)])
    formula = (torch.nn.functional.one_hot(torch.from_numpy(bank.places.token_id), 8) + shares).float()
    unit = torch.nn.functional.normalize(formula, dim=1)
    cosine, index = bank.search(
        bank.at(subject.n_layers).states(torch.arange(len(bank))), subject.n_layers, centre=False
    )
    assert torch.allclose(cosine, (unit @ unit.T).topk(5).values, atol=1e-5)  # float32
    assert torch.allclose((unit @ unit.T).gather(1, index), cosine, atol=1e-5)


def test_too_much_memory_is_refused_before_anything_runs(reference, monkeypatch):
    monkeypatch.setattr(type(reference), "run", None)
    with interp.options.local(memory=20_000), pytest.raises(InputError, match="GiB; raise it, or give fewer layers"):
        StateBank.of(reference, TEXTS, layers=[1, 2, 3])


def test_a_merged_bank_of_too_much_memory_is_refused(reference, bank):
    other = StateBank.of(reference, ["A big dog ran off with the hat."], layers=[0, 4, 8], dtype="float32")
    size = 3 * (len(bank) + len(other)) * reference.d_model * 4
    with interp.options.local(memory=size - 1), pytest.raises(InputError, match="GiB; raise it, or give fewer layers"):
        bank.merged(other)
    with interp.options.local(memory=size):
        assert len(bank.merged(other)) == len(bank) + len(other)


def anonymous():
    """Return the process's memory that is not of a file, in bytes; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def test_a_bank_stays_in_its_file_while_it_is_searched(reference, tmp_path):
    """Its states are 64 MiB of half precision; a fourth of that leaves room for whatever else takes memory."""
    n, d = 2**17, reference.d_model
    some = torch.nn.functional.normalize(torch.randn(2**10, d, generator=torch.Generator().manual_seed(0)), dim=1)
    states = LayerStates(some.half().repeat(n // len(some), 1), torch.ones(n), torch.zeros(d))
    places = Occurrences(np.zeros(n, int), np.zeros(n, int), np.zeros(n, int), np.arange(n))
    about = {"max_per_token": n, "skip": 0, "dtype": "float16", "seed": 0}
    whole = StateBank((1,), (states,), places, (torch.zeros(1, dtype=torch.int64),), np.tile([0.0, 1.0], (1, 2, 1)),
                      reference.name, reference.fingerprint, about)  # fmt: skip
    path = whole.save(tmp_path / "bank.safetensors")
    del whole, states
    before = anonymous()
    read = StateBank.load(path)
    with interp.options.local(memory=2**22):
        cosine, index = read.search(some[:8], 1, k=1)
    assert (cosine > 1 - HALF).all() and (index[:, 0] % len(some)).tolist() == list(range(8))
    assert read.at(1).units.nbytes == 2**26 and anonymous() - before < 2**24
