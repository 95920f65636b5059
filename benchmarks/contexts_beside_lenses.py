"""Print, layer by layer, what the nearest context, the logit lens and the tuned lens name of the same states.

    python benchmarks/contexts_beside_lenses.py [--model reference] [--bank 120] [--asked 40] [--layers 0 2 4]

A bank of the first shipped stories is asked for the beginnings of the last ones. Shares of the states whose own token,
and whose next one, is named, with 95 % intervals over prompts; "elsewhere" is another occurrence of the neighbour's own
token, "added" what the neighbour shares beyond it, prompt by prompt. The tuned lens is the shipped one of the shipped
model; for another one it is trained on a hundred other stories as for the claims about it, which takes five minutes for
SmolLM2. The first position is left out.
"""

from __future__ import annotations

import argparse
import warnings

import pandas as pd

import interp
from interp.stats import bootstrap_over_prompts
from probes import StateBank, nearest_contexts
from probes.lens.claims import tuned_and_logit

BEGINNING = 160  # characters of a story that asks
AT = ["prompt_id", "pos", "layer"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="reference")
    parser.add_argument("--bank", type=int, default=120, help="stories in the bank")
    parser.add_argument("--asked", type=int, default=40, help="stories whose beginnings are asked")
    parser.add_argument("--layers", type=int, nargs="+", help="of the residual stream; by default every fourth part")
    arguments = parser.parse_args()

    warnings.simplefilter("ignore", interp.errors.WithoutTemplate)
    subject = interp.load(arguments.model)
    layers = arguments.layers or sorted({subject.n_layers * part // 4 for part in range(5)})
    stories = interp.dataset("stories")[["prompt_id", "text"]]
    bank = StateBank.of(subject, stories.head(arguments.bank), layers=layers, skip=1, truncate=True)
    asked = stories.tail(arguments.asked).assign(text=lambda table: table["text"].str[:BEGINNING].str.rstrip())
    print(table(subject, bank, asked))


def table(subject: interp.Subject, bank: StateBank, asked: pd.DataFrame) -> str:
    """Return the table in Markdown."""
    found = nearest_contexts(subject, asked, bank=bank, k=1)
    near, elsewhere = (found[found["control"] == one].set_index(AT) for one in ("none", "same_token"))
    lenses = tuned_and_logit(subject, asked, seed=0, truncate=True)
    named = lenses.set_index(["lens", *AT])["top1_id"]
    following = near["token_id"].groupby(["prompt_id", "layer"]).shift(-1)
    shares = {"own: nearest": near["same_token"], "next: nearest": near["same_next"]}
    shares |= {"elsewhere": elsewhere["same_next"], "added": near["same_next"] - elsewhere["same_next"]}
    for lens in ("logit", "tuned"):
        of = named.loc[lens].reindex(near.index)
        shares[f"own: {lens}"] = (of == near["token_id"]).astype(float)
        shares[f"next: {lens}"] = (of == following).astype(float).where(following.notna())
    rows = pd.DataFrame({name: of.astype(float) for name, of in shares.items()}).reset_index()
    order = ["own: nearest", "own: logit", "own: tuned"]
    order += ["next: nearest", "elsewhere", "added", "next: logit", "next: tuned"]
    means = bootstrap_over_prompts(rows[rows["pos"] > 0], ["layer"], order)
    cells = [[str(int(row["layer"])), *(interval(row, name) for name in order)] for _, row in means.iterrows()]
    lines = [["layer", *order], ["---"] * (1 + len(order)), *cells]
    head = f"{subject.name}: {bank!r}, {len(asked)} beginnings, {len(near) // len(bank.layers)} states"
    return "\n".join([head, *("| " + " | ".join(line) + " |" for line in lines)])


def interval(row: pd.Series, name: str) -> str:
    """Return a share and its interval, or the share alone where all prompts agree."""
    mean, low, high = (f"{row[one]:.2f}".replace("0.", ".") for one in (name, f"{name}_low", f"{name}_high"))
    return mean if pd.isna(row[f"{name}_low"]) else f"{mean} ({low}–{high})"


if __name__ == "__main__":
    main()
