"""A tokenizer adds, cuts or pads by its own settings, and must be the model's."""

from __future__ import annotations

import copy
from functools import partial

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedTokenizerFast

import interp
from interp.authoring import Run, context_windows
from interp.errors import InputError, TooLong
from interp.findings import Claim, findings
from interp.findings.verdict import Comparison
from interp.model.texts.tokenizer import check_tokenizer, start_ids, start_of_text
from interp.model.tokens import tokenise
from interp.tokenization.asking import text_ids
from probes import attribute, bigram_model, concept_neurons, iterative_inference, logit_lens
from probes.characters._token_vectors import single_token_residuals

TEXT = "the cat sat on the mat"


def byte_level(template: str | None = None, **special: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE with `[gMASK]`, id 0, and `<sop>`, id 1, as GLM-4 has them."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    names = ["[gMASK]", "<sop>", "<eop>"]
    core.train_from_iterator(
        [TEXT] * 10, trainers.BpeTrainer(vocab_size=300, special_tokens=names, initial_alphabet=alphabet)
    )
    if template is not None:
        tokens = [(name, place) for place, name in enumerate(names)]
        core.post_processor = processors.TemplateProcessing(single=template, special_tokens=tokens)
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def ids_of(text: str, tokenizer: PreTrainedTokenizerFast, **options: object) -> list[int]:
    (ids,) = tokenise([text], tokenizer, **({"n_ctx": 64, "d_vocab": 300} | options)).ids
    return ids.tolist()


GLM = byte_level("[gMASK] <sop> $A")
BARE = text_ids([TEXT], GLM)[0]


# -- the start of a text ---------------------------------------------------------------------------------------------


def test_a_start_of_several_tokens_is_that_of_the_models_own_tokenizer():
    assert start_ids(GLM) == start_of_text(GLM) == [0, 1]
    assert ids_of(TEXT, GLM) == GLM(TEXT)["input_ids"] == [0, 1, *BARE]
    assert ids_of(TEXT, GLM, bos=True) == [0, 1, *BARE]
    assert ids_of(TEXT, GLM, bos=False) == BARE
    assert ids_of(f"[gMASK]<sop>{TEXT}", GLM) == [0, 1, *BARE]  # spelled, so it is not added again
    assert tokenise(TEXT, GLM, n_ctx=64, d_vocab=300).bos is True


def test_the_start_of_several_tokens_counts_towards_the_context():
    n = len(BARE) + 1
    with pytest.raises(TooLong, match=f"prompt 0 has {n + 1} tokens, 1 more than the context of {n}"):
        ids_of(TEXT, GLM, n_ctx=n)
    assert ids_of(TEXT, GLM, n_ctx=n, truncate=True) == [0, 1, *BARE[:-1]]


def test_every_window_of_a_long_text_begins_with_the_whole_start(small_model):
    subject = interp.load(small_model("llama", vocab_size=300, max_position_embeddings=4), tokenizer=GLM)
    windows = context_windows(subject, TEXT).ids
    assert all(ids[:2].tolist() == [0, 1] for ids in windows)
    assert torch.cat([ids[2:] for ids in windows]).tolist() == BARE


def test_an_end_token_is_left_out_whatever_the_start():
    for template, start in (("$A <eop>", []), ("<sop> $A <eop>", [1]), ("[gMASK] <sop> $A <eop> <eop>", [0, 1])):
        tokenizer = byte_level(template, eos_token="<eop>")
        assert start_ids(tokenizer) == start
        assert ids_of(TEXT, tokenizer) == [*start, *BARE]


def test_a_tokenizer_that_adds_nothing_may_have_a_start_of_text_token():
    tokenizer = byte_level(bos_token="<sop>")
    assert start_ids(tokenizer) == [] and start_of_text(tokenizer) == [1]
    assert ids_of(TEXT, tokenizer) == BARE and ids_of(TEXT, tokenizer, bos=True) == [1, *BARE]
    assert start_ids(None) == start_of_text(None) == []


def test_a_token_alone_is_read_behind_the_whole_start(small_model):
    subject = interp.load(small_model("llama", vocab_size=300), tokenizer=GLM)
    (found,) = single_token_residuals(subject, torch.tensor([7, 9]).numpy(), [2])
    expected = subject.run(torch.tensor([[0, 1, 7], [0, 1, 9]]), lambda tape: tape.residual(2)[:, -1])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # the same pass, in a batch of another shape


# -- settings that must not matter -----------------------------------------------------------------------------------


def test_settings_for_padding_and_truncation_change_nothing():
    """A `tokenizer.json` may hold both; transformers applies them in its own calls."""
    core = Tokenizer.from_str(GLM.backend_tokenizer.to_str())
    core.enable_truncation(max_length=4)
    core.enable_padding(length=40, pad_id=2, pad_token="<eop>", direction="left")
    wrapped = {"padding_side": "left", "truncation_side": "left", "model_max_length": 3, "pad_token": "<eop>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **wrapped)
    assert tokenizer.backend_tokenizer.truncation is not None and tokenizer.backend_tokenizer.padding is not None
    assert start_ids(tokenizer) == [0, 1]
    tokenizer.backend_tokenizer.enable_truncation(max_length=4)  # every call resets it
    assert ids_of(TEXT, tokenizer) == [0, 1, *BARE]
    assert [ids.tolist() for ids in tokenise([TEXT, "the"], tokenizer, n_ctx=64, d_vocab=300).ids] == [
        [0, 1, *BARE],
        [0, 1, *text_ids(["the"], GLM)[0]],
    ]


# -- the model's own tokenizer ---------------------------------------------------------------------------------------


def test_a_tokenizer_of_another_vocabulary_is_refused_when_it_is_given(small_model, word_level, any_backend):
    with pytest.raises(InputError, match=r"'GPT2LMHeadModel' has ids up to 60, but .* has 50: it is another model's"):
        interp.load(small_model("gpt2", vocab_size=50), tokenizer=word_level, backend=any_backend)
    padded = interp.load(small_model("gpt2", vocab_size=64), tokenizer=word_level, backend=any_backend)
    assert padded.tokens("w3 w60").ids[0].tolist() == [1, 3, 60]


@pytest.mark.parametrize("warm", [False, True])
def test_a_token_added_beyond_the_vocabulary_is_refused_in_the_text_that_has_it(
    small_model, word_level, any_backend, warm
):
    tokenizer = copy.deepcopy(word_level)
    tokenizer.add_tokens(["<new>"])
    subject = interp.load(small_model("gpt2"), tokenizer=tokenizer, backend=any_backend)
    if warm:
        logit_lens(subject, "w3 w4")
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"text 1, 'w4 <new> w5', holds the token '<new>' \(id 61\), but this model's vocabulary"
        ):
            logit_lens(subject, ["w3", "w4 <new> w5"])


def test_a_word_that_is_a_token_beyond_the_vocabulary_is_refused_or_left_out(small_model, word_level):
    tokenizer = copy.deepcopy(word_level)
    tokenizer.add_tokens(["<new>"])
    subject = interp.load(small_model("gpt2"), tokenizer=tokenizer)
    answered = pd.DataFrame({"text": ["w3 w4"], "expected": ["<new>"]})
    for call, says in (
        (lambda: logit_lens(subject, "w3 w4", targets="<new>"), r"target '<new>' \(id 61\) is outside the vocabulary"),
        (lambda: attribute(subject, "w3 w4", target="<new>"), r"target '<new>' \(id 61\) is outside the vocabulary"),
        (lambda: attribute(subject, "w3 w4", continuation="<new>"), r"holds the token '<new>' \(id 61\)"),
        (lambda: iterative_inference(subject, answered), "continuation '<new>' begins with the token id 61"),
        (lambda: bigram_model(subject, ["w3 <new>"]), "the corpus holds the token id 61"),
        (lambda: subject.generate("w3 <new>", 2), r"holds the token '<new>' \(id 61\)"),
    ):
        with pytest.raises(InputError, match=says):
            call()
    found = concept_neurons(subject, ["<new>", "w3", "w4", "w5", "w6"], n=2, min_hits=1)
    assert "<new>" in found.words.dropped


def test_a_tokenizer_that_does_not_read_back_what_it_wrote_is_refused():
    broken = Tokenizer.from_str(GLM.backend_tokenizer.to_str())
    broken.decoder = decoders.WordPiece()
    with pytest.raises(InputError, match=f"the tokenizer given with 'm' reads '{TEXT}' back as 'the Ġcat"):
        check_tokenizer(PreTrainedTokenizerFast(tokenizer_object=broken), 300, "m")


@pytest.mark.parametrize("wrong", [5, ["a"], GLM.backend_tokenizer, {"a": 1}])
def test_what_is_not_a_tokenizer_is_refused(small_model, wrong):
    with pytest.raises(InputError, match=rf"'GPT2LMHeadModel' is a {type(wrong).__name__}, not one of transformers"):
        interp.load(small_model("gpt2", vocab_size=300), tokenizer=wrong)


def test_a_tokenizer_that_draws_its_tokens_is_refused():
    core = Tokenizer.from_str(GLM.backend_tokenizer.to_str())
    core.model.dropout = 0.1
    with pytest.raises(InputError, match=r"the tokenizer of 'm' cuts texts at random \(dropout 0.1\)"):
        check_tokenizer(PreTrainedTokenizerFast(tokenizer_object=core), 300, "m")


def test_a_vocabulary_without_ordinary_words_is_accepted(word_level):
    letters = Tokenizer(models.WordLevel({"<unk>": 0, "A": 1, "C": 2, "G": 3, "T": 4}, unk_token="<unk>"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    for tokenizer in (word_level, PreTrainedTokenizerFast(tokenizer_object=letters), None, GLM):
        check_tokenizer(tokenizer, 300, "m")
    assert start_ids(PreTrainedTokenizerFast(tokenizer_object=letters)) == []


# -- longer than the context -----------------------------------------------------------------------------------------


def test_cutting_is_advised_only_where_a_call_can_cut(small_subject):
    subject, long = small_subject("llama", "bridge"), " ".join(["w3"] * 70)
    texts = pd.DataFrame({"text": ["w3", long], "prompt_id": [40, 41]})
    advice = r"^prompt 41 has 71 tokens, .* context of 64; shorten it, or pass truncate=True to cut its end\.$"
    for call in (subject.tokens, subject.logits, partial(logit_lens, subject)):
        with pytest.raises(TooLong, match=advice):
            call(texts)
    without = r"^prompt 1 has 71 tokens, 7 more than the context of 64; shorten it\.$"
    with pytest.raises(TooLong, match=without):
        subject.generate(["w3", long], 4)
    with pytest.raises(TooLong, match=without):  # as in a probe of someone's without such an argument
        Run(logit_lens.probe.schema, subject, ["w3", long], parameters={})
    answered = pd.DataFrame({"text": ["w3", long], "expected": ["w4", "w5"]})
    with pytest.raises(TooLong, match=without):
        iterative_inference(subject, answered)


def test_a_continuation_is_named_as_one(small_subject):
    subject = small_subject("llama", "bridge")
    with pytest.raises(TooLong, match=r"prompt 0 has 2 tokens; with 70 more .* shorten the prompt or the continuation"):
        attribute(subject, "w3", continuation=" ".join(["w3"] * 70), methods=["normxlogit"])


def test_a_skipped_claim_names_the_texts_that_are_too_long(small_subject):
    def measure(subject: interp.Subject, texts: pd.DataFrame) -> pd.DataFrame:
        return logit_lens(subject, texts)

    asked = Claim(
        id="a.b", statement="s", paper="p", says="s", probe="logit_lens", measure=measure, statistic=len,
        comparison=Comparison(at_least=0), texts=("w3", " ".join(["w3"] * 70)),
    )  # fmt: skip
    (reason,) = findings(small_subject("llama", "bridge"), asked)["reason"]
    assert reason.startswith("of the claim's own (2): prompt 1 has 71 tokens, 7 more than the context of 64")


def test_a_bridge_has_the_start_that_transformer_lens_gives_its_tokenizer(tmp_path, small_model):
    tokenizer = byte_level(bos_token="<sop>")
    small_model("gpt2", vocab_size=300).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    bridge = TransformerBridge.boot_transformers(str(tmp_path))
    assert interp.load(tmp_path).tokens(TEXT).ids[0].tolist() == BARE
    assert interp.load(bridge).tokens(TEXT).ids[0].tolist() == bridge.to_tokens(TEXT)[0].tolist() == [1, *BARE]
