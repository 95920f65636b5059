"""Session settings change for a while and come back, also after an error."""

import pytest

from interp import UnknownName, options


def test_local_change_comes_back_after_an_error():
    before = options.memory
    inside = []

    def fail():
        inside.append(options.memory)
        raise RuntimeError

    with pytest.raises(RuntimeError), options.local(memory=5):
        fail()
    assert inside == [5]
    assert options.memory == before


def test_unknown_setting_is_refused():
    with pytest.raises(UnknownName, match="unknown option 'memroy'; did you mean 'memory'"), options.local(memroy=5):
        pass
