"""Every form that texts may come in is read as what it is, or refused by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import BatchEncoding

import datasets
from interp.errors import InputError, UnknownName
from interp.model.texts.forms import frame_of_texts, prompts
from probes import logit_lens

# -- token ids -------------------------------------------------------------------------------------------------------

RAGGED = [[1, 5, 9], [1, 7]]


@pytest.mark.parametrize(
    "given",
    [
        RAGGED,
        tuple(map(tuple, RAGGED)),
        [np.array(row, dtype=np.uint16) for row in RAGGED],
        [torch.tensor(row, dtype=torch.int32) for row in RAGGED],
        pd.Series(RAGGED),
        np.array(RAGGED, dtype=object),
        (row for row in RAGGED),
        [[1, 5, 9], torch.tensor([1, 7])],
        {"input_ids": RAGGED},
    ],
)
def test_ids_of_different_lengths(given):
    found = prompts(given)
    assert found.texts is None and found.ids == RAGGED and found.numbers == [0, 1]
    assert all(type(index) is int for row in found.ids for index in row)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, pd.Series, np.uint8])
def test_whole_numbers_are_one_prompt(kind):
    assert prompts(kind([1, 5, 9])).ids == [[1, 5, 9]]


@pytest.mark.parametrize("kind", [np.array, torch.tensor, list])
def test_rows_of_an_array_are_prompts(kind):
    assert prompts(kind([[1, 5], [9, 7]])).ids == [[1, 5], [9, 7]]


@pytest.mark.parametrize("kind", ["list", "pt", "np"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_tokenizers_output_is_read_without_its_padding(word_level, kind, side):
    texts = ["w3 w4 w5", "w6", "w7 w8"]
    made = word_level(texts, padding=True, padding_side=side, return_tensors=None if kind == "list" else kind)
    assert isinstance(made, BatchEncoding) and len(made["input_ids"][1]) == 4
    assert prompts(made).ids == prompts(dict(made)).ids == [[1, 3, 4, 5], [1, 6], [1, 7, 8]]
    assert prompts(word_level("w3 w4")).ids == [[1, 3, 4]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_probe_measures_the_same_on_texts_and_on_their_padded_ids(small_subject, word_level, side):
    subject, texts = small_subject("llama", "bridge"), ["w3 w4 w5", "w6"]
    padded = word_level(texts, padding=True, padding_side=side, return_tensors="pt")
    of_texts, of_ids = logit_lens(subject, texts), logit_lens(subject, padded)
    pd.testing.assert_frame_equal(of_ids, of_texts, check_exact=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[1, 2], []], "prompt 1 has no token ids; give it at least one, or leave it out"),
        ([[1, 2], [0.5]], "text 0 is list, not str; give strings, or whole numbers as ids"),
        ([True, False], "text 0 is bool, not str"),
        ([1, "w3"], "text 0 is int, not str"),
        (np.array([0.5]), r"token ids must be integers \[pos\] or \[prompt, pos\], not float64 \[1\]"),
        (np.zeros((1, 2, 3), dtype=int), r"not int64 \[1, 2, 3\]"),
        ([torch.tensor([0.5])], r"not torch.float32 \[1\]"),
        ({"input_ids": ["w3"]}, "'input_ids' of the mapping are not whole numbers"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1]]}, "'attention_mask' is not of the shape of 'input_ids'"),
        ({"input_ids": [[1, 2, 3]], "attention_mask": [[1, 0, 1]]}, "'attention_mask' of prompt 0 has a gap"),
        ({"input_ids": [[1], [2]], "attention_mask": [[1], [0]]}, "prompt 1 has no token ids"),
    ],
)
def test_ids_that_cannot_be_read(given, message):
    with pytest.raises(InputError, match=message):
        prompts(given)


@pytest.mark.parametrize("given", [[[3, 61]], [3, 61], np.array([3, 61]), [[3], [2**70]], [[3, -1]]])
def test_ids_beyond_the_vocabulary_are_named(small_subject, given):
    wrong = [index for row in prompts(given).ids for index in row][-1]
    with pytest.raises(InputError, match=rf"holds the token id {wrong}, but this model's vocabulary has 61; give ids"):
        logit_lens(small_subject("llama", "bridge"), given)


# -- datasets and frames ---------------------------------------------------------------------------------------------

TEXTS = ["w3 w4 w5", "w6"]
IDS = [[1, 3, 4, 5], [1, 6]]
MASKED = {
    "input_ids": [[1, 3, 4, 5], [0, 0, 1, 6]],
    "attention_mask": [[1, 1, 1, 1], [0, 0, 1, 1]],
    "token_type_ids": [[0, 0, 0, 0], [0, 0, 0, 0]],
}


@pytest.mark.parametrize("form", ["list", "torch", "numpy"])
@pytest.mark.parametrize("columns", [{"text": TEXTS}, {"input_ids": IDS}, MASKED], ids=["text", "input_ids", "masked"])
@pytest.mark.parametrize("kind", ["dataset", "frame"])
def test_a_probe_measures_the_same_on_a_table(small_subject, any_backend, kind, columns, form):
    subject = small_subject("llama", any_backend)
    if kind == "dataset":
        table = datasets.Dataset.from_dict(columns | {"group": ["a", "b"]})
        table = table if form == "list" else table.with_format(form)
    else:
        convert = {"list": list, "torch": torch.tensor, "numpy": np.array}[form]
        held = {name: [one if name == "text" else convert(one) for one in rows] for name, rows in columns.items()}
        table = pd.DataFrame(held | {"group": ["a", "b"]}, index=[7, 9])
    found = logit_lens(subject, table)
    assert found.groupby("prompt_id")["group"].unique().str[0].tolist() == ["a", "b"]
    pd.testing.assert_frame_equal(found.drop(columns="group"), logit_lens(subject, TEXTS), check_exact=True)


@pytest.mark.parametrize(
    "given",
    [
        IDS,
        [np.array(row) for row in IDS],
        [torch.tensor(row) for row in IDS],
        np.array(IDS, dtype=object),
        BatchEncoding({"input_ids": IDS}),
        BatchEncoding({name: torch.tensor(rows) for name, rows in MASKED.items()}),
    ],
)
def test_a_probe_measures_the_same_on_ids_of_different_lengths(small_subject, any_backend, given):
    subject = small_subject("llama", any_backend)
    pd.testing.assert_frame_equal(logit_lens(subject, given), logit_lens(subject, TEXTS), check_exact=True)


def test_a_column_of_a_dataset():
    assert prompts(datasets.Dataset.from_dict({"a": TEXTS})["a"]).texts == TEXTS
    assert prompts(datasets.Dataset.from_dict({"a": IDS})["a"]).ids == IDS


def test_the_messages_of_a_dataset():
    chats = [[{"role": "user", "content": "w3"}], [{"role": "user", "content": "w4", "name": "x"}]]
    table = datasets.Dataset.from_dict({"messages": chats, "prompt_id": [4, 2]})
    found = prompts(table)  # the gap that the first message has in the table's type is left out
    assert (found.chats, found.numbers, list(found.table.columns)) == (chats, [4, 2], ["prompt_id"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": TEXTS})}), r"pass d\['train'\]"),
        (datasets.Dataset.from_dict({"text": TEXTS}).to_iterable_dataset(), r"IterableDataset.*list\(d.take\(100\)\)"),
        (datasets.Dataset.from_dict({"body": TEXTS}), r"no column 'text', only \['body'\]; rename"),
        (datasets.Dataset.from_dict({"text": []}), "no texts were given"),
        (datasets.Dataset.from_dict({"input_ids": []}), "no texts were given"),
    ],
)
def test_what_of_datasets_cannot_be_read(given, message):
    with pytest.raises(InputError, match=message) as caught:
        prompts(given)
    assert "\n" not in str(caught.value)


# -- what has no texts or no order -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"text": ["w3", "w4"], "label": [0, 1]},
            r"a mapping \(dict\) is not a list of texts: pass d\['text'\], or a D",
        ),
        ({"prompt": ["w3"]}, r"pass d\['prompt'\]"),
        ({}, r"a mapping \(dict\) is not a list of texts"),
        ({"w3", "w4"}, r"a set of texts has no order; give a list, such as sorted\(texts\)"),
        (frozenset(["w3"]), "a set of texts has no order"),
        ([{"text": "w3"}], "text 0 is dict, not str; pass the texts in it"),
        (b"w3", "texts are str, not bytes; decode them first"),
        (pd.DataFrame([["w3", "w4"]], columns=["text", "text"]), r"the frame has 2 columns 'text'"),
        (pd.DataFrame({"ids": [[3]]}), r"only \['ids'\]; rename the one with the texts"),
        (pd.DataFrame({"input_ids": ["w3"]}), "'input_ids' of the mapping are not whole numbers"),
        (pd.DataFrame({"text": [3]}), "text 0 is int, not str"),
        (pd.DataFrame({"text": ["w3", None], "prompt_id": [40, 41]}), "text 41 is .*, not str"),
        (pd.DataFrame({"text": ["w3", ""], "prompt_id": [40, 41]}), "text 41 is empty"),
    ],
)
def test_what_is_refused_by_name(given, message):
    with pytest.raises(InputError, match=message) as caught:
        prompts(given)
    assert "\n" not in str(caught.value)


def test_the_values_of_a_mapping_are_texts():
    assert prompts({"a": "w3", "b": "w4"}.values()).texts == ["w3", "w4"]


# -- names of datasets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["promptss", "prompt", "Prompts", "stories ", "storis"])
def test_a_text_that_is_nearly_a_dataset_is_refused(text):
    with pytest.raises(UnknownName, match=r"did you mean '(prompts|stories)'.*\? Put it in a list to mean the text\."):
        prompts(text)
    assert prompts([text]).texts == [text]


@pytest.mark.parametrize("text", ["story", "The prompts were read.", "w3", "bird", "a"])
def test_other_texts_are_texts(text):
    assert prompts(text).texts == [text]


def test_a_frame_of_texts():
    frame = pd.DataFrame({"text": ["w3", "w4"], "group": ["a", "b"]}, index=[7, 9])
    found = frame_of_texts(frame)
    assert found.to_dict("list") == {"prompt_id": [0, 1], "group": ["a", "b"], "text": ["w3", "w4"]}
    assert frame_of_texts("w3")["text"].tolist() == ["w3"] and len(frame_of_texts("prompts")) == 120
    with pytest.raises(InputError, match="token ids were given where texts are needed"):
        frame_of_texts([[1, 2]])
