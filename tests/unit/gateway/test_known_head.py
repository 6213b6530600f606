"""The head that a connection has sent before: what is read by it, and what only the parser may read."""

from __future__ import annotations

from typing import Any

import pytest

from ownward.gateway.asgi import REMEMBERED
from ownward.gateway.listening.known_head import KnownHead

HEAD = b"POST /v1/x?y=z HTTP/1.1\r\nhost: h\r\nContent-Length: %d\r\nx-one: 1\r\n\r\n"


def request_of(body: bytes, head: bytes = HEAD) -> bytes:
    return head % len(body) + body


def scope_of(body: bytes, *more: tuple[bytes, bytes]) -> dict[str, Any]:
    headers = [(b"host", b"h"), (b"content-length", b"%d" % len(body)), (b"x-one", b"1"), *more]
    return {"type": "http", "method": "POST", "path": "/v1/x", "query_string": b"y=z", "headers": headers}


def knowing(body: bytes = b"12345", *, most_bytes: int = 1000) -> KnownHead:
    known = KnownHead()
    for _ in range(2):
        known.learn(request_of(body), scope_of(body), most_bytes=most_bytes)
    return known


def read(known: KnownHead, request: bytes) -> tuple[dict[str, Any], bytes] | None:
    """Return what is read, without what is remembered beside it."""
    found = known.read(request)
    if found is not None:
        del found[0][REMEMBERED]
    return found


@pytest.mark.parametrize("body", [b"12345", b"1", b"", b"x" * 12345, b"POST / HTTP/1.1\r\n\r\n"])
def test_a_body_of_any_length_is_read_behind_a_head_that_came_before(body: bytes) -> None:
    assert read(knowing(), request_of(body)) == (scope_of(body), body)


def test_a_head_is_learned_when_it_comes_again() -> None:
    known = KnownHead()
    assert known.read(request_of(b"12345")) is None
    known.learn(request_of(b"12345"), scope_of(b"12345"), most_bytes=1000)
    assert known.read(request_of(b"12345")) is None


@pytest.mark.parametrize("at", range(len(HEAD % 5)))
def test_a_head_that_differs_in_any_byte_but_those_of_its_length_is_the_parsers(at: int) -> None:
    known, request = knowing(), request_of(b"12345")
    for other in b"\r\n :x0\x00\xff":
        if request[at] != other:
            assert known.read(request[:at] + bytes([other]) + request[at + 1 :]) is None
    assert known.read(request[:at] + request[at + 1 :]) is None
    assert known.read(request[:at]) is None


@pytest.mark.parametrize(
    "length", [b"", b"+5", b"-5", b" 5", b"5 ", b"0x5", b"5, 5", b"5.0", b"\xd9\xa5", b"5\n", b"1e1"]
)
def test_a_length_that_is_not_digits_alone_is_the_parsers(length: bytes) -> None:
    request = request_of(b"12345").replace(b"Content-Length: 5", b"Content-Length: " + length)
    assert knowing().read(request) is None


@pytest.mark.parametrize("data", [request_of(b"12345")[:-1], request_of(b"12345") + b"P", request_of(b"12345") * 2])
def test_what_is_not_exactly_one_request_is_the_parsers(data: bytes) -> None:
    assert knowing().read(data) is None


@pytest.mark.parametrize(
    ("request_", "scope"),
    [
        (
            request_of(b"12345", HEAD.replace(b"x-one: 1", b"expect: 100-continue")),
            scope_of(b"12345", (b"expect", b"")),
        ),
        (request_of(b"12345", HEAD.replace(b"x-one: 1", b"upgrade: h2c")), scope_of(b"12345", (b"upgrade", b"h2c"))),
        (request_of(b"12345", HEAD.replace(b"Content-Length: %d", b"x: %d")), scope_of(b"12345")),
        (request_of(b"12345") + b"6", scope_of(b"12345")),
        (request_of(b"12345"), scope_of(b"12345", (b"content-length", b"5"))),
    ],
)
def test_a_head_that_asks_for_more_or_states_no_one_length_is_not_learned(
    request_: bytes, scope: dict[str, Any]
) -> None:
    known = KnownHead()
    for _ in range(4):
        known.learn(request_, scope, most_bytes=1000)
    assert known.read(request_) is None


def test_a_head_near_the_limit_is_not_learned() -> None:
    head_bytes = len(HEAD % 5)
    assert knowing(most_bytes=head_bytes + 9).read(request_of(b"1")) is not None
    assert knowing(most_bytes=head_bytes + 8).read(request_of(b"1")) is None


def test_a_client_whose_heads_all_differ_is_given_up() -> None:
    known = KnownHead()
    for number in range(20):
        other = request_of(b"12345").replace(b"x-one: 1", b"x-one: %d" % number)
        known.learn(other, scope_of(b"12345"), most_bytes=1000)
    known.learn(request_of(b"12345"), scope_of(b"12345"), most_bytes=1000)
    assert known.read(request_of(b"12345")) is None


def test_a_scope_that_is_handed_out_is_nobody_elses() -> None:
    known = knowing()
    first = known.read(request_of(b"1"))
    assert first is not None
    first[0]["headers"].clear()
    first[0].clear()
    assert read(known, request_of(b"12345")) == (scope_of(b"12345"), b"12345")


def test_what_one_request_remembers_the_next_with_its_head_has_and_that_with_another_has_not() -> None:
    known, other = knowing(), HEAD.replace(b"x-one: 1", b"x-one: 2")
    first = known.read(request_of(b"1"))
    assert first is not None
    first[0][REMEMBERED]["found"] = "in the first"
    second = known.read(request_of(b"22222222"))
    assert second is not None
    assert second[0][REMEMBERED] == {"found": "in the first"}
    for _ in range(2):
        known.learn(request_of(b"1", other), scope_of(b"1"), most_bytes=1000)
    third = known.read(request_of(b"1", other))
    assert third is not None
    assert third[0][REMEMBERED] == {}
