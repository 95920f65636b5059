"""Claims about patches: what carries an answer, how induction comes about, how well a gradient foretells a patch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import Subject, Tokens, content_keys, donor_prompts
from interp.findings import Claim, Comparison, NotApplicable
from interp.findings.per_prompt import CORRELATION, STORIES, rank_correlation
from probes import papers
from probes.patching._frames import compared
from probes.patching.attribution_patch import attribution_patch
from probes.patching.patch import patch

_N_STORIES, _N_TOKENS = 24, 24
_N_REPEATING, _N_REPEATED = 16, 16  # prompts that begin to repeat, and different tokens of each


def _pairs(texts: Tokens, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return texts of two tokens or more, and another text as long beside each.

    Raises:
        NotApplicable: there are fewer than two.
    """
    donors = donor_prompts(texts.ids, seed).tolist() if len(texts) > 1 else list[int]()
    pairs = [(ids, texts.ids[donor]) for ids, donor in zip(texts.ids, donors, strict=False)]
    usable = [(ids, other[: len(ids)]) for ids, other in pairs if len(other) >= len(ids) > 1]
    if len(usable) < 2:
        raise NotApplicable("fewer than two texts have another one as long; test it on texts of equal length.")
    return [ids for ids, _ in usable], [other for _, other in usable]


