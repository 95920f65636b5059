"""Cut the same text into other tokens, and measure what changes: states, the next token, the loss.

Tokenizers write one of very many token sequences that spell a text (StochasTok, Sims et al. 2025, trains on others). A
model that answered to the text alone would not tell them apart. The control puts random tokens at the very places that
were cut otherwise: a real change of the text, as near to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import (
    VOCABULARY,
    Column,
    InputError,
    Layers,
    Run,
    Schema,
    Source,
    Texts,
    Usable,
    columns,
    layers_of,
    load,
    means_per_prompt,
    probe,
    say_cost,
    summarise_by_prompt,
    usable_facts,
    usable_tokens,
    warn,
)
from interp.stats import bootstrap_over_prompts
from interp.tokenization import Pieces, lattice_of
from probes import papers
from probes.tokenization._prompts import read_prompts
from probes.tokenization.recutting import plots
from probes.tokenization.recutting._comparison import STATES_PER_LAYER, Compared, compared
from probes.tokenization.recutting._variants import RANDOM_TOKEN, check_schemes, keys_of, laid_out

VARIANT = Column("variant", "int", "number of the draw", low=0)
CUT_BY = Column("scheme", "str", "how the text was cut or changed; canonical for the prompt itself")
N_CHANGED = Column("n_changed", "int", "tokens of the prompt that are not in the variant", low=0)

RETOKENISATION = Schema(
    probe="retokenisation",
    paper=papers.STOCHASTOK,
    rows="one per prompt, scheme, variant, control and layer",
    columns=columns(
        *("model", "run_id", "prompt_id"),
        CUT_BY,
        VARIANT,
        VOCABULARY["control"].with_(
            meaning="'none' for the same text cut otherwise, 'random_token' for random tokens where it was, "
            "'canonical' for the prompt itself"
        ),
        Column("n_ids", "int", "tokens of the variant's text", low=1),
        Column("n_ids_canonical", "int", "tokens of the prompt's text", low=1),
        Column("n_noncanonical", "int", "pairs of neighbours that the tokenizer would not write", low=0),
        N_CHANGED,
        "layer",
        Column(
            "cosine",
            "float",
            "of the states here and in the prompt, mean over places behind the first change where both end a token",
            low=-1.0,
            high=1.0,
        ),
        Column("cosine_last", "float", "the same at the last such place, mostly the text's end", low=-1.0, high=1.0),
        VOCABULARY["kl"].with_(meaning="KL(the prompt's next token || the variant's), there"),
        Column("same_top1", "bool", "whether the most probable next token is the same, there"),
        Column("lost", "float", "(log P(prompt) - log P(variant)) / bytes", "nats per byte", missing=True),
        VOCABULARY["log_prob"].with_(meaning="of the variant's tokens, behind the start or the first common cut"),
    ),
    summary_by=("scheme", "control", "layer"),
    summary_of=("cosine", "cosine_last", "kl", "same_top1", "lost"),
)
_OF = ["model", "run_id", "prompt_id", "scheme", "variant"]


def summarise(frame: pd.DataFrame, by: str = "layer", **options: Any) -> pd.DataFrame:
    """Sum up what other cuts changed, by layer, by variant or by scheme.

    A variant is repaired at the first layer where its cosine is nearer to 1 than to the cosine of its control with
    random tokens (`repair_layer`; missing if it never is).

    Args:
        frame: of `retokenisation`.
        by: "layer": means over prompts with 95 % bootstrap intervals, by scheme, control and layer. "variant": one row
            per prompt, scheme and variant, with its `repair_layer`. "scheme": means over prompts of `repair_layer`,
            where there is one, and of the share of variants that have one (`repaired`).
        options: of `interp.stats.bootstrap_over_prompts`.

    Raises:
        InputError: `by` is none of these.

    >>> frame = retokenisation("reference", ["Once upon a time there was"], schemes=("split_last",), n_variants=2)
    >>> frame.interp.summary(by="variant")[["scheme", "variant", "repair_layer"]].values.tolist()
    [['split_last', 0, 1], ['split_last', 1, 1]]
    """
    if by == "layer":
        return summarise_by_prompt(RETOKENISATION, frame, **options)
    if by not in ("variant", "scheme"):
        raise InputError(f"cannot sum retokenisation up by {by!r}; choose 'layer', 'variant' or 'scheme'.")
    found = _repairs(frame)
    if by == "variant":
        return found
    each = found.assign(repaired=found["repair_layer"].notna(), repair_layer=found["repair_layer"].astype("Float64"))
    each["repair_layer"] = each["repair_layer"].to_numpy("float64", na_value=np.nan)
    return bootstrap_over_prompts(each, ["model", "run_id", "scheme"], ["repair_layer", "repaired"], **options)


def _repairs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per prompt, scheme and variant, with the first layer where it is repaired."""
    wide = frame.pivot_table(index=[*_OF, "layer"], columns="control", values="cosine", aggfunc="first")
    wide = wide.reindex(columns=["none", RANDOM_TOKEN]).dropna().reset_index()
    wide["repair_layer"] = wide["layer"].where(1 - wide["none"] < (wide["none"] - wide[RANDOM_TOKEN]).abs())
    return wide.groupby(_OF)["repair_layer"].min().astype("Int64").reset_index()


