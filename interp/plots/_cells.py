"""What figures of single prompts share: picking the prompt, and tokens in few characters."""

from __future__ import annotations

import pandas as pd

from interp.errors import InputError
from interp.plots._style import require_one


def one_prompt(frame: pd.DataFrame, prompt_id: int | None) -> pd.DataFrame:
    """The rows of one prompt, by default the first, of a frame of one model."""
    require_one(frame, "model")
    chosen = frame["prompt_id"].iat[0] if prompt_id is None else prompt_id
    one = frame[frame["prompt_id"] == chosen]
    if one.empty:
        raise InputError(f"prompt {chosen} is not in the frame; it holds {frame['prompt_id'].unique().tolist()[:10]}.")
    return one


def legible(token: str, width: int = 9) -> str:
    """A token in a few characters: what cannot be printed spelled out, `$` kept from starting a formula."""
    text = token if token.isprintable() else repr(token)[1:-1]
    text = text if len(text) <= width else text[: width - 1] + "…"
    return text.replace("$", r"\$")
