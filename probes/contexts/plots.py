"""Figures of states in their contexts: the word of the nearest context at every layer and position."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.display.plotting import Canvas, figure, legible_on, one_prompt, require_one, token_label

_PER_LINE, _MOST = 12, 96  # positions


@figure
def nearest_contexts(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw layers x positions of one prompt, wrapped like text: the nearest context's word, its z as the colour."""
    from matplotlib.colors import Normalize

    one = one_prompt(frame[(frame["control"] == "none") & (frame["rank_neighbour"] == 0)])
    require_one(one, "run_id")
    z = one.pivot(index="layer", columns="pos", values="z")
    words = one.pivot(index="layer", columns="pos", values="neighbour")
    inputs = one.drop_duplicates("pos").set_index("pos")["token"]
    shown = z.columns[:_MOST].tolist()
    n_lines = canvas.offered or -(-len(shown) // _PER_LINE)
    per_line = -(-len(shown) // n_lines)
    lines = [shown[start : start + per_line] for start in range(0, len(shown), per_line)]
    size = max(4.6, 1.9 + 0.51 * per_line), 0.8 + len(lines) * (0.55 + 0.3 * len(z))
    panels = canvas.grid(len(lines), 1, size)[:, 0]
    norm = Normalize(0, max(1.0, float(z[shown].max(axis=None))))
    for axes, line in zip(panels, lines, strict=True):
        image = axes.imshow(z[line], cmap="viridis", norm=norm, aspect="auto", origin="lower")
        for (y, x), word in np.ndenumerate(words[line].to_numpy()):
            ink = legible_on(image.cmap(norm(z[line].iat[y, x])))
            axes.text(x, y, token_label(str(word)), ha="center", va="center", fontsize=8, color=ink, clip_on=True)
        axes.set_xlim(-0.5, per_line - 0.5)
        axes.spines[:].set_visible(False)
        labels = [token_label(text) for text in inputs[line]]
        axes.set_xticks(range(len(line)), labels, fontsize=7.5, rotation=30, ha="right")
        axes.set_yticks(range(len(z)), [str(layer) for layer in z.index], fontsize=8)
    panels[-1].set_xlabel("input token", fontsize=9)
    panels[len(panels) // 2].set_ylabel("layer", fontsize=9)
    canvas.title(f"token of the nearest context, prompt {one['prompt_id'].iat[0]}")
    canvas.colour_bar(image, "z of the cosine", fraction=0.04, pad=0.01, aspect=30)
    canvas.caption(
        "z: standard deviations above the cosine of random states; one prompt: no interval",
        f"the first {len(shown)} of {z.shape[1]} positions" if len(shown) < z.shape[1] else "",
    )