@probe(
    RETOKENISATION,
    plot=plots.retokenisation,
    summarise=summarise,
    reduce=partial(means_per_prompt, RETOKENISATION),
    reduce_from=RETOKENISATION.summary_of,
)
def retokenisation(
    subject: Source,
    texts: Texts,
    *,
    schemes: Sequence[str] = ("split_one", "stochastic", "bytes"),
    n_variants: int = 4,
    p: float = 0.1,
    layers: Layers = None,
    usable: Usable = None,
    seed: int = 0,
    bos: bool | None = None,
    truncate: bool = False,
) -> pd.DataFrame:
    """Cut the same text into other tokens, and compare states and the next token; random tokens are the control.

    Args:
        subject: anything `interp.load` takes, with a tokenizer.
        texts: anything `Subject.tokens` takes. Special tokens are left whole, and what follows the last is cut.
        schemes: "split_one" (a token becomes two), "split_last" (the last that can), "stochastic" (StochasTok: so many
            times as a share `p` of the tokens' number, a place is drawn, and its token becomes two if it can), "bytes"
            (a token for each byte) and "uniform" (a draw among all sequences that spell the text). Others change the
            text: "typo" (a share `p` of its letters), "shuffle" (of its groups of three letters inside words), and for
            Python source "spacing" (a space at a share `p` of the places between symbols) and "naming" (its own names
            in another case), which leave its syntax tree as it is.
        n_variants: draws of each scheme; "bytes" has one.
        p: see `schemes`.
        layers: the layer or layers to compare, 0..L, negative ones from the last; None and "all" compare all.
        usable: the frame of `token_health`: the control's tokens are drawn from those that it calls usable.
        seed: of the draws, which depend on the prompt's tokens too, and on no other prompt.
        bos: see `Subject.tokens`. Where a prompt begins with no special token, losses count from the first place where
            both sequences end a token.
        truncate: cut texts longer than the context instead of refusing them.

    Returns:
        One row per prompt, scheme, variant, control and layer; see `summarise`. Before the first change all is equal,
        so places there are left out of `cosine`.

    Raises:
        InputError: a scheme cannot be used, no token of a text can be cut, the tokenizer loses a byte of a text or has
            none for its tokens, or a layer does not exist.
        TooLong: a text cut otherwise is longer than the context.

    Cost: a forward pass for each variant and for its control, about as long as the prompt; "bytes" four times as long.

    Pitfall: a text cut otherwise is longer and rarer than any that the model was trained on: read it beside random
    tokens.

    >>> texts = ["Once upon a time there was a little girl"]
    >>> frame = retokenisation("reference", texts, schemes=("split_last",), n_variants=2, layers=(0, 8))
    >>> frame.groupby(["control", "layer"])[["cosine_last", "kl"]].mean().round(2).loc["none"].values.tolist()
    [[0.18, 1.62], [0.58, 1.62]]
    """
    chosen = check_schemes(schemes, p)
    if n_variants < 1:
        raise InputError(f"n_variants={n_variants}: give at least 1.")
    subject = load(subject)
    at = layers_of(layers, subject.n_layers, subject.name)
    parameters = {"schemes": chosen, "n_variants": n_variants, "p": p, "layers": layers} | usable_facts(usable, subject)
    tokens = subject.tokens(texts, bos=bos, truncate=truncate)
    run = Run(RETOKENISATION, subject, tokens, parameters=parameters, seed=seed)
    pieces = Pieces(lattice_of(subject))
    prompts = read_prompts(run.tokens, pieces.lattice, texts)
    made = [
        list(
            laid_out(
                pieces, one, key, chosen, n_variants, p, n_ctx=subject.n_ctx, allowed=usable_tokens(usable, subject)
            )
        )
        for one, key in zip(prompts, keys_of(prompts, seed), strict=True)
    ]
    for scheme in chosen:
        if not any(one.n_changed for several in made for one in several if one.scheme == scheme):
            warn(f"scheme {scheme!r} with p={p} changes nothing in these texts; give longer ones, or a larger p.")
    n_tokens = sum(len(one.ids) for several in made for one in several)
    say_cost(run, passes=n_tokens / sum(map(len, tokens.ids)), unembedded=n_tokens)
    found = [
        one
        for batch in run.batches(STATES_PER_LAYER)
        for one in compared(subject, batch, [made[index] for index in batch.prompts.tolist()], at)
    ]
    places = {id(one): place for place, one in enumerate(one for several in made for one in several)}
    return run.frame([_rows(one, at) for one in sorted(found, key=lambda one: places[id(one.laid)])])


def _rows(one: Compared, layers: list[int]) -> dict[str, Any]:
    laid = one.laid
    return {
        "prompt_id": np.full(len(layers), laid.prompt.prompt_id),
        "scheme": laid.scheme,
        "variant": laid.number,
        "control": laid.control,
        "n_ids": laid.n_tokens,
        "n_ids_canonical": len(laid.prompt.ids),
        "n_noncanonical": laid.n_noncanonical,
        "n_changed": laid.n_changed,
        "layer": np.array(layers),
        "cosine": one.cosine,
        "cosine_last": one.cosine_last,
        "kl": one.kl,
        "same_top1": one.same_top1,
        "lost": one.lost,
        "log_prob": one.log_prob,
    }
