"""File descriptors: as many as the system really gives."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from ownward.core import UsageError
from ownward.gateway.listening.descriptors import (
    fitting_connections,
    how_to_raise,
    raise_descriptor_limit,
    require_descriptors,
)

resource = pytest.importorskip("resource", reason="Windows has no such limit")

Raise = Callable[..., int]


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> Raise:
    """Return what the limit is after it was raised on a system that states `hard` and takes up to `most`."""

    def run(*, soft: int, hard: int, most: int) -> int:
        limits = [soft, hard]

        def take(_which: int, wanted: tuple[int, int]) -> None:
            if wanted[0] > most:
                message = "current limit exceeds maximum limit"
                raise ValueError(message)
            limits[:] = wanted

        monkeypatch.setattr(resource, "getrlimit", lambda _which: tuple(limits))
        monkeypatch.setattr(resource, "setrlimit", take)
        raise_descriptor_limit()
        assert limits[1] == hard
        return limits[0]

    return run


@pytest.mark.parametrize(("most", "then"), [(10_240, 8_192), (61_440, 32_768), (245_760, 131_072), (256, 256)])
def test_where_a_limit_is_stated_as_none_and_is_one_what_the_system_takes_is_had(raised, most, then):
    """Source: setrlimit(2) of macOS, whose shells start with 256 of "unlimited"."""
    assert raised(soft=256, hard=resource.RLIM_INFINITY, most=most) == then


@pytest.mark.parametrize(
    ("soft", "hard", "then"),
    [(1_024, 4_096, 4_096), (4_096, 4_096, 4_096), (1_024, 1 << 30, 1 << 20), (1 << 22, 1 << 30, 1 << 22)],
)
def test_a_limit_is_raised_to_what_the_user_may_have_within_reason_and_never_lowered(raised, soft, hard, then):
    assert raised(soft=soft, hard=hard, most=1 << 40) == then


def test_no_limit_stays_none(raised):
    none = resource.RLIM_INFINITY
    assert raised(soft=none, hard=none, most=1 << 40) == none


@pytest.mark.parametrize(("workers", "least"), [(1, 32), (2, 36), (4, 48), (8, 72)])
def test_a_start_with_too_few_is_refused_with_how_many_it_takes(monkeypatch, workers, least):
    for have in (least - 1, least):
        monkeypatch.setattr(resource, "getrlimit", lambda _which, have=have: (have, have))
        if have < least:
            with pytest.raises(UsageError, match=f"may have {have} file descriptors, .* takes {least}.*ulimit -n 290"):
                require_descriptors(workers=workers, connections=100)
        else:
            require_descriptors(workers=workers, connections=100)


@pytest.mark.parametrize("connections", [1, 2, 3, 100, 12_000])
def test_with_as_many_as_is_advised_all_connections_fit_and_with_one_fewer_they_do_not(connections):
    advised = int(re.search(r"ulimit -n (\d+)", how_to_raise(connections))[1])
    assert fitting_connections(connections, descriptors=advised)[0] == connections
    if connections > 4:  # which fit always
        assert fitting_connections(connections, descriptors=advised - 1)[0] < connections
