"""Chat messages have the ids that the tokenizer's template gives them, and are refused by name where they have none."""

from __future__ import annotations

import copy
import hashlib
import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.data.shipped import read_data
from interp.errors import InputError, WithoutTemplate
from interp.findings.caveats import Caveats
from interp.model.texts.forms import frame_of_texts, prompts
from interp.model.texts.windows import context_windows
from probes import logit_lens, top_tokens

# It writes the start itself, a word for the role, and w59 at the end of a message; it refuses what is not a role.
TEMPLATE = (
    "{{ '<s> ' }}{% for m in messages %}{% if m.role not in roles %}{{ raise_exception('no such role: ' + m.role) }}"
    "{% endif %}{{ roles[m.role] + ' ' + m.content + ' w59 ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'w52' }}{% endif %}"
)
TEMPLATE = "{% set roles = {'system': 'w50', 'user': 'w51', 'assistant': 'w52'} %}" + TEMPLATE
USER = {"role": "user", "content": "w3 w4"}
SYSTEM = {"role": "system", "content": "w5"}
MODEL = {"role": "assistant", "content": "w6 w7"}
OPEN, CLOSED = [SYSTEM, USER], [USER, MODEL]
OPEN_IDS = [1, 50, 5, 59, 51, 3, 4, 59, 52]
CLOSED_IDS = [1, 51, 3, 4, 59, 52, 6, 7, 59]


@pytest.fixture(scope="module")
def chatting(word_level):
    tokenizer = copy.deepcopy(word_level)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture
def subject(small_model, chatting, any_backend) -> interp.Subject:
    return interp.load(small_model("llama"), tokenizer=chatting, backend=any_backend)


def ids_of(tokens) -> list[list[int]]:
    return [ids.tolist() for ids in tokens.ids]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (OPEN, [OPEN_IDS]),
        ([OPEN], [OPEN_IDS]),
        ((OPEN, tuple(CLOSED)), [OPEN_IDS, CLOSED_IDS]),
        (np.array(OPEN, dtype=object), [OPEN_IDS]),
        (pd.DataFrame({"messages": [OPEN, np.array(CLOSED, dtype=object)]}), [OPEN_IDS, CLOSED_IDS]),
        (pd.DataFrame({"messages": [[{**USER, "name": None}]]}), [[1, 51, 3, 4, 59, 52]]),
    ],
)
def test_messages_have_the_ids_of_the_template(small_subject, chatting, given, wanted):
    subject = interp.load(small_subject("llama", "bridge").backend.original, tokenizer=chatting)
    tokens = subject.tokens(given)
    assert ids_of(tokens) == wanted and tokens.bos is True
    theirs = [
        chatting.apply_chat_template(chat, add_generation_prompt=chat[-1] != MODEL)["input_ids"]
        for chat in (prompts(given).chats or [])
    ]
    assert theirs == wanted


@pytest.mark.parametrize(("asked", "told"), [(None, [True, False]), (True, True), (False, False)])
def test_the_words_before_an_answer(subject, chatting, asked, told):
    tokens = subject.tokens([OPEN, CLOSED], add_generation_prompt=asked)
    per_chat = told if isinstance(told, list) else [told, told]
    assert ids_of(tokens) == [
        chatting.apply_chat_template(chat, add_generation_prompt=own)["input_ids"]
        for chat, own in zip((OPEN, CLOSED), per_chat, strict=True)
    ]
    digest = hashlib.sha256(TEMPLATE.encode()).hexdigest()
    assert tokens.chat == {"template_sha256": digest, "add_generation_prompt": told}
    (run,) = logit_lens(subject, tokens).interp.runs.values()
    assert run["chat"] == tokens.chat and json.loads(json.dumps(run["chat"])) == run["chat"]
    assert subject.tokens(tokens).chat == context_windows(subject, tokens).chat == tokens.chat


def test_a_probe_measures_the_same_on_messages_and_on_their_ids(subject):
    of_chats, of_ids = (logit_lens(subject, given) for given in ([OPEN, CLOSED], [OPEN_IDS, CLOSED_IDS]))
    pd.testing.assert_frame_equal(of_chats, of_ids, check_exact=True)  # the run id too: ids alone decide the numbers
    (run,) = of_ids.interp.runs.values()
    assert "chat" not in run


