"""Claims about patches: when the last token carries the answer, and how well a gradient foretells a patch."""

from __future__ import annotations

import pandas as pd

from interp.authoring import Subject, Tokens
from interp.findings import Claim, Comparison
from interp.findings.per_prompt import CORRELATION, STORIES, rank_correlation
from probes import papers
from probes.patching._frames import compared
from probes.patching.attribution_patch import attribution_patch
from probes.patching.patch import patch

_N_STORIES, _N_TOKENS = 24, 24


def last_tokens(subject: Subject, texts: Tokens, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Put the last token's residual into another story, where it enters the first block and at half of the depth."""
    layers = sorted({0, subject.n_layers // 2})
    return patch(
        subject, texts, None, sites="resid_pre", layers=layers, positions=-1, corruption="resample", controls=(),
        seed=seed, truncate=truncate,
    )  # fmt: skip


def estimates(subject: Subject, texts: Tokens, *, seed: int, truncate: bool) -> pd.DataFrame:
    """Estimate what each place of one story does in another, and patch one place in ten exactly."""
    return attribution_patch(subject, texts, None, corruption="resample", exact=0.1, seed=seed, truncate=truncate)


def carried(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return what is recovered at half of the depth, and by the token itself."""
    rows = frame.set_index("prompt_id")
    half = rows["layer"] == rows["layer"].max()
    return rows.loc[half, "recovered"].astype(float), rows.loc[rows["layer"] == 0, "recovered"].astype(float)


def ranked(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the rank correlation with the effect of the path's estimate, and of the single gradient's."""
    rows = compared(frame)
    rows = rows[rows["control"] == "none"]
    path, gradient = (
        rank_correlation(rows[rows["method"] == method], "estimate", "effect") for method in ("path", "gradient")
    )
    return path, gradient


_NOTE = (
    f"The first {_N_TOKENS} tokens of {_N_STORIES} stories; the corrupt run of each is another story. The metric is "
    "the logit of the clean run's next token minus that of the corrupt run's. "
)

CLAIMS = (
    Claim(
        id="patching.last_token",
        statement="by half of the depth the last token carries more of what comes next than it is itself",
        paper=papers.PATCHING,
        says="Restoring the state of the last token brings a fact back in later layers, that of the subject's last "
        "token in early ones. The control is the residual of that token where it enters the first block: itself alone.",
        probe="patch",
        measure=last_tokens,
        texts=STORIES,
        n_texts=_N_STORIES,
        n_positions=_N_TOKENS,
        statistic=carried,
        comparison=Comparison(above="control"),
        note=_NOTE + "The paper restores facts after noise on their subject; here whole contexts differ.",
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
        note=_NOTE + "The paper compares circuits of edges; here single places are ranked, one in ten patched.",
    ),
)
