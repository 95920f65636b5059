"""Let one thread at a time use a model."""

from __future__ import annotations

import threading
from weakref import WeakKeyDictionary

from torch import nn

_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_making = threading.Lock()


def lock_of(model: nn.Module) -> threading.RLock:
    """Return the lock of a model, the same for all subjects that run it; a thread that holds it can take it again."""
    with _making:
        if model not in _locks:
            _locks[model] = threading.RLock()
        return _locks[model]
