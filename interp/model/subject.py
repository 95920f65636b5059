"""The model under study, under one interface for all libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from interp.checks import checked
from interp.errors import InputError
from interp.model import memory
from interp.model.backends.base import Backend
from interp.model.generation import Generating, check_settings, continuation, continue_prompts, texts_to_continue
from interp.model.identity.guard import Guard
from interp.model.positions import check_ends
from interp.model.readout import Readout, reader
from interp.model.sites import Edit, Site, SiteName, editing
from interp.model.sites.checks import Checks
from interp.model.sites.record import record
from interp.model.tape import Tape
from interp.model.texts.strings import TokenStrings
from interp.model.texts.tokenizer import check_tokenizer
from interp.model.tokens import Texts, Tokens, tokens_of
from interp.model.weights import WeightMatrix
from interp.options import options

T = TypeVar("T")
Continued = TypeVar("Continued", str, list[str])


@checked
class Subject:
    """A causal language model to run probes on; made by `interp.load`, and never changed by a probe.

    Attributes:
        name: the value of the `model` column of every frame.
        n_layers, n_heads, d_model, d_mlp, n_ctx: its shape; `n_ctx` is the longest prompt in tokens.
        d_vocab, d_embedding: how many tokens it predicts, and how many it embeds, which are mostly as many.
        tokenizer, backend: a Hugging Face tokenizer or None, and the library that runs the model.
        edits: notes of the active edits, see `edited`; empty for the model as loaded.
        exclusive: the model's lock, which every forward pass and every edit holds against other threads.
        generating: the position of the current forward pass in its texts during generation, else None.
    """

    made_by: ClassVar[str] = "interp.load"

    def __init__(self, backend: Backend) -> None:
        self.backend, self.tokenizer = backend, backend.tokenizer
        facts = backend.facts
        self.name, self.architecture, self.d_embedding = facts.name, facts.architecture, facts.d_embedding
        self.n_layers, self.n_heads, self.n_ctx = facts.n_layers, facts.n_heads, facts.n_ctx
        self.d_model, self.d_mlp, self.d_vocab = facts.d_model, facts.d_mlp, facts.d_vocab
        check_tokenizer(self.tokenizer, max(self.d_vocab, self.d_embedding), self.name)
        self._guard = Guard(backend)
        self.exclusive = self._guard.exclusive
        self._checks = Checks(backend, self._guard.require_verified, self.exclusive)
        self.edits: list[dict[str, Any]] = []
        self.generating: Generating | None = None

    def __repr__(self) -> str:
        return (
            f"Subject({self.name!r}, {self.architecture}, {self.n_layers} layers of {self.d_model}, "
            f"vocabulary {self.d_vocab}, {self.backend.kind}, {self.dtype}, {self.device})"
        )

    @property
    def device(self) -> torch.device:
        """The device for token ids."""
        return self.backend.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's weights; statistics are always float32."""
        return self.backend.dtype

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the numbers, 16 hex digits; ModelError if the model was changed since it was loaded.

        It covers architecture, config and weights, and buffers, settings and modules that the config does not tell.
        With `unknown_code` a model has another fingerprint every time it is loaded: it cannot be recognised.
        """
        return self._guard.fingerprint(edited=bool(self.edits)).text

    @property
    def unknown_code(self) -> tuple[str, ...]:
        """Places where code runs that interp cannot identify: hooks, replaced methods, modules of one's own."""
        return self._guard.unknown_code

    @cached_property
    def token_strings(self) -> TokenStrings:
        """The string of every token as it appears inside a text, read as an array object [d_vocab]."""
        return TokenStrings(self.tokenizer, self.d_vocab)

    @property
    def W_E(self) -> Tensor:
        """Token embedding, [d_embedding, d_model]."""
        return self._guard.unchanged.embedding()

    @property
    def W_U(self) -> Tensor:
        """Unembedding, [d_model, d_vocab]."""
        return self._guard.unchanged.unembedding()[0]

    @property
    def b_U(self) -> Tensor:
        """Bias of the unembedding, [d_vocab]; zeros if the model has none."""
        weight, bias = self._guard.unchanged.unembedding()
        return weight.new_zeros(self.d_vocab) if bias is None else bias

    def value_vectors(self, layer: int) -> Tensor:
        """Return the output vector of each neuron of block `layer`, [d_mlp, d_model].

        If the model normalises the MLP output (Gemma 2/3, OLMo-2), these are the vectors before that norm; if it
        multiplies it by a number (Granite), they are multiplied too.

        Raises:
            InputError: there is no such block.
            ModelError: the block has no single MLP, or the model changed since it was loaded.
        """
        layer = self.check_layer(layer, self.n_layers - 1)
        return self._checks.added(self._guard.unchanged.value_vectors(layer), layer)

    def weight_matrices(self) -> list[WeightMatrix]:
        """Return every weight matrix of attention and MLP, block by block; see `interp.model.weights`.

        Raises:
            ModelError: a block has no single MLP, or the weights are on another machine.
        """
        return [matrix for layer in range(self.n_layers) for matrix in self._guard.unchanged.weight_matrices(layer)]

    def site(self, name: SiteName, layer: int = 0) -> Site:
        """Return the site of a value of block `layer`, to read or change it; see `interp.model.sites`.

        Raises:
            InputError: there is no such block.
            ModelError: the architecture does not show it, by name or by its identity.
        """
        with self.exclusive:
            site = self._checks.site(name, self.check_layer(layer, self.n_layers - 1))
            return replace(site, exclusive=self.exclusive)

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every parameter once, with the name the library gives it."""
        return self._guard.unchanged.named_weights()

    @contextmanager
    def showing_patterns(self) -> Iterator[None]:
        """Make forward passes inside the `with` block compute attention patterns that a site can read."""
        with self.exclusive, self.backend.showing_patterns():
            yield

    def check_layer(self, layer: int, last: int) -> int:
        """Return `layer` if it is in 0..last, else raise InputError."""
        if not 0 <= layer <= last:
            raise InputError(f"layer {layer} is not in {self.name!r}: layers run from 0 to {last} here.")
        return layer

    def tokens(
        self, texts: Texts, *, bos: bool | None = None, truncate: bool | None = False,
        add_generation_prompt: bool | None = None,
    ) -> Tokens:  # fmt: skip
        """Tokenise texts or chat messages for this model; see `interp.model.tokens.tokenise`."""
        return tokens_of(self, texts, bos=bos, truncate=truncate, add_generation_prompt=add_generation_prompt)

    def run(self, ids: Tensor, program: Callable[[Tape], T], *, mids: bool = False, graph: bool = False) -> T:
        """Record one clean forward pass over ids [batch, pos] and run a program on the tape.

        Under nnsight the program runs inside the trace, on the model's machine; to work remotely it must return
        tensors, not the tape.

        Args:
            ids: int64 [batch, pos], right-padded if they need padding.
            program: a function of the `Tape`.
            mids: record the residual between attention and MLP too.
            graph: keep the autograd graph of `tape.last` and run the program with gradients enabled; then only `last`
                and the heads of the tape are guaranteed to exist. Compute gradients by name with `torch.autograd.grad`:
                the `.grad` of the model's parameters belongs to the model's owner.

        Raises:
            ModelError: replaying the recorded blocks does not give the model's own logits, the model is not causal, its
                weights changed since it was loaded, or it has no such `mids`.
            NumericalError: the model's own logits hold NaN.
        """
        with self._guard.passing(ids):
            return self.backend.run(ids, self._checks.noting(program, mids=mids), mids=mids, graph=graph)

    def next_token_logits(self, ids: Tensor, ends: Tensor, program: Callable[[Tensor], T]) -> T:
        """Run a program on the model's own logits [batch, d_vocab] after one position of each row.

        Suited to many short texts: no block is recorded, so the forward pass costs no more than the model's own, and
        only one position of each text is unembedded.

        Args:
            ids: int64 [batch, pos], right-padded if they need padding.
            ends: the position to read in each row, int64 [batch].
            program: a function of the logits.

        Raises:
            ModelError, NumericalError: as `run`.

        >>> from interp import load
        >>> ids, ends = torch.tensor([[0, 5, 9], [0, 7, 0]]), torch.tensor([2, 1])
        >>> load("reference").next_token_logits(ids, ends, lambda logits: tuple(logits.shape))
        (2, 8192)
        """
        with self._guard.passing(ids):
            check_ends(ends, ids)
            return self.backend.next_token_logits(ids, ends, program)

    def reader(self, *, final_norm: bool = True, **wanted: Any) -> Callable[[Tape, Sequence[Tensor], Tensor], Readout]:
        """Return a function that reads residuals [rows, d_model] through the model's own head, for use in a program.

        Args:
            final_norm: False omits the final norm for the states, not for the reference.
            wanted: the statistics to compute, see `interp.model.readout.read_out`.

        Returns:
            (tape, states, reference) -> `Readout`. The function holds only numbers, so it can be sent with a program
            to the model's machine; a subject cannot.
        """
        return reader(d_vocab=self.d_vocab, memory=options.available // 2, final_norm=final_norm, **wanted)

    def read_out(self, tape: Tape, states: Sequence[Tensor], reference: Tensor, **wanted: Any) -> Readout:
        """Read residuals [rows, d_model] through the heads of a tape; see `reader`."""
        return self.reader(**wanted)(tape, states, reference)

    def logits(self, texts: Texts, *, bos: bool | None = None, truncate: bool = False) -> list[Tensor]:
        """Return the model's own logits, one float tensor [pos, d_vocab] per text, on the CPU."""
        tokens = self.tokens(texts, bos=bos, truncate=truncate)
        out: list[Tensor] = [torch.empty(0)] * len(tokens)
        for batch in tokens.batches(self.batch_tokens()):
            with self.exclusive:
                self._guard.check_pass(batch.ids)
                logits = self.backend.logits(batch.ids).cpu()
            for index, row, length in zip(batch.prompts.tolist(), logits, batch.lengths.tolist(), strict=True):
                out[index] = row[:length]
        return out

    def generate(
        self, text: Continued, max_new_tokens: int, *, temperature: float = 1.0, seed: int = 0, bos: bool | None = None
    ) -> Continued:
        """Return a text, or a list of texts, with its continuation.

        Args:
            text: the prompt, or several, which are continued side by side.
            max_new_tokens: stop after this many tokens, at the end-of-text token, or when the context is full.
            temperature: 0 takes the most probable token each time.
            seed: of the sampling; the same seed gives a text the same continuation, whatever its batch.
            bos: see `tokens`.

        Raises:
            InputError: a text cannot be used, or the temperature is below 0.
        """
        texts = texts_to_continue(text)
        prompts = self.tokens(texts, bos=bos, truncate=None).ids
        ids = self.continue_ids(prompts, max_new_tokens, temperature=temperature, seed=seed)
        whole = [one + continuation(self.tokenizer, *pair) for one, *pair in zip(texts, prompts, ids, strict=True)]
        return whole[0] if isinstance(text, str) else whole

    def continue_ids(
        self, prompts: Sequence[Tensor], max_new_tokens: int, *, temperature: float = 1.0, seed: int = 0
    ) -> list[Tensor]:
        """Continue token ids, int64 [pos] each, like `generate`; the end-of-text token is left out."""
        check_settings(prompts, max_new_tokens, temperature, d_vocab=self.backend.facts.n_ids, n_ctx=self.n_ctx)
        with self.exclusive:
            self._guard.check_pass(prompts[0][None])
            return continue_prompts(
                self.backend.step, prompts, max_new_tokens, n_ctx=self.n_ctx, n_ids=self.d_embedding,
                temperature=temperature, seed=seed, end=getattr(self.tokenizer, "eos_token_id", None),
                entering=partial(setattr, self, "generating"),
            )  # fmt: skip

    @contextmanager
    def edited(self, edits: Sequence[tuple[Site, Edit]], note: Mapping[str, Any]) -> Iterator[None]:
        """Run every forward pass inside the `with` block with these edits, and record them in the frames made in it.

        Args:
            edits: pairs of a site and its edit, see `interp.model.sites.editing`; inner ones see what outer ones gave.
            note: the entry for these edits in the frames' provenance; JSON.

        Raises:
            ModelError: the model cannot be studied, or no forward pass ran inside the block, so nothing was edited.
        """
        with self.exclusive, ExitStack() as active:
            self._guard.require_verified()  # before the edit: an edited model would fail the replay check
            self.edits.append(dict(note))
            active.callback(self.edits.pop)
            for site, edit in edits:
                active.enter_context(editing(site, edit))
            yield

    record = record
    batch_tokens = memory.batch_tokens
    block_tokens = memory.block_tokens
