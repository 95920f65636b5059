"""Write the matrix of findings, of all models whose findings are kept: `make readme`.

`docs/findings/MODEL.csv` is kept as `interp findings --model MODEL --out docs/findings/MODEL.csv` wrote it. A claim
that was not run on a model has no row there, and the page says so.
"""

from __future__ import annotations

import pandas as pd
from readme_table import ROOT, between

import interp.findings
from interp.display.text import short_citation
from interp.display.verdicts import decided_by, deciding_interval

KEPT = ROOT / "docs" / "findings"
PAGE = ROOT / "docs" / "pages" / "models.md"
MODELS = {
    "reference": "reference",
    "smollm2": "SmolLM2-135M-Instruct",
    "gemma3-270m": "Gemma 3 270M",
}
"""The models of the page in its order: the name of each file, and what the page calls the model."""
TELLING = (
    "robustness.delete",
    "robustness.swap_is_milder",
    "lens.late_agreement",
    "characters.level",
    "law.line_needs_ids",
    "bigrams.beyond_linear_map",
)
"""The claims of README.md."""
QUESTIONS = {
    "Do 72 to 95 % of the predictions stay without a middle block, or with two of them swapped?": (
        "So Lad, Gurnee & Tegmark (2024) of GPT-2, Pythia and others. Their code does not compute it, and it can be "
        "read in two ways: the intact model's top token stays the top token, or the accuracy stays what it was.",
        ("robustness.delete", "robustness.delete_accuracy", "robustness.swap", "robustness.swap_accuracy"),
    ),
    "Can letters be told from a token's vector to a macro-F1 of 0.84?": (
        "So Kaushal & Mahowald (2022) of GPT-2, with a network where a closed-form fit is used here.",
        ("characters.level", "characters.beyond_length"),
    ),
    "Are there four stages of inference?": (
        "Lad, Gurnee & Tegmark (2024) see them in GPT-2 and Pythia: pieces of words are joined, features are built, "
        "predictions gather while the entropy falls, and the last blocks sharpen them. Each sign is a claim.",
        (
            "stages.early_attention", "heads.subjoiners", "stages.entropy_falls", "stages.last_mlp",
            "neurons.prediction",
        ),
    ),
}  # fmt: skip
"""The papers' reports of models of this size: each question, who answered it how, and the claims that test it."""
BEGIN, END = "<!-- findings: written by `make readme` -->\n", "<!-- until here: findings -->\n"
NOT_RUN = "not run"


def kept() -> dict[str, pd.DataFrame]:
    """Return the findings of each model of the page that are kept, by claim."""
    files = {label: KEPT / f"{name}.csv" for name, label in MODELS.items()}
    return {label: pd.read_csv(file).set_index("claim") for label, file in files.items() if file.is_file()}


def matrix(found: dict[str, pd.DataFrame], claims: tuple[str, ...] | None = None, *, short: bool = False) -> str:
    """Return a row for each claim, with its verdict on each model and what decided it; `short`, only the interval."""
    rows = [f"| claim | {' | '.join(found)} |", "|---|" + "---|" * len(found)]
    for id in interp.findings.names() if claims is None else claims:
        claim = interp.findings.get(id)
        cells = [_cell(frame, id, short) for frame in found.values()]
        rows.append(f"| {claim.statement} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def answers(found: dict[str, pd.DataFrame]) -> str:
    """Return for each question of `QUESTIONS` the verdicts of its claims on every model where they were tested."""
    parts = []
    for question, (said, claims) in QUESTIONS.items():
        lines = []
        for id in claims:
            tested = {label: frame.loc[id] for label, frame in found.items() if id in frame.index}
            verdicts = [
                f"{label} **{row['state']}**{f' ({by})' if (by := decided_by(row)) else ''}"
                for label, row in tested.items()
            ]
            lines.append(f"- {interp.findings.get(id).statement}: {', '.join(verdicts) or NOT_RUN}")
        parts.append(f"**{question}** {said}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def reasons(found: dict[str, pd.DataFrame]) -> str:
    """Return for each model the reasons of its verdicts, claims with the same reason together."""
    parts = []
    for label, frame in found.items():
        said = frame[frame["reason"].notna()]
        lines = [
            f"- *{state}*, {', '.join(f'`{id}`' for id in rows.index)}: {_plain(reason)}"
            for (state, reason), rows in said.groupby(["state", "reason"], sort=False)
        ]
        missing = [id for id in interp.findings.names() if id not in frame.index]
        if missing:
            lines.append(f"- *{NOT_RUN} yet*: {', '.join(f'`{id}`' for id in missing)}")
        parts.append(f"### {label}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def names() -> str:
    """Return a row for each claim: its id, its statement, its paper, and the texts that it reads."""
    rows = ["| id | claim | reads | paper |", "|---|---|---|---|"]
    for id in interp.findings.names():
        claim = interp.findings.get(id)
        rows.append(f"| `{id}` | {claim.statement} | {_reads(claim)} | {short_citation(claim.paper)} |")
    return "\n".join(rows) + "\n"


def updated(text: str, table: str) -> str:
    """Return a text with the table between its two marks made again."""
    return between(text, BEGIN, END, table, "the page")


def page(text: str) -> str:
    """Return the page with its tables made again."""
    found = kept()
    parts = (
        f"## What the papers report of models of this size\n\n{answers(found)}",
        f"## All claims\n\n{matrix(found)}",
        f"## Reasons\n\n{reasons(found)}",
        f"## The claims\n\n{names()}",
    )
    return updated(text, "\n".join(parts))


def readme(text: str) -> str:
    """Return README.md with the claims that say most made again, for the models on which any of them was tested."""
    tested = {label: frame for label, frame in kept().items() if frame.index.isin(TELLING).any()}
    return updated(text, matrix(tested, TELLING, short=True))


def _reads(claim: interp.findings.Claim) -> str:
    if claim.texts is None:
        return "weights"
    n = "all" if claim.n_texts is None else str(claim.n_texts)
    each = "" if claim.n_positions is None else f" of up to {claim.n_positions} tokens"
    if claim.n_tokens_per_dim is not None:
        return f"{claim.texts}, {claim.n_tokens_per_dim} tokens for each dimension of the model"
    return f"{n} {claim.texts}{each}"


def _cell(frame: pd.DataFrame, id: str, short: bool) -> str:
    if id not in frame.index:
        return NOT_RUN
    row = frame.loc[id]
    state = f"**{row['state']}**" if row["state"] in ("holds", "fails") else str(row["state"])
    if pd.isna(row["effect"]):
        return state
    if short:
        return f"{state}: {deciding_interval(row)}"
    return f"{state}: {decided_by(row)}, {row['n']} {row['unit']}"


def _plain(reason: str) -> str:
    """Return a reason that Markdown shows as it is."""
    return reason.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*").replace("_", r"\_")


def main() -> None:
    """Rewrite the page and README.md in place."""
    for path, made in ((PAGE, page), (ROOT / "README.md", readme)):
        path.write_text(made(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
