"""The other backend, for a model that TransformerLens cannot run: advised only where it works."""

from __future__ import annotations

from typing import Any

import torch

from interp.errors import InterpError
from interp.model.verification import verify


def nnsight_instead(model: Any, name: str) -> str:
    """Return the end of an error message about a bridge: to use nnsight, or why that cannot run the model either.

    The model is run through nnsight on a few tokens, as it would be if it was loaded so.
    """
    from interp.model.backends.nnsight import NNsightBackend

    try:
        backend = NNsightBackend.around(model, name, None)
        verify(backend, torch.arange(min(8, backend.facts.n_ctx)).remainder(backend.facts.n_ids).expand(2, -1))
    except InterpError as error:
        return f", and nnsight cannot run it either: {error}"
    except Exception as error:  # libraries raise anything on a model that they do not know
        return f", and nnsight cannot run it either: {(str(error).strip().splitlines() or [type(error).__name__])[0]}."
    return "; use backend='nnsight'."
