"""How sure is the model of its next token? A probe in under twenty lines, and a claim about what it measures."""

from interp.authoring import Run, Schema, columns, probe, select_positions
from interp.findings import Claim, Comparison

AT = ("model", "run_id", "prompt_id", "pos", "token_id", "token", "prob")
SURENESS = Schema("sureness", "an example", "one per prompt and position", columns(*AT), summary_of=("prob",))


@probe(SURENESS)
def sureness(subject, texts):
    """Measure how probable the most probable next token is, at every position."""
    run = Run(SURENESS, subject, texts, parameters={})
    parts = []
    for batch in run.batches():
        row, pos = select_positions(batch, None)
        logits = run.subject.run(batch.ids, lambda tape: tape.head(tape.last))  # [batch, pos, d_vocab]
        prob = logits.float().softmax(dim=-1).amax(dim=-1)[row, pos]
        parts.append(run.token_columns(batch, row, pos) | {"prob": prob.double().numpy()})
    return run.frame(parts)


SURE = Claim(
    id="example.sure",
    statement="the next token is guessed with more than 5 % probability",
    paper=SURENESS.paper,
    says="Nothing: it shows how a claim is declared beside its probe.",
    probe="sureness",
    statistic=lambda frame: frame[frame["pos"] > 0].groupby("prompt_id")["prob"].mean(),
    comparison=Comparison(above=0.05),
    bounds=(0, 1),
    texts="prompts",
)
