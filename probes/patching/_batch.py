"""Patch a batch of prompts: its two runs, the controls, and the columns of every patched run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from interp.authoring import Run, Subject, Tokens, content_keys, donor_prompts, options
from interp.model.tape import Tape
from probes.patching._frames import recovered
from probes.patching._keys import change_of, seen_part
from probes.patching._layout import Asked, Rows, padded
from probes.patching._metric import Chosen, reading, tokens_of_rows, values_of
from probes.patching._sites import Place
from probes.patching._states import Key, States, all_residuals, mean_states, repeated, states_from, states_of
from probes.patching._variants import Patches, Variant

_CALLS_AHEAD = 4  # full calls of a block whose runs are held at once, so that a bar moves


def corrupt_states(subject: Subject, asked: Asked, rows: Rows, mean: States | None) -> States:
    """Return the states of the corrupt run of every row."""
    if mean is not None:
        return repeated(mean, len(rows.ids), rows.ids.shape[1])
    if rows.corrupt_ids is not None:
        return states_of(subject, rows.corrupt_ids, asked.sites)
    prompts, corrupt, sites = rows.without_padding(), asked.corrupt, asked.sites
    keys = content_keys(prompts, corrupt.seed)

    def program(tape: Tape) -> States:
        embedded = tape.residual(0)
        return states_from(tape, embedded + corrupt.noise(embedded, prompts, keys), sites)

    return subject.run(rows.ids, program)


def donors_of(run: Run, asked: Asked) -> np.ndarray | None:
    """Return the unrelated prompt of each prompt, int64 [prompts]; None without that control."""
    return donor_prompts(run.tokens.ids, asked.seed) if "other" in asked.controls else None


def mean_of(subject: Subject, asked: Asked, tokens: Tokens) -> States | None:
    """Return the mean states of the set, if that is what stands for corrupt."""
    if asked.corrupt.kind != "mean":
        return None
    assert asked.corrupt.texts is not None
    return mean_states(subject, asked.corrupt.texts, asked.sites, max(map(len, tokens.ids)))


class Sides:
    """The runs of a batch: the one that is patched, and those that activations are taken from."""

    def __init__(self, run: Run, asked: Asked, rows: Rows, donors: np.ndarray | None, mean: States | None) -> None:
        subject, tokens = run.subject, run.tokens
        self.rows, self.asked = rows, asked
        self.keys = content_keys(rows.without_padding(), asked.seed)  # here: what is sent has no decorators
        if asked.denoise:
            self.source = states_of(subject, rows.ids, asked.sites)
            self.base_ids = rows.ids if rows.corrupt_ids is None else rows.corrupt_ids
            on_tape = rows.corrupt_ids is not None and not asked.sites
            self._base = None if on_tape else corrupt_states(subject, asked, rows, mean)
        else:
            self.source, self.base_ids = corrupt_states(subject, asked, rows, mean), rows.ids
            self._base = states_of(subject, rows.ids, asked.sites) if asked.sites else None
        self._other: States | None = None
        self.reach = rows.lengths
        if donors is not None:
            chosen = [int(donors[index]) for index in rows.prompts]
            of_set = tokens.ids
            if not asked.denoise and asked.corrupt.partners:
                of_set = list(asked.corrupt.partners[:: asked.corrupt.draws])
            given = [of_set[index] for index in chosen]
            self.reach = torch.tensor([len(ids) for ids in given])
            self._other = states_of(subject, padded(given, rows.ids), asked.sites)

    def base(self, tape: Tape) -> States:
        """Return the states of the run that is patched."""
        return States(all_residuals(tape), {}) if self._base is None else self._base

    def new_values(self, base: States) -> Callable[[str, Key], Tensor]:
        """Return what each control puts where, see `probes.patching._variants.NewValues`."""

        @lru_cache(maxsize=len(self.asked.controls))  # of one place at a time
        def new(control: str, key: Key) -> Tensor:
            if control == "none":
                return self.source.at(key)
            if control == "other":
                assert self._other is not None
                return self._other.at(key)
            return self._random(base.at(key), self.source.at(key), key)

        return new

    def _random(self, base: Tensor, source: Tensor, key: Key) -> Tensor:
        """Return the base's value with a random change of the norm of the patch's own, [batch, pos, ...]."""
        size = seen_part(key[0], change_of(base, source), base, source).norm(dim=-1, keepdim=True)
        return base + (self.directions(base, source, key) * size).to(base.dtype)

    def directions(self, base: Tensor, source: Tensor, key: Key) -> Tensor:
        """Return random unit vectors [batch, pos, ...] that hang on each prompt's tokens, the place and the seed.

        Those of sites over keys are 0 at keys that neither run sees.
        """
        drawn = seen_part(key[0], self._drawn(tuple(base.shape), key).to(base.device), base, source)
        return drawn / drawn.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)

    def _drawn(self, shape: tuple[int, ...], key: Key) -> Tensor:
        found = torch.zeros(shape, dtype=torch.float32)
        place = crc32(f"{key[0]} {key[1]}".encode())
        prompts = self.rows.without_padding()
        for row, (ids, prompt) in enumerate(zip(prompts, self.keys, strict=True)):
            generator = torch.Generator().manual_seed((int(prompt) >> 1) ^ place ^ (row % self.asked.corrupt.draws))
            found[row, : len(ids)] = torch.randn(len(ids), *shape[2:], generator=generator)
        return found


def variants_of(asked: Asked, rows: Rows, source: States) -> list[tuple[Place, Variant]]:
    """List all patched runs of a batch, place by place."""
    slots: list[int | None] = list(range(len(rows.pos))) or [None]
    found = []
    for place in asked.places:
        value = source.at(place.key)
        heads: list[int | None] = [None]
        if value.ndim == 4:
            n_heads = value.shape[2]
            heads = [head for head in asked.heads or range(n_heads) if head < n_heads]
        for head in heads:
            for slot in slots:
                found += [(place, Variant(place.key, head, slot, control)) for control in asked.controls]
    return found


def patched_values(
    subject: Subject,
    asked: Asked,
    rows: Rows,
    sides: Sides,
    variants: Sequence[Variant],
    done: Callable[[int], object],
) -> tuple[Tensor, Chosen]:
    """Run patches of a batch, and return the metric and the tokens that it is of.

    Args:
        subject: the model.
        asked: how to measure.
        rows: the batch.
        sides: its runs.
        variants: the patched runs.
        done: told how many runs of a prompt are finished.

    Returns:
        Float32 [2 + variants, rows], the clean and the corrupt run first; and the tokens of each row.
    """
    n_rows, width = rows.ids.shape
    at_once = max(1, subject.block_tokens(width) // rows.ids.numel())
    held = max(1, min(_CALLS_AHEAD * at_once, subject.batch_tokens() * subject.n_layers // (2 * rows.ids.numel())))
    at = rows.at
    read = reading(asked.metric, subject.d_vocab, options.available // 2)
    given = Chosen(asked.target[rows.prompts], asked.against[rows.prompts])
    draws = asked.corrupt.draws
    # A bar cannot be sent with a program to another machine.
    tell = None if subject.backend.remote else done

    def program(tape: Tape) -> tuple[Tensor, Tensor, Tensor]:
        base = sides.base(tape)
        patches = Patches(tape, base, sides.new_values(base), rows.pos, asked.sites, at_once)
        here = tuple(one.to(tape.last.device) for one in at)
        ends = [states.residuals[-1][here] for states in (base, sides.source)]
        clean, corrupt = ends[::-1] if asked.denoise else ends
        chosen = tokens_of_rows(tape, clean, corrupt, given, draws)
        two = values_of(tape, read, asked.metric, [clean, corrupt], clean, chosen)
        # What changes nothing has the base's own value, and is not run.
        found = torch.cat([two, two[1 if asked.denoise else 0].expand(len(variants), -1)]).clone()
        running = patches.changing(variants)
        if tell is not None:
            tell((len(variants) - len(running)) * n_rows // draws)
        n_parts = -(-len(running) // held)
        for part in range(n_parts):
            some = running[part::n_parts]
            finals = patches.run([variants[index] for index in some], lambda residual: residual[here])
            found[[2 + index for index in some]] = values_of(tape, read, asked.metric, finals, clean, chosen)
            if tell is not None:
                tell(len(some) * n_rows // draws)
        return found, chosen.target.cpu(), chosen.against.cpu()

    values, target, against = subject.run(sides.base_ids, program)
    return values, Chosen(target, against)


def columns_of(
    run: Run,
    asked: Asked,
    rows: Rows,
    reach: Tensor,
    listed: Sequence[tuple[Place, Variant]],
    values: Tensor,
    chosen: Chosen,
    **more: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return the columns of a batch; values beside the metric's own are [batch, variants] each."""
    draws = asked.corrupt.draws
    first = slice(None, None, draws)
    n_batch, n_variants = len(rows.batch.ids), len(listed)
    mean = values.double().view(2 + n_variants, n_batch, draws).mean(dim=-1).numpy()
    clean, corrupt, value = mean[0][:, None], mean[1][:, None], mean[2:].T
    base, span = (corrupt, clean - corrupt) if asked.denoise else (clean, corrupt - clean)
    effect = value - base
    pos = _positions(rows, [variant.slot for _, variant in listed])
    lengths, until = rows.lengths[first, None].numpy(), reach[first, None].numpy()
    by_prompt = {
        "prompt_id": run.prompt_ids(rows.batch),
        "target_id": chosen.target[first].numpy(),
        "against_id": chosen.against[first].numpy() if asked.metric == "logit_diff" else np.full(n_batch, -1),
        "value_clean": clean[:, 0],
        "value_corrupt": corrupt[:, 0],
    }
    by_variant = {
        "site": np.array([place.site for place, _ in listed], dtype=object),
        "layer": np.array([place.layer for place, _ in listed]),
        "head": np.array([-1 if one.head is None else one.head for _, one in listed]),
        "control": np.array([one.control for _, one in listed], dtype=object),
    }
    single = rows.corrupt_ids is not None and draws == 1
    cells = {
        "pos": pos,
        "to_end": np.where(pos < 0, -1, lengths - 1 - pos),
        "token_id": _tokens_at(rows.ids[first], pos),
        "corrupt_token_id": _tokens_at(rows.corrupt_ids[first], pos) if single else np.full(pos.shape, -1),  # type: ignore[index]
        "value": value,
        "effect": effect,
        "recovered": recovered(effect, span, np.maximum(np.abs(clean), np.abs(corrupt))),
        **more,
    }
    together = np.array([one.slot is None for _, one in listed])
    there = (pos >= 0) | together
    beyond = np.where(together, lengths > until, pos >= until) & (by_variant["control"] == "other")
    kept = (there & ~beyond).ravel()
    shape = (n_batch, n_variants)
    whole = {name: np.broadcast_to(one[:, None], shape) for name, one in by_prompt.items()}
    whole |= {name: np.broadcast_to(one, shape) for name, one in by_variant.items()} | cells
    return {name: one.ravel()[kept] for name, one in whole.items()}


def _positions(rows: Rows, slots: Sequence[int | None]) -> np.ndarray:
    """Return the position of every variant in every prompt, int64 [batch, variants]; -1 for none or all."""
    n_draws = len(rows.ids) // len(rows.batch.ids)
    table = rows.pos[:, ::n_draws].T.numpy()
    found = np.full((len(table), len(slots)), -1)
    for index, slot in enumerate(slots):
        if slot is not None:
            found[:, index] = table[:, slot]
    return found


def _tokens_at(ids: Tensor, pos: np.ndarray) -> np.ndarray:
    return np.where(pos < 0, -1, np.take_along_axis(ids.numpy(), pos.clip(0), axis=1))
