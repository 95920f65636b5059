"""Arguments of a block for several variants of a batch: what holds something for each prompt is told by two batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from interp.errors import ModelError
from interp.model.backends.arguments import Unrepeatable, growth, repeated, require_unchanged, sizes, tensors

HEADS, LENGTH = 4, 5


def arguments(batch: int) -> tuple[Any, ...]:
    """One of each kind, with the content of its prompt where it has one: the mask of prompt b is full of b."""
    prompts = torch.arange(float(batch))
    return (
        (torch.full((HEADS, 1, LENGTH), -1.0), None, 3),  # MPT's position biases
        {
            "mask": prompts.view(-1, 1, 1, 1).expand(-1, 1, LENGTH, LENGTH),
            "biases": prompts.repeat_interleave(HEADS).view(-1, 1, 1).expand(-1, 1, LENGTH),  # BLOOM's
            "positions": prompts.view(1, -1, 1).expand(3, -1, LENGTH),
            "rotary": (torch.ones(1, LENGTH, 2), torch.ones(LENGTH, 2)),
            "dtype": torch.float32,
        },
    )


def learned(value: Any = arguments) -> Any:
    return growth(sizes(value(1)), sizes(value(2)), (1, 2))


@pytest.mark.parametrize("batch", [1, 2, 3, HEADS, 2 * HEADS])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_variants_of_a_batch_have_what_each_has_alone(batch: int, times: int) -> None:
    # Whatever the batch, also one that is as large as the number of heads or as a text is long.
    (biases, none, three), named = repeated(arguments(batch), batch, times, learned())
    alone = arguments(batch)
    assert torch.equal(biases, alone[0][0]) and none is None and three == 3
    for name, axis in (("mask", 0), ("biases", 0), ("positions", 1)):
        assert torch.equal(named[name], torch.cat([alone[1][name]] * times, dim=axis))
    assert [tuple(one.shape) for one in named["rotary"]] == [(1, LENGTH, 2), (LENGTH, 2)]
    assert isinstance(named["rotary"], tuple) and named["dtype"] is torch.float32


def test_a_mask_that_shorter_texts_do_without_is_repeated() -> None:
    none = growth(sizes(((), {"mask": None})), sizes(((), {"mask": None})), (1, 2))
    mask = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, LENGTH, LENGTH)
    (_, named) = repeated(((), {"mask": mask}), 3, 2, none)
    assert torch.equal(named["mask"], torch.cat([mask, mask]))
    (_, named) = repeated(((), {"mask": mask[:1]}), 3, 2, none)
    assert len(named["mask"]) == 1


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (
            torch.ones(2, LENGTH),
            r"argument \(extra\) that is a tensor \[2, 5\]",
        ),  # it was not there when this was learned
        (torch.ones(7, 1, 2, 2), r"argument \(extra\) that is a tensor \[7, 1, 2, 2\]"),
        ({1, 2}, r"argument \(extra\) that is a set"),
    ],
)
def test_what_is_not_known_is_refused(value: Any, says: str) -> None:
    with pytest.raises(Unrepeatable, match=says) as caught:
        repeated(((), {"extra": value}), 2, 2, learned())
    assert isinstance(caught.value, ModelError)


def test_what_grows_in_another_way_is_refused() -> None:
    def square(batch: int) -> tuple[Any, ...]:
        return (torch.ones(batch * batch, LENGTH),), {}

    with pytest.raises(Unrepeatable):
        repeated(square(2), 2, 2, learned(square))


def test_a_block_that_writes_to_its_arguments_is_refused() -> None:
    store: dict[str, Tensor] = {"keys": torch.ones(1)}
    call = ((), {"shared": store})
    before = tensors(call)
    require_unchanged(before, tensors(call))
    store["keys"] = torch.ones(1)
    with pytest.raises(Unrepeatable, match=r"hand something on to later ones beside the residual \(shared.keys\)"):
        require_unchanged(before, tensors(call))