def last_tokens(subject: Subject, texts: Tokens, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Put the last token's residual at half of the depth into another story that ends in the same token."""
    clean, others = _pairs(texts, seed)
    corrupt = [torch.cat([other[:-1], ids[-1:]]) for ids, other in zip(clean, others, strict=True)]
    return patch(
        subject, clean, corrupt, sites="resid_pre", layers=subject.n_layers // 2, positions=-1, metric="kl",
        controls=("other",), seed=seed, truncate=truncate,
    )  # fmt: skip


def estimates(subject: Subject, texts: Tokens, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Estimate what each place does of one token's exchange in the middle, and patch one place in five exactly."""
    clean, others = _pairs(texts, seed)
    corrupt = [
        torch.cat([ids[:half], other[half : half + 1], ids[half + 1 :]])
        for ids, other in zip(clean, others, strict=True)
        for half in [len(ids) // 2]
    ]
    return attribution_patch(subject, clean, corrupt, exact=0.2, seed=seed, truncate=truncate)


def repeats(subject: Subject, texts: Tokens, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Restore the attention of one block at a time where a story's tokens, in random order, begin to repeat.

    A prompt is `.. A B .. A`, which asks for B; in its corrupt run another token of the story stands in the place of
    the first A. Positions are those of B, the one after it, and the last.
    """
    distinct = [torch.unique(ids[1:][ids[1:] != ids[0]]) for ids in texts.ids]
    n = min(_N_REPEATED, *(len(one) - 1 for one in distinct))
    if n < 3 or len(distinct) < 2:
        raise NotApplicable("it needs two texts or more of at least four different tokens each after the first one.")
    clean, corrupt, target = [], [], []
    for ids, own, key in zip(texts.ids, distinct, content_keys(texts.ids, seed), strict=True):
        draw = np.random.default_rng(int(key))
        words = own[draw.permutation(len(own))[: n + 1]]
        at = int(draw.integers(n - 2))
        once, again = torch.cat([ids[:1], words[:n]]), words[: at + 1]
        other = once.clone()
        other[at + 1] = words[n]
        clean.append(torch.cat([once, again]))
        corrupt.append(torch.cat([other, again]))
        target.append(int(words[at + 1]))
    return patch(
        subject, clean, corrupt, sites="attn_out", positions=(-n, 1 - n, -1), metric="log_prob", target=target,
        controls=(), seed=seed, truncate=truncate,
    )  # fmt: skip


def carried(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the divergence from the clean run that the patch leaves, and half of that of the corrupt run."""
    rows = frame[frame["control"] == "none"].set_index("prompt_id")
    return -rows["value"], -rows["value_corrupt"] / 2


def ranked(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the rank correlation with the effect of the path's estimate, and of the single gradient's."""
    rows = compared(frame)
    rows = rows[rows["control"] == "none"]
    path, gradient = (
        rank_correlation(rows[rows["method"] == method], "estimate", "effect") for method in ("path", "gradient")
    )
    return path, gradient


def _of_places(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Return effects by prompt and block, at B, behind it, and at the last position of `repeats`."""
    places = sorted(frame["to_end"].unique(), reverse=True)
    return [frame[frame["to_end"] == one].pivot(index="prompt_id", columns="layer", values="effect") for one in places]


def written(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return what the attention of all blocks restores at the token behind the first A, and one token further."""
    behind, further, _ = _of_places(frame)
    return behind.sum(axis=1), further.sum(axis=1)


def order(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the mean block, weighted by what it restores, at the token behind the first A and at the last one.

    Raises:
        NotApplicable: the model does not go on with what repeats.
    """
    gain = float((frame["value_clean"] - frame["value_corrupt"]).mean())
    if gain < math.log(2):
        raise NotApplicable(f"a repeat makes what followed {math.exp(gain):.2f} times as probable, and 2 is needed.")
    behind, _, last = (one.clip(lower=0.0) for one in _of_places(frame))
    first, then = ((one * one.columns.to_numpy()).sum(axis=1) / one.sum(axis=1) for one in (behind, last))
    return first, then


_NOTE = f"The first {_N_TOKENS} tokens of {_N_STORIES} stories; "


def _induction(id: str, statement: str, says: str, statistic: Any, unit_note: str, **comparison: Any) -> Claim:
    return Claim(
        id=f"induction.{id}",
        statement=statement,
        paper=papers.INDUCTION_HEADS,
        says=says,
        probe="patch",
        measure=repeats,
        texts=STORIES,
        n_texts=_N_REPEATING,
        n_positions=2 * _N_TOKENS,
        statistic=statistic,
        comparison=Comparison(**comparison),
        note=f"Prompts `.. A B .. A` of {_N_REPEATED} different tokens of a story in random order, which begin to "
        f"repeat; in the corrupt run the first A is another token. {unit_note}",
    )


CLAIMS = (
    _induction(
        "previous_token",
        "what induction reads is written by attention at the token behind it, not further on",
        "An induction head finds the token that followed because a head of an earlier block wrote there which token "
        "stood before. The paper shows it by heads' patterns and ablations; here one block's attention is restored at "
        "a time. The control is the same at the next position, which has read the same tokens.",
        written,
        "The effect is log P(B) in nats, added over blocks that are restored one at a time.",
        above="control",
    ),
    _induction(
        "order",
        "previous-token attention precedes induction: what it restores lies in earlier blocks",
        "Previous-token heads come in an earlier block than the induction heads that read what they wrote. The "
        "paper sees it in small models. The control is the attention at the last position, where induction acts, "
        "restored block by block in the same prompts.",
        order,
        "The effect is the mean block, weighted by the nats of log P(B) that it restores. Attention behind the "
        "induction heads restores some too, which makes the last position's blocks later.",
        below="control",
    ),
    Claim(
        id="patching.last_token",
        statement="by half of the depth the last token carries most of what its context says of the next one",
        paper=papers.PATCHING,
        says="Restoring the state of the last token brings a fact back in later layers, that of the subject's last "
        "token in early ones. The control is the corrupt run: the patch has to undo half of its divergence.",
        probe="patch",
        measure=last_tokens,
        texts=STORIES,
        n_texts=_N_STORIES,
        n_positions=_N_TOKENS,
        statistic=carried,
        comparison=Comparison(below="control"),
        note=_NOTE + "the corrupt run is of another one that ends in the same token. The paper restores facts after "
        "noise on their subject; here whole contexts differ. The effect is KL(clean || patched) in nats, the control "
        "half of KL(clean || corrupt).",
    ),
    Claim(
        id="patching.path",
        statement="gradients along the path between two runs rank patches better than the gradient in one",
        paper=papers.ATTRIBUTION_PATCHING,
        says="Integrating gradients along the way from corrupt to clean embeddings finds more faithful circuits than "
        "the gradient at the corrupt ones. The control is that gradient, on the same places, against exact patches.",
        probe="attribution_patch",
        measure=estimates,
        texts=STORIES,
        n_texts=_N_STORIES,
        n_positions=_N_TOKENS,
        statistic=ranked,
        comparison=Comparison(above="control"),
        bounds=CORRELATION,
        note=_NOTE
        + "in the corrupt run their middle token is another one's. The paper compares circuits of edges; here "
        "single places are ranked, and one in five is patched. Where whole contexts differ, the path is no better.",
    ),
)
