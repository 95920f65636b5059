"""Scores of tokens added up over words, sentences, chat turns or a user's own spans.

This is a function of a frame, as `aggregate` is of inseq's output, and not an argument of `attribute`: it takes frames
of every method (`reagent`, `normxlogit`, inseq's own), and one attribution is added up by words, then by sentences,
without another pass of the model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.authoring import VOCABULARY, Column, InputError, Run, Schema, Source, Subject, columns, load, probe
from interp.stats import bootstrap_over_prompts
from probes.attribution._targets import TARGET_POS, target_key
from probes.attribution.attribute import attribute
from probes.attribution.faithfulness._attributions import check_frame, digest_of, longest, tokens_of
from probes.attribution.groups import plots
from probes.attribution.groups._naming import Groups, divide

_UNSUMMED = {
    "norm": "a sum of the norms of vectors is the norm of nothing",
    "gradient_norm": "a sum of the norms of gradients is not the sensitivity to the group",
}

GROUPS = Schema(
    probe="group_attribution",
    paper="of each method; see probes.attribution.attribute.METHODS",
    rows="one per prompt, method, target and group of tokens",
    columns=columns(
        "model",
        "run_id",
        "prompt_id",
        "method",
        TARGET_POS,
        *("target_id", "target", "against_id", "against"),
        Column("group", "int", "number of the group in its prompt, from 0", low=0),
        Column("group_name", "str", "word, sentence, a turn's role, a span's name, template, special, start or rest"),
        Column("first_pos", "int", "position of its first token", low=0),
        Column("last_pos", "int", "position of its last token that was read", low=0),
        Column("n_tokens", "int", "number of its tokens that were read", low=1),
        Column("text", "str", "these tokens as text"),
        VOCABULARY["score"].with_(meaning="sum of the scores of the group's tokens, in the method's own unit"),
        Column(
            "score_se",
            "float",
            "at most this: the sum of the tokens' standard errors, since a frame does not hold how they go together",
            low=0.0,
            missing=True,
        ),
        VOCABULARY["control"].with_(meaning="that of the attribution"),
    ),
    summary_by=("method", "group_name"),
    summary_of=("score", "share", "share_of_tokens", "excess"),
)  # fmt: skip


def summarise_groups(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Average over prompts what groups of each name have, with 95 % bootstrap intervals over prompts.

    One prompt's words are not another's, so means are of names: the turns of a role, a span that a user named, all
    words. Groups that begin at position 0 are left out.

    Args:
        frame: of `group_attribution`.
        options: of `interp.stats.bootstrap_over_prompts`.

    Returns:
        One row per method and `group_name`: `score` is the sum over a target's groups of that name, `share` their part
        of all absolute scores of groups, `share_of_tokens` their part of the tokens, which scores without a preference
        would have, and `excess` the difference of both.
    """
    later = frame[frame["first_pos"] > 0]
    if later.empty:
        raise InputError("there is nothing to sum up: summaries leave the group at position 0 out.")
    target = ["model", "run_id", "prompt_id", *target_key(frame), "method"]
    by_target = [later[name] for name in target]
    size = later["score"].abs()
    parts = later.assign(
        share=size / size.groupby(by_target, dropna=False).transform("sum"),
        share_of_tokens=later["n_tokens"] / later["n_tokens"].groupby(by_target, dropna=False).transform("sum"),
    )
    values = ["score", "share", "share_of_tokens"]
    sums = parts.groupby([*target, "group_name"], dropna=False, sort=False)[values].sum().reset_index()
    sums["excess"] = sums["share"] - sums["share_of_tokens"]
    summary = bootstrap_over_prompts(sums, ["model", "run_id", *GROUPS.summary_by], [*values, "excess"], **options)
    summary.attrs["note"] = "sums per target, means per prompt, then over prompts; the group at position 0 left out"
    return summary


def _example(subject: Subject, texts: pd.DataFrame) -> dict[str, Any]:
    return {"frame": attribute(subject, texts.head(6), methods=("normxlogit", "occlusion", "random"), truncate=True)}


