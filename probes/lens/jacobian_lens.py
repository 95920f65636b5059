"""The Jacobian lens (Gurnee et al., 2026): the logit lens through the mean derivative of the last residual.

The estimator is that of the paper's implementation and of transformer-lens. In each text, V are the positions after the
first `skip` and before the last. The matrix of a layer is the derivative of the last residual at t' in V with respect
to the layer's residual at t in V, summed over t' (those before t have none), averaged over t, then over texts.
Nothing is fitted to the output, so nothing can be learned beyond what the layers do; the control is the lens of layer
0, which reads each token through the embedding alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.authoring import (
    InputError,
    Layers,
    NumericalError,
    Source,
    Store,
    Subject,
    Texts,
    Tokens,
    checked,
    code_digest,
    hash_of,
    layers_of,
    load,
    options,
    progress_bar,
    warn,
)
from interp.data import tensor_file
from interp.model.tape import Tape
from probes.lens._jacobian import JacobianLens, load_jacobian_lens

_ROWS = 256  # of the matrices, from one forward pass of as many copies as run at once: a few in a hundred of the cost
_AT_ONCE = 512  # tokens: on a CPU larger batches are not faster, while smaller ones read all weights for little
_EVERY_SECONDS = 60.0
_UNFINISHED = "interp Jacobian lens, unfinished 1"


@checked
def jacobian_lens(
    subject: Source,
    corpus: Texts,
    *,
    layers: Layers = None,
    skip: int = 16,
    max_tokens: int = 128,
    out: str | Path | None = None,
) -> JacobianLens:
    """Average the derivative of the last residual with respect to every layer's over the texts of a corpus.

    Args:
        subject: anything `interp.load` takes.
        corpus: anything `Subject.tokens` takes; about a hundred texts give a usable lens, says transformer-lens, and
            the published ones are of up to a thousand. Texts count alike, however long.
        layers: the layer or layers, 0..L-1, negative ones from L-1; None and "all" are all. Layer 0 is the control.
        skip: positions at the start of each text to leave out: attention collects there. Texts without any position
            between them and the last are left out, with a warning.
        max_tokens: longer texts are cut to their first tokens.
        out: a folder where the sums are kept every minute, and the lens at the end; an interrupted call with the same
            arguments resumes there, and a finished one is read from there.

    Returns:
        A `JacobianLens`; `logit_lens(subject, texts, lens=...)` reads through it.

    Raises:
        InputError: an argument is out of range, or no text is long enough.
        NumericalError: a derivative is not finite, as can happen in half precision.

    Cost: d_model backward passes over every token, several at once, in one batch with the forward passes that they
    need (at most a few in a hundred); an epoch of training has one. Memory: the matrices twice, and one batch's graph.

    Pitfall: the mean derivative is exact where the blocks are linear. Where attention copies between positions, the sum
    over later positions weighs what this token does for others, beside what it does for its own prediction.

    >>> lens = jacobian_lens("reference", ["Once upon a time there was a little girl"], layers=[7], skip=4)
    >>> lens.matrix.shape, lens.layers, lens.training["n_prompts"]
    (torch.Size([1, 256, 256]), (7,), 1)
    """
    loaded = load(subject)
    chosen = layers_of(layers, loaded.n_layers - 1, loaded.name)
    if skip < 0 or max_tokens < skip + 2:
        raise InputError(f"skip={skip}, max_tokens={max_tokens}: give 0 or more, and at least {max(skip, 0) + 2}.")
    tokens = _cut(loaded.tokens(corpus, truncate=True), max_tokens)
    read = [ids for ids in tokens.ids if len(ids) >= skip + 2]
    _require_long(len(tokens), len(read), skip)
    if loaded.dtype != torch.float32:
        warn(f"derivatives of {loaded.name!r} are taken in {loaded.dtype}; load it in float32 for exact ones.")
    about: dict[str, Any] = {"n_prompts": len(read), "n_tokens": sum(map(len, read)), "skip": skip}
    about |= {"max_tokens": max_tokens, "data_sha256": tokens.digest}
    model = [loaded.fingerprint, loaded.backend.kind, str(loaded.device), loaded.edits]
    kept = _Kept(out, hash_of({**about, "layers": chosen, "model": model, "code": code_digest(jacobian_lens)}))
    finished = kept.finished()
    if finished is not None:
        return finished
    total, done = kept.resume(torch.zeros(len(chosen), loaded.d_model, loaded.d_model, device=loaded.device))
    starts = range(0, loaded.d_model, _ROWS)
    with (
        options.reserving(total.nbytes),
        progress_bar(len(read) * len(starts), "part", "jacobian_lens", done=done * len(starts)) as bar,
    ):
        for ids in read[done:]:
            rows = []
            for start in starts:
                rows.append(_rows(loaded, ids, chosen, range(start, min(start + _ROWS, loaded.d_model)), skip))
                bar.update()
            total += torch.cat(rows, dim=1).to(total.device)
            done += 1
            kept.keep(total, done)
    lens = JacobianLens((total / done).cpu(), tuple(chosen), loaded.n_layers, loaded.name, loaded.fingerprint, about)
    kept.finish(lens)
    return lens


def _cut(tokens: Tokens, n: int) -> Tokens:
    return replace(tokens, ids=[ids[:n] for ids in tokens.ids])


def _require_long(n_given: int, n_read: int, skip: int) -> None:
    if not n_read:
        raise InputError(f"none of {n_given} texts has the {skip + 2} tokens that skip={skip} needs; give longer ones.")
    if n_read < n_given:
        warn(f"{n_given - n_read} of {n_given} texts are left out: they have fewer than {skip + 2} tokens.")


def _rows(subject: Subject, ids: Tensor, layers: Sequence[int], dims: range, skip: int) -> Tensor:
    """Return some rows of one text's matrices, float32 [layers, rows, d_model].

    Raises:
        NumericalError: one is not finite.
    """
    # A gradient keeps the activations of every block: about 24 vectors per token and layer.
    most = subject.batch_tokens(24)
    at_once = min(most, _AT_ONCE) if subject.device.type == "cpu" else most
    copies = max(1, min(len(dims), at_once // len(ids)))
    copies = -(-len(dims) // -(-len(dims) // copies))  # as many passes, the last one full too
    found = subject.run(ids[None], partial(_derivatives, layers=layers, dims=dims, skip=skip, copies=copies))
    if not found.isfinite().all():
        raise NumericalError(
            f"a derivative of {subject.name!r} in {subject.dtype} is not finite; load it with dtype=torch.float32."
        )
    return found


def _derivatives(tape: Tape, layers: Sequence[int], dims: range, skip: int, copies: int) -> Tensor:
    """Return rows `dims` of the matrices of one text; `copies` of it run at once, each for another row."""
    state = tape.residual(layers[0]).detach().repeat(copies, 1, 1).requires_grad_()
    with torch.enable_grad():
        states = {layers[0]: state}
        for block in range(layers[0], tape.n_layers):
            state = tape.run_block(block, state)
            states[block + 1] = state
    found: list[Tensor] = []
    for start in range(0, len(dims), copies):
        n = min(copies, len(dims) - start)
        copy = torch.arange(n, device=state.device)
        outer = torch.zeros_like(state)
        outer[copy, skip:-1, copy + dims[start]] = 1.0
        sources = [states[layer] for layer in layers]
        gradients = torch.autograd.grad(state, sources, outer, retain_graph=start + n < len(dims))
        means = [gradient[:n, skip:-1].float().mean(dim=1).to(state.device) for gradient in gradients]
        found.append(torch.stack(means))
    return torch.cat(found, dim=1)


class _Kept:
    """A folder with the sums of one lens, and the lens once it is finished; without a folder, nothing is kept."""

    def __init__(self, folder: str | Path | None, key: str) -> None:
        self._folder = None if folder is None else Path(Store(folder, key).folder)
        self._key, self._saved = key, time.monotonic()

    def finished(self) -> JacobianLens | None:
        return load_jacobian_lens(self._file("lens")) if self._folder and self._file("lens").is_file() else None

    def resume(self, zeros: Tensor) -> tuple[Tensor, int]:
        """Return the sums and the number of texts in them; `zeros` and 0 if none are kept."""
        if not self._folder or not self._file("state").is_file():
            return zeros, 0
        mend = "Delete it to start anew."
        about, tensors = tensor_file.read(self._file("state"), "state of a Jacobian lens", _UNFINISHED, mend)
        with tensor_file.reading(self._file("state"), "state of a Jacobian lens", mend):
            return zeros.copy_(tensors["total"]), int(about["done"])

    def keep(self, total: Tensor, done: int) -> None:
        """Keep the sums if they were kept more than a minute ago."""
        if self._folder and time.monotonic() - self._saved > _EVERY_SECONDS:
            about = {"format": _UNFINISHED, "done": done}
            tensor_file.write(self._file("state"), "the state of a Jacobian lens", {"total": total.cpu()}, about)
            self._saved = time.monotonic()

    def finish(self, lens: JacobianLens) -> None:
        """Keep the finished lens in the place of its sums."""
        if self._folder:
            lens.save(self._file("lens"))
            self._file("state").unlink(missing_ok=True)

    def _file(self, what: str) -> Path:
        return Path(str(self._folder)) / f"{self._key}.{what}.safetensors"


__all__ = ["JacobianLens", "jacobian_lens", "load_jacobian_lens"]
