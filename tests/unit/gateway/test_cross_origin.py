"""Which requests are those of web pages of other places."""

import socket

import pytest

from ownward.gateway.cross_origin import is_foreign

SCOPE = {"server": ("127.0.0.1", 8484)}


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, False),
        (b"http://localhost:3000", False),
        (b"http://127.0.0.1:8484", False),
        (b"http://[::1]:8484", False),
        (b"https://evil.example", True),
        (b"http://127.5.0.1", False),
        (b"http://localhost.evil.example", True),
        (b"http://127.evil.example", True),
        (b"http://127.0.0.1.evil.example:8484", True),
        (b"null", True),
    ],
)
def test_pages_of_other_places_are_told_by_their_origin(origin, expected):
    headers = {} if origin is None else {b"origin": origin}
    assert is_foreign(SCOPE, headers) is expected


@pytest.mark.parametrize(
    ("host", "agent", "expected"),
    [
        (b"127.0.0.1:8484", b"Mozilla/5.0", False),
        (b"[::1]:8484", b"Mozilla/5.0", False),
        (b"localhost", b"Mozilla/5.0", False),
        (b"evil.example:8484", b"Mozilla/5.0", True),
        (b"[evil", b"Mozilla/5.0", True),
        (b"127.0.0.1.evil.example:8484", b"Mozilla/5.0", True),
        (b"host.docker.internal:8484", b"Prometheus/3.1", False),
        (b"host.docker.internal:8484", b"", False),
        (b"host.docker.internal:8484", b"Mozilla/5.0", True),
        (b"evil.example:8484", b"Prometheus/3.1", True),
        (b"evil.example:8484", b"", True),
        (b"127.0.0.1.evil.example:8484", b"", True),
        (b"evilinternal.example:8484", b"", True),
        (b"ai.corp.example", b"curl/8", False),
        (b"ai.corp.example:443", b"curl/8", False),
        (b"ai.corp.example:8484x", b"curl/8", True),
        (b"internal.", b"", False),
        (b"[evil:8484", b"", True),
        (b"", b"", False),
        (b"gateway:8484", b"curl/8", False),
        (b"localhost.:8484", b"curl/8", False),
        (b"192.168.1.20:8484", b"curl/8", False),
        (b"[fd00::1]:8484", b"curl/8", False),
        (b"box.local:8484", b"curl/8", False),
        (b"ownward.ai.svc.cluster.local", b"curl/8", False),
    ],
)
def test_a_page_whose_own_name_was_made_to_lead_here_is_told_by_its_host(host, agent, expected):
    assert is_foreign(SCOPE, {b"host": host, b"user-agent": agent}) is expected


def test_a_program_may_call_this_machine_by_its_own_name(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "Ai.corp.example")
    assert not is_foreign(SCOPE, {b"host": b"ai.corp.example:8484", b"user-agent": b"curl/8"})
    assert is_foreign(SCOPE, {b"host": b"ai.corp.example.evil.example:8484", b"user-agent": b"curl/8"})


@pytest.mark.parametrize(("port", "host"), [(80, b"evil.example"), (80, b"evil.example:80"), (None, b"evil.example:1")])
def test_a_page_has_the_port_that_it_calls_and_where_ours_is_not_known_any_may_be_it(port, host):
    scope = {"server": None if port is None else ("127.0.0.1", port)}
    assert is_foreign(scope, {b"host": host})
