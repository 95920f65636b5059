"""Give texts cut otherwise to any probe: the control of every finding about words."""

from __future__ import annotations

import pandas as pd

from interp.authoring import InputError, Source, Texts, checked, load
from interp.tokenization import Pieces, lattice_of
from probes.tokenization._prompts import read_prompts
from probes.tokenization.recutting._variants import RANDOM_TOKEN, check_schemes, drawn, keys_of, random_tokens


@checked
def retokenised(
    subject: Source,
    texts: Texts,
    *,
    scheme: str = "stochastic",
    p: float = 0.1,
    number: int = 0,
    control: bool = False,
    seed: int = 0,
    bos: bool | None = None,
    truncate: bool = False,
) -> pd.DataFrame:
    """Return the same texts in other tokens, as token ids that every probe reads.

    A finding about words must hold for these too: one that does not is about tokens. The draws are those of
    `retokenisation` with the same seed.

    Args:
        subject: anything `interp.load` takes, with a tokenizer.
        texts: anything `Subject.tokens` takes. Special tokens are left whole, and what follows the last is cut.
        scheme: how to cut; see `retokenisation`.
        p: see there.
        number: of the draw, from 0.
        control: give random tokens at the places that would be cut otherwise, in place of that.
        seed: of the draws.
        bos: see `Subject.tokens`.
        truncate: cut texts longer than the context instead of refusing them, before they are cut otherwise.

    Returns:
        One row per prompt: `prompt_id`, the columns of your frame, `input_ids`, `n_changed` (how many tokens were) and
        `scheme`. Pass it to a probe as texts; its frame's rows can be compared with those of the texts themselves by
        `prompt_id`.

    Raises:
        InputError: the scheme cannot be used, no token of a text can be cut, the tokenizer loses a byte of a text, or
            the model came without one.

    >>> from probes import logit_lens
    >>> texts = ["Once upon a time there was a little girl"]
    >>> cut = retokenised("reference", texts, scheme="split_last")
    >>> for given in (texts, cut):
    ...     frame = logit_lens("reference", given, positions=-1, targets="argmax")
    ...     print(repr(frame["target"].iloc[-1]), round(float(frame["top1_prob"].iloc[-1]), 2))
    ' named' 0.47
    '.' 0.45
    """
    check_schemes([scheme], p)
    if number < 0:
        raise InputError(f"number={number}: give 0 or more.")
    subject = load(subject)
    tokens = subject.tokens(texts, bos=bos, truncate=truncate)
    pieces = Pieces(lattice_of(subject))
    prompts = read_prompts(tokens, pieces.lattice, texts)
    ids, n_changed = [], []
    for prompt, key in zip(prompts, keys_of(prompts, seed), strict=True):
        variant = drawn(pieces, prompt, scheme, key, number, p)
        places, others = random_tokens(pieces, prompt, variant, key, number)
        ids.append([*prompt.before, *(others if control else variant.ids)])
        n_changed.append(len(places))
    name = f"{scheme}, {RANDOM_TOKEN}" if control else scheme
    return tokens.table.assign(input_ids=ids, n_changed=n_changed, scheme=name)
