"""The other backend, for a model that TransformerLens cannot run: advised only where it works."""

from __future__ import annotations

from typing import Any

from interp.errors import InterpError, reason_of
from interp.model.verification import verify


def nnsight_instead(model: Any, name: str) -> str:
    """Return the end of an error message about a bridge: to use nnsight, or why that cannot run the model either.

    The model is run through nnsight on a few tokens, as it would be if it was loaded so.
    """
    from interp.model.backends.nnsight import NNsightBackend

    try:
        backend = NNsightBackend.around(model, name, None)
        verify(backend, backend.facts.trial_ids())
    except InterpError as error:
        return f", and nnsight cannot run it either: {error}"
    except Exception as error:  # libraries raise anything on a model that they do not know
        return f", and nnsight cannot run it either: {reason_of(error)}."
    return "; use backend='nnsight'."
