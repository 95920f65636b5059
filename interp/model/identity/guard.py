"""Guard a loaded model: one thread at a time, verified before its first pass, unchanged before every one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from torch import Tensor

from interp.errors import ModelError
from interp.model.backends.base import Backend
from interp.model.identity.description import describe
from interp.model.identity.exclusive import lock_of
from interp.model.identity.fingerprint import Fingerprint, fingerprint
from interp.model.identity.settings import check_settings
from interp.model.identity.unchanged import Unchanged
from interp.model.positions import check_ids
from interp.model.sites import edited_in
from interp.model.verification import verify
from interp.model.weights import replaced_in


class Guard:
    """The checks of a subject's model.

    Attributes:
        exclusive: the lock of the model, the same for all subjects that run it.
        verified: True after the first pass.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.exclusive = lock_of(backend.running)
        with self.exclusive:
            self._unchanged = Unchanged(backend.facts.name, backend.original, backend.running)
            self._description = describe(backend.source)
        self.verified = False

    def check_pass(self, ids: Tensor) -> None:
        """Check before every forward pass the ids and that the model is unchanged; before the first, verify it.

        Raises:
            InputError: ids that the model cannot read, or a setting of torch that would change the numbers.
            ModelError, NumericalError: the model changed since it was loaded, or cannot be studied.
        """
        facts = self._backend.facts
        check_ids(ids, d_vocab=facts.n_ids, n_ctx=facts.n_ctx)
        check_settings(self._backend.device.type)
        # A bridge holds copies of some weights: it would mix old and new ones if the live model was trained or edited.
        self._unchanged.check_pass()
        if not self.verified:
            self._unchanged.check_description()
            # A few tokens are enough; the logits of two whole contexts could exceed the memory budget.
            verify(self._backend, ids[:2, :64])
            self._unchanged.excuse_running()
            self.verified = True

    def require_verified(self) -> None:
        """Verify the model on a few tokens, unless a pass did."""
        if not self.verified:
            self.check_pass(self._backend.facts.trial_ids())

    @property
    def unchanged(self) -> Backend:
        """The backend, to read weights from; ModelError if they changed since the model was loaded."""
        self._unchanged.check_pass()
        return self._backend

    @contextmanager
    def passing(self, ids: Tensor) -> Iterator[None]:
        """Hold the lock for one forward pass and what is computed on it, after `check_pass`.

        Raises:
            ModelError: a gradient is taken through weights that allow none.
        """
        with self.exclusive:
            self.check_pass(ids)
            try:
                yield
            except RuntimeError as error:
                if "Inference tensors" not in str(error):
                    raise
                raise ModelError(
                    f"no gradient passes through the weights of {self._backend.facts.name!r}, which were made under "
                    "torch.inference_mode(): make or load the model outside of it."
                ) from error

    def fingerprint(self, *, edited: bool) -> Fingerprint:
        """Return the fingerprint of the model as loaded, if it is unchanged.

        Args:
            edited: True if edits are noted, which go into the frames beside the fingerprint.

        Raises:
            ModelError: the model changed since it was loaded, or is edited without a note.
        """
        with self.exclusive:
            modules = list(self._backend.running.modules())
            if not edited and (edited_in(modules) or replaced_in(modules)):
                raise ModelError(
                    f"{self._backend.facts.name!r} is edited without a note, so that no frame would tell of it: make "
                    "the edit with Subject.edited."
                )
            self._unchanged.check_run()
            return self._fingerprint

    @property
    def unknown_code(self) -> tuple[str, ...]:
        """Places where code runs that cannot be identified."""
        with self.exclusive:
            return self._fingerprint.unknown

    @cached_property
    def _fingerprint(self) -> Fingerprint:
        return fingerprint(self._backend, self._description, self._unchanged.hooks)
