"""Claims of Lad, Gurnee & Tegmark (2024) about deleting and swapping blocks, and the four stages of inference."""

from __future__ import annotations

from typing import Any

import pandas as pd

from interp.findings import Claim, Comparison, NotApplicable
from interp.findings.per_prompt import N_POSITIONS, N_STORIES, SHARE, STORIES, mean_of, middle, n_blocks
from interp.stats import pseudo_values
from probes import papers

_OURS = (
    "Middle blocks are those after the first quarter, without the last. The paper uses documents of the Pile; here "
    "the texts are short, and short contexts are expected to be less robust."
)


def _agreement(frame: pd.DataFrame, intervention: str, control: str = "none") -> pd.DataFrame:
    return frame[(frame["intervention"] == intervention) & (frame["control"] == control)]


def _in_middle(rows: pd.DataFrame, value: str = "top1_agrees", blocks: range | None = None) -> pd.Series:
    return mean_of(rows[rows["layer"].isin(blocks or middle(rows))], value)


def deleted(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the share of top-1 predictions kept without a middle block; the control resamples its contribution."""
    resampled = frame[frame["control"] == "resampled"]
    blocks = middle(_agreement(frame, "delete"))
    return _in_middle(_agreement(frame, "delete"), blocks=blocks), _in_middle(resampled, blocks=blocks)


def swapped(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the share kept with two middle neighbours swapped; the control deletes the first of the two."""
    blocks = middle(_agreement(frame, "delete"))
    inside = range(blocks.start, blocks.stop - 1)  # the second of the two is a middle block too
    return tuple(_in_middle(_agreement(frame, name), blocks=inside) for name in ("swap", "delete"))  # type: ignore[return-value]


def _accuracy_retained(rows: pd.DataFrame, blocks: range) -> pd.Series:
    """Return the share of the intact model's accuracy that is left, as pseudo-values per prompt.

    Raises:
        NotApplicable: the intact model predicts no next token of the texts.
    """
    known = rows[rows["layer"].isin(blocks) & (rows["pos"] > 0) & rows["target_rank"].notna()]
    right = known[["target_rank", "target_rank_intact"]].eq(0).astype(float).groupby(known["prompt_id"]).mean()
    if not right["target_rank_intact"].sum() > 0:
        raise NotApplicable("the intact model predicts no next token of these texts; pass texts that it can predict.")
    return pseudo_values(right, lambda some: some["target_rank"].mean() / some["target_rank_intact"].mean())


def deleted_accuracy(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the accuracy retained without a middle block; the control resamples its contribution."""
    rows = _agreement(frame, "delete")
    blocks = middle(rows)
    return _accuracy_retained(rows, blocks), _accuracy_retained(frame[frame["control"] == "resampled"], blocks)


def swapped_accuracy(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the accuracy retained with two middle neighbours swapped; the control deletes the first of the two."""
    blocks = middle(_agreement(frame, "delete"))
    inside = range(blocks.start, blocks.stop - 1)  # the second of the two is a middle block too
    swap, delete = (_accuracy_retained(_agreement(frame, name), inside) for name in ("swap", "delete"))
    return swap, delete


def first_deleted(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the share kept without the first block; the control deletes a middle one."""
    rows = _agreement(frame, "delete")
    return mean_of(rows[rows["layer"] == 0], "top1_agrees"), _in_middle(rows)


def last_deleted(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the KL (nats) from deleting the last block; the control deletes a middle one."""
    rows = _agreement(frame, "delete")
    return mean_of(rows[rows["layer"] == n_blocks(rows) - 1], "kl"), _in_middle(rows, "kl")


def _statistic(frame: pd.DataFrame, name: str, control: str = "none") -> pd.DataFrame:
    rows = frame[(frame["statistic"] == name) & (frame["control"] == control)]
    if rows.empty:
        raise NotApplicable(f"the architecture does not show the values that {name!r} needs; test a model that does.")
    return rows


def _mean_over(rows: pd.DataFrame, layers: range) -> pd.Series:
    return mean_of(rows[rows["layer"].isin(layers)], "value")


def entropy_change(frame: pd.DataFrame) -> pd.Series:
    """Return the lens entropy (nats) at the output minus that at half depth."""
    rows = _statistic(frame, "entropy")
    last = int(rows["layer"].max())
    return _mean_over(rows, range(last, last + 1)) - _mean_over(rows, range(last // 2, last // 2 + 1))


def last_mlp(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the norm of the last MLP's output; the control is the mean over middle blocks."""
    rows = _statistic(frame, "mlp_norm")
    last = n_blocks(rows) - 1
    return _mean_over(rows, range(last, last + 1)), _mean_over(rows, middle(rows))


def early_attention(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the first quarter's attention to the previous five tokens; the control is the second half's."""
    rows = _statistic(frame, "prev5_mass")
    n = n_blocks(rows)
    return _mean_over(rows, range(-(-n // 4))), _mean_over(rows, range(n // 2, n))


def _claim(
    id: str, statement: str, says: str, statistic: Any, bounds: tuple[float, float] | None, **comparison: Any
) -> Claim:
    return Claim(
        id=f"robustness.{id}",
        statement=statement,
        paper=papers.STAGES_OF_INFERENCE,
        says=says,
        probe="layer_robustness",
        parameters={"interventions": ("delete", "swap")},
        texts=STORIES,
        n_texts=N_STORIES,
        n_positions=N_POSITIONS,
        statistic=statistic,
        comparison=Comparison(**comparison),
        bounds=bounds,
        note=_OURS,
    )


def _stage(
    id: str, statement: str, says: str, statistic: Any, note: str, bounds: tuple[float, float] | None, **comparison: Any
) -> Claim:
    return Claim(
        id=f"stages.{id}",
        statement=statement,
        paper=papers.STAGES_OF_INFERENCE,
        says=says,
        probe="stages_of_inference",
        texts=STORIES,
        n_texts=N_STORIES,
        n_positions=N_POSITIONS,
        statistic=statistic,
        comparison=Comparison(**comparison),
        bounds=bounds,
        note=note,
    )


CLAIMS = (
    _claim(
        "delete",
        "without one middle block 72 % of top-1 predictions stay",
        "Deleting or swapping middle blocks retains 72 to 95 % of the original prediction accuracy, without any "
        "fine-tuning, in eight models. The paper's code does not compute it; this is the first reading, agreement with "
        "the intact model's top token. The paper has no control for the content of the deleted block; the control here "
        "replaces it by the same block's contribution on another text.",
        deleted,
        SHARE,
        at_least=0.72,
    ),
    _claim(
        "delete_accuracy",
        "without one middle block 72 % of the accuracy stays",
        "The same 72 to 95 %, in the second reading: the share of actual next tokens predicted, as a ratio to the "
        "intact model's. Predictions that were wrong anyway are not missed. The control replaces the deleted block by "
        "its contribution on another text.",
        deleted_accuracy,
        None,
        at_least=0.72,
    ),
    _claim(
        "swap",
        "with two middle neighbours swapped 72 % of top-1 predictions stay",
        "The same 72 to 95 % for swapping neighbouring blocks, read as agreement with the intact model's top token. "
        "The control shown here is the deletion of the first of the two.",
        swapped,
        SHARE,
        at_least=0.72,
    ),
    _claim(
        "swap_accuracy",
        "with two middle neighbours swapped 72 % of the accuracy stays",
        "The same 72 to 95 % for swapping neighbouring blocks, read as the share of actual next tokens predicted, as a "
        "ratio to the intact model's. The control shown here is the deletion of the first of the two.",
        swapped_accuracy,
        None,
        at_least=0.72,
    ),
    _claim(
        "swap_is_milder",
        "swapping two middle neighbours costs less than deleting one",
        "Models tolerate the swap of neighbouring blocks better than the loss of one. The paper takes this as a sign "
        "that a block's function does not depend on its exact place. The control is the deletion of the same block.",
        swapped,
        SHARE,
        above="control",
    ),
    _claim(
        "first_block",
        "losing the first block costs more predictions than losing a middle one",
        "Damage concentrates at both ends: the first block turns tokens into the features that all others read, and "
        "the model fails without it. The control is the mean over middle blocks.",
        first_deleted,
        SHARE,
        below="control",
    ),
    _claim(
        "last_block",
        "losing the last block costs more KL than losing a middle one",
        "Damage rises again in the last blocks, which sharpen the distribution by suppressing wrong candidates. The "
        "control is the mean over middle blocks.",
        last_deleted,
        None,
        above="control",
    ),
    _stage(
        "entropy_falls",
        "the lens' entropy falls in the second half of the depth",
        "Prediction ensembling: from about the middle on, next-token predictions appear in the stream and the entropy "
        "of the lens falls. The paper compares layers with each other and has no other control.",
        entropy_change,
        "The lens uses the final norm and the unembedding with its bias, which the paper's code leaves out.",
        None,
        below=0.0,
    ),
    _stage(
        "last_mlp",
        "the last MLP writes more than the middle ones",
        "Residual sharpening: the norm of MLP outputs grows steeply in the last layers, where suppression neurons are "
        "found. The control is the mean over middle blocks.",
        last_mlp,
        "The last block represents the last layers.",
        None,
        above="control",
    ),
    _stage(
        "early_attention",
        "the first blocks look at the previous five tokens more than the later half does",
        "Detokenization: attention is local in the first few layers and less so from there on. The control is the "
        "second half of the blocks; the first token is not a key here, but it is one in the paper's code.",
        early_attention,
        "This is the share of attention, not the mean entry of the pattern: that is a fifth of it if all is local.",
        SHARE,
        above="control",
    ),
)
