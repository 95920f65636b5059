"""Session settings change for a while and come back, also after an error."""

import sys
from concurrent.futures import ThreadPoolExecutor

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


def test_what_is_reserved_comes_back_however_reservations_end():
    before = options.available
    first, second = options.reserving(1 << 20), options.reserving(1 << 21)
    first.__enter__()
    second.__enter__()
    assert options.available == before - (1 << 20) - (1 << 21)
    first.__exit__(None, None, None)
    assert options.available == before - (1 << 21)
    second.__exit__(None, None, None)
    assert options.available == before == options.memory


def test_an_eighth_is_left_at_least():
    with options.local(memory=800), options.reserving(799):
        assert options.available == 100


def test_a_reservation_belongs_to_its_thread():
    before = options.available
    with options.reserving(1 << 20), ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: options.available).result() == before


@pytest.mark.parametrize(("terminal", "seconds"), [(True, 0.1), (False, 10.0)])
def test_a_bar_writes_few_lines_into_a_log(monkeypatch, terminal, seconds):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert options.bar_seconds == seconds
