"""Claims about patches: when the last token carries the answer, and how well a gradient foretells a patch."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from interp.authoring import Subject, Tokens, donor_prompts
from interp.findings import Claim, Comparison, NotApplicable
from interp.findings.per_prompt import CORRELATION, STORIES, rank_correlation
from probes import papers
from probes.patching._frames import compared
from probes.patching.attribution_patch import attribution_patch
from probes.patching.patch import patch

_N_STORIES, _N_TOKENS = 24, 24


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


_NOTE = f"The first {_N_TOKENS} tokens of {_N_STORIES} stories; "

CLAIMS = (
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
