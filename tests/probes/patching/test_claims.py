"""The claim about the last token on models whose answer is known."""

from __future__ import annotations

import interp
from interp.planted import copying


def test_the_last_token_carries_its_context_behind_the_block_that_copies_it(state_of):
    behind, before = (interp.load(copying(noise_blocks=n).model) for n in (1, 0))  # half of the depth is block 1, or 0
    assert state_of(behind, "patching.last_token") == "holds"
    assert state_of(before, "patching.last_token") == "fails"