def test_a_template_without_the_start_gets_none(small_model, word_level):
    tokenizer = copy.deepcopy(word_level)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content + ' ' }}{% endfor %}"
    tokens = interp.load(small_model("llama"), tokenizer=tokenizer).tokens([USER])
    assert ids_of(tokens) == [[3, 4]] and tokens.bos is False


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[{"content": "w3"}]], r"message 0 of conversation 0 has no 'role', only \['content'\]; give one such as"),
        ([[{"from": "human", "value": "w3"}]], r"message 0 of conversation 0 has no 'role', only \['from', 'value'\]"),
        ([[USER, {"role": "assistant"}]], "message 1 of conversation 0 has no 'content'"),
        ([OPEN, [{"role": 3, "content": "w3"}]], "message 0 of conversation 1 has no 'role'"),
        ([OPEN, []], "conversation 1 has no messages; give it at least one"),
        ([OPEN, "w3"], "conversation 1 is str, not a list of messages such as"),
        ([USER, "w3"], "message 1 of conversation 0 is str, not a mapping such as"),
        (USER, "a single message was given; put it in a list"),
        (pd.DataFrame({"messages": [[]], "prompt_id": [7]}), "conversation 7 has no messages"),
        (pd.DataFrame({"messages": [{"role": ["user"], "content": ["w3"]}]}), "conversation 0 is dict, not a list"),
        (pd.DataFrame({"messages": []}), "no texts were given"),
        (pd.DataFrame({"messages": [OPEN], "text": ["w3"]}), "columns 'text' and 'messages'.*drop the one"),
        ([[{"role": "judge", "content": "w3"}]], r"cannot read conversation 0 \(roles judge\): no such role: judge\."),
        ([[{"role": "user", "content": ["w3"]}]], r"cannot read conversation 0 \(roles user\): .*\."),
    ],
)
def test_what_is_no_conversation_is_refused_in_one_sentence(small_subject, chatting, given, message):
    subject = interp.load(small_subject("llama", "bridge").backend.original, tokenizer=chatting)
    with pytest.raises(InputError, match=message) as caught:
        logit_lens(subject, given)
    assert "\n" not in str(caught.value)


def test_messages_need_a_template_and_a_tokenizer(small_model, small_subject):
    with pytest.raises(InputError, match=r"has no chat template, so it cannot read messages: give their texts"):
        logit_lens(small_subject("llama", "bridge"), [OPEN])
    with pytest.raises(InputError, match="came without a tokenizer"):
        logit_lens(interp.load(small_model("llama")), [OPEN])


def test_options_that_have_no_meaning(small_subject, chatting):
    subject = interp.load(small_subject("llama", "bridge").backend.original, tokenizer=chatting)
    with pytest.raises(InputError, match="bos=False has no meaning for chat messages"):
        subject.tokens([OPEN], bos=False)
    for given in (["w3"], [[1, 3]]):
        with pytest.raises(InputError, match="add_generation_prompt=True is for chat messages"):
            subject.tokens(given, add_generation_prompt=True)
    with pytest.raises(InputError, match="add_generation_prompt= cannot be applied to tokens"):
        subject.tokens(subject.tokens([OPEN]), add_generation_prompt=False)
    with pytest.raises(InputError, match=r"generate continues texts, not list: give Subject\.continue_ids"):
        subject.generate([OPEN], 1)
    with pytest.raises(InputError, match="chat messages were given where texts are needed"):
        frame_of_texts([OPEN])


def test_a_file_of_messages(subject, tmp_path):
    rows = [{"messages": OPEN, "group": "a"}, {"messages": CLOSED, "group": "b"}]
    file = tmp_path / "chats.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    pd.DataFrame(rows).to_parquet(tmp_path / "chats.parquet")
    for name in ("chats.jsonl", "chats.parquet"):
        given = read_data(str(tmp_path / name))
        assert ids_of(subject.tokens(given)) == [OPEN_IDS, CLOSED_IDS]
        frame = top_tokens(subject, given, k=1)
        assert frame.groupby("prompt_id")["group"].unique().str[0].tolist() == ["a", "b"]


# -- texts for a model with a template -------------------------------------------------------------------------------


def test_texts_without_the_template_are_told_of_once_per_subject(small_model, chatting):
    for _ in range(2):
        subject = interp.load(small_model("llama"), tokenizer=chatting)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            subject.tokens(["w3"])
            logit_lens(subject, ["w3 w4"])
            context_windows(subject, ["w3"])
        assert [(one.category, one.filename) for one in told] == [(WithoutTemplate, __file__)]
        assert "'LlamaForCausalLM' has a chat template, and these" in str(told[0].message)


def test_the_warning_can_be_silenced_as_it_says(small_model, chatting):
    subject = interp.load(small_model("llama"), tokenizer=chatting)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", interp.errors.WithoutTemplate)
        subject.tokens(["w3"])
    assert issubclass(WithoutTemplate, UserWarning)


@pytest.mark.parametrize("given", [[OPEN], [[1, 3]], torch.tensor([[1, 3]])])
def test_messages_and_ids_are_not_told_of(small_model, chatting, given):
    subject = interp.load(small_model("llama"), tokenizer=chatting)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logit_lens(subject, given)


def test_texts_that_went_through_the_template_are_not_told_of(small_model, word_level):
    tokenizer = copy.deepcopy(word_level)
    tokenizer.add_special_tokens({"additional_special_tokens": ["w58"]})
    tokenizer.chat_template = "{{ '<s> ' }}{% for m in messages %}{{ 'w58 ' + m.content + ' ' }}{% endfor %}"
    text = tokenizer.apply_chat_template(OPEN, tokenize=False)
    subject = interp.load(small_model("llama"), tokenizer=tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokens = subject.tokens([text])
    assert ids_of(tokens) == ids_of(subject.tokens([OPEN]))  # and the start is not added twice
    with pytest.warns(WithoutTemplate):
        subject.tokens([text, "w3"])


def test_the_warning_is_no_caveat_of_a_claim():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Caveats(set()) as caveats:
            warnings.warn("of the template", WithoutTemplate, stacklevel=1)
            warnings.warn("of the claim", stacklevel=1)
    assert caveats.found == ["of the claim"]
