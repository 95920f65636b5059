"""Run the law of next-token prediction and the microscope on the same forward passes."""

from __future__ import annotations

import pandas as pd

from interp.authoring import Source, Texts, checked, collect, load
from probes.geometry._law_sums import LawSettings, law_sums
from probes.geometry.microscope import MicroscopeSettings, microscope_run, microscope_sums
from probes.geometry.next_token_law import law_run


@checked
def law_and_microscope(
    subject: Source, texts: Texts, *, seed: int = 0, truncate: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the frames of `next_token_law` and `microscope` from one forward pass, equal to those of each probe alone.

    Args:
        subject: anything `interp.load` takes.
        texts: anything `Subject.tokens` takes.
        seed: of both probes.
        truncate: cut texts longer than the context instead of refusing them.

    Raises:
        InputError: there are too few tokens or prompts.
    """
    loaded = load(subject)
    law = law_run(loaded, texts, LawSettings(), seed=seed, truncate=truncate)
    layers = microscope_run(loaded, law.tokens, MicroscopeSettings(), seed=seed, truncate=truncate)
    streams = law_sums(law), microscope_sums(layers)
    collect(law, streams)
    return law.frame(streams[0].rows()), layers.frame(streams[1].rows())