@probe(GROUPS, plot=plots.group_attribution, explore=plots.explore_groups, summarise=summarise_groups, example=_example)
def group_attribution(subject: Source, frame: pd.DataFrame, *, groups: Groups = "word") -> pd.DataFrame:
    """Add up the scores of tokens over words, sentences, chat turns or spans of your own.

    Every token is in one group, so that groups add up to what tokens add up to. A sum means what its method makes it:
    of integrated gradients, the group's part of the change in output; of input x gradient, its first-order effect; of
    rollout and ReAGent, its share of 1. Of occlusion and `reagent_ls` it is a sum of falls of one token at a time, not
    the fall when all go: `faithfulness(subject, frame, unit=groups)` removes whole groups. Sums of NormXLogit and its
    logit grow with the number of tokens by what every logit has in common, which cancels in a contrast
    (`attribute(..., against=)`); sums of random scores show what length alone gives.

    Args:
        subject: the attributed model; anything `interp.load` takes.
        frame: of `attribute` or of any attribution method: one row per token.
        groups: "word"; "sentence" (ended by a mark before a space and no small letter, or by a line); "turn", the
            messages of a chat, named by their roles, beside the words of the template around them; texts
            (`["France", "capital"]`), which mean every place where they stand as whole words; spans by name
            (`{"subject": "France", "end": (-2, 6)}`), each a text or two positions, the first and the one behind the
            last; or a list of such spans by name, one for each prompt. Tokens outside all spans are each a group named
            "rest". Beside sentences and turns, special tokens and position 0, where attention collects, are groups of
            their own, "special" and "start".

    Returns:
        One row per prompt, method, target and group, with the positions of its tokens. A group that goes on behind
        `target_pos` has the tokens that were read.

    Raises:
        InputError: the frame is of another model or lacks positions, a method's scores cannot be added up (norms), a
            prompt has no chat turns, or a span is not in a prompt or overlaps another one.
        UnknownName: there is no such kind of group.

    Cost: no pass of the model.

    Pitfall: long groups have large sums. Compare `share` with `share_of_tokens` in the summary, whose difference
    `excess` has an interval over prompts.

    >>> tokens = attribute("reference", "The unlikely hero slept.", target=" He", methods=("occlusion", "random"))
    >>> words = group_attribution("reference", tokens)
    >>> words.text.unique().tolist()
    ['<|endoftext|>', 'The', ' unlikely', ' hero', ' slept', '.']
    >>> bool(np.isclose(words.score.sum(), tokens.score.sum()))
    True
    """
    loaded = load(subject)
    check_frame(loaded, frame)
    for method in frame["method"].unique():
        if method in _UNSUMMED:
            raise InputError(f"scores of {method!r} cannot be added up: {_UNSUMMED[method]}; leave that method out.")
    divisions = divide(loaded, longest(frame), groups, "groups")
    parameters = {"groups": groups, "runs": sorted(frame["run_id"].unique()), "scores_sha256": digest_of(frame)}
    run = Run(GROUPS, loaded, None, parameters=parameters)
    target = ["prompt_id", *target_key(frame)]
    parts = []
    for (number, target_pos, target_id, *against), rows in frame.groupby(target, sort=False, dropna=False):
        ids = tokens_of(rows, int(number), int(target_pos))
        division = divisions[int(number)]
        found, first, n_tokens = np.unique(division.label[: len(ids)], return_index=True, return_counts=True)
        strings = [str(one) for one in loaded.token_strings[ids]]
        shared = {
            "prompt_id": int(number),
            "target_pos": int(target_pos),
            "target_id": int(target_id),
            "against_id": int(against[0]) if against else -1,
            "group": found,
            "group_name": np.array([division.names[one] for one in found], dtype=object),
            "first_pos": first,
            "last_pos": first + n_tokens - 1,
            "n_tokens": n_tokens,
            "text": np.array(
                ["".join(strings[at : at + n]) for at, n in zip(first, n_tokens, strict=True)], dtype=object
            ),
        }
        for (method, control), own in rows.groupby(["method", "control"], sort=False):
            ordered = own.sort_values("pos")
            sums = {name: np.add.reduceat(ordered[name].to_numpy(dtype=float), first) for name in ("score", "score_se")}
            parts.append(shared | sums | {"method": str(method), "control": str(control)})
    return run.frame(parts)
